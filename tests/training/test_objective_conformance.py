"""Every registered objective keeps every promise of its kind, on each of its examples."""

from recon.testing import conformance_test

test_conformance = conformance_test("recon", kind="objective")
