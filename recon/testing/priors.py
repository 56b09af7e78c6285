"""Conformance checks for priors: functionals, denoisers and generators, measured on an instance.

In a test::

    from recon.testing import check_prior

    def test_my_prior_conforms():
        check_prior(Huber(weight=0.1, width=0.5))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from recon.priors import Denoiser, Functional, Generator, Prior
from recon.testing.measuring import Checks
from recon.testing.running import require_all


def check_prior(
    prior: Prior,
    *,
    shape: Sequence[int] | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> list[str]:
    """Run every check on a prior and return their names; of a sum, every member is checked.

    Args:
        prior: the instance; a weight of ``"auto"`` counts as 1.
        shape: image shape to try it on; by default the first of a few small ones that it takes.
        expected_failures: name of a check to the reason why it is known to fail. Such a check must fail.

    Raises:
        AssertionError: naming every check that failed, or that passed although it was expected to fail.
        ValueError: an expected failure names no check.
    """
    return require_all(type(prior).__name__, prior_checks(prior, shape=shape), expected_failures)


def prior_checks(prior: Prior, *, shape: Sequence[int] | None = None) -> Checks:
    """The checks of a prior by name; `shape` as in `check_prior`."""
    members = prior.members
    if members != [prior]:
        return {
            f"{type(member).__name__}[{place}].{name}": check
            for place, member in enumerate(members)
            for name, check in prior_checks(member, shape=shape).items()
        }
    if isinstance(prior, Functional):
        from recon.testing.functionals import functional_checks

        return functional_checks(prior, shape)
    if isinstance(prior, Denoiser):
        from recon.testing.denoisers import denoiser_checks

        return denoiser_checks(prior, shape)
    if isinstance(prior, Generator):
        from recon.testing.generators import generator_checks

        return generator_checks(prior)

    def check_class() -> None:
        raise AssertionError(
            f"{type(prior).__name__} is a bare Prior: derive from recon.Functional (it has a proximal map), "
            "recon.Denoiser (plug-and-play) or recon.Generator (deep image prior)"
        )

    return {"class": check_class}
