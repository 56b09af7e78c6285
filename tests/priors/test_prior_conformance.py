"""Every registered prior keeps every promise of its class, on each of its examples."""

from recon.testing import conformance_test

test_conformance = conformance_test("recon", kind="prior")
