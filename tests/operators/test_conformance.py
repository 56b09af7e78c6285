"""Every registered operator keeps every promise of `LinearOperator`, on each of its examples."""

import pytest
from recon_operators import Gradient

from recon import registry
from recon.testing import check_operator

BUILT_IN = [
    found for found in registry.items("operator") if found.entry.factory.startswith(("recon.", "recon_"))
]
CASES = [
    pytest.param(found, example, id=f"{found.entry.name}[{index}]")
    for found in BUILT_IN
    for index, example in enumerate(found.entry.examples)
]


@pytest.mark.parametrize(("found", "example"), CASES)
def test_the_operator_conforms(found, example):
    operator = found.make(example.kwargs)
    terms = [Gradient(operator.domain_shape, boundary) for boundary in ("neumann", "periodic")]
    check_operator(operator, terms=terms, expected_failures=example.expected_failures)


@pytest.mark.parametrize("found", BUILT_IN, ids=lambda found: found.entry.name)
def test_the_entry_says_what_the_operator_is(found):
    for example in found.entry.examples:
        operator = found.make(example.kwargs)
        assert operator.domain == found.entry.domain
        assert operator.nonnegative or not found.entry.nonnegative


def test_all_the_operators_of_the_package_are_registered():
    names = {found.entry.name for found in BUILT_IN}
    assert names >= {"mri_cartesian", "mask", "downsample", "blur", "identity", "gradient"}
