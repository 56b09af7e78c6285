"""Published reconstruction benchmarks that need no download, one a file: `recon benchmark NAME`."""
