"""Every registered operator keeps every promise of `LinearOperator`, on each of its examples."""

from recon.testing import conformance_test

test_conformance = conformance_test("recon", kind="operator")
