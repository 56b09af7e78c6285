"""Conformance checks for operators, for third-party plugins as for the built-in ones."""

from recon.testing.operators import OperatorCheck, check_operator, operator_checks

__all__ = ["OperatorCheck", "check_operator", "operator_checks"]
