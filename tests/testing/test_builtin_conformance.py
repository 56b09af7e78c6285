"""Every other built-in item keeps the promises of its kind; operators and priors have tests of their own."""

from recon.testing import conformance_test

test_plugins = conformance_test("recon", kind="plugin")
test_solvers = conformance_test("recon", kind="solver")
test_metrics = conformance_test("recon", kind="metric")
test_noise = conformance_test("recon", kind="noise")
test_readers = conformance_test("recon", kind="reader")
test_datasets = conformance_test("recon", kind="dataset")
