"""Conformance checks for linear operators: every promise of `LinearOperator`, measured on an instance.

Give a small instance (a few dozen pixels): some checks write the operator as a matrix. In a test::

    from recon.testing import check_operator

    def test_my_operator_conforms():
        check_operator(MotionBlur(kernel, shape=(8, 9)))

Random input is seeded; nothing but the operator's own state is touched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from recon.linear import LinearOperator
from recon.testing import operator_calculus, operator_contract, operator_matrices
from recon.testing.dense import Differences, require_small
from recon.testing.measuring import Check, Checks, bound
from recon.testing.running import require_all

CHECKS: tuple[Check, ...] = (
    operator_contract.check_shapes,
    operator_contract.check_linearity,
    operator_contract.check_double_precision,
    operator_matrices.check_dense_adjoint,
    operator_matrices.check_adjoint,
    operator_calculus.check_gradients,
    operator_calculus.check_learnable_parameters,
    operator_calculus.check_vmap,
    operator_contract.check_batch_equals_loop,
    operator_contract.check_empty_batch,
    operator_contract.check_dtypes,
    operator_contract.check_device,
    operator_contract.check_input_unchanged,
    operator_contract.check_noncontiguous,
    operator_contract.check_deterministic,
    operator_contract.check_pickle_and_state_dict,
    operator_matrices.check_norm_bound,
    operator_matrices.check_gram,
    operator_matrices.check_pinv,
    operator_matrices.check_solve_gram,
    operator_matrices.check_preconditioner,
)


def check_operator(
    operator: LinearOperator,
    *,
    terms: Sequence[LinearOperator] | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> list[str]:
    """Run every check on an operator and return their names.

    Args:
        operator: a small instance.
        terms: linear maps K on the same images with which `solve_gram` and `preconditioner` are tried beside
            the identity; by default forward differences, around the image and not.
        expected_failures: name of a check to the reason why it is known to fail. Such a check must fail.

    Raises:
        AssertionError: naming every check that failed, or that passed although it was expected to fail.
        ValueError: if an expected failure names no check, or the instance is too large for a matrix.
    """
    require_small(operator)
    return require_all(type(operator).__name__, operator_checks(operator, terms=terms), expected_failures)


def operator_checks(operator: LinearOperator, *, terms: Sequence[LinearOperator] | None = None) -> Checks:
    """The checks of an operator by name; `terms` as in `check_operator`."""
    if terms is None:
        shape = operator.domain_shape
        terms = [
            Differences(shape).to(operator.device),
            Differences(shape, periodic=True).to(operator.device),
        ]
    return bound(CHECKS, operator, terms=terms)
