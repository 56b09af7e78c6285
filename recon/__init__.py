"""Computational imaging in PyTorch: any forward operator, any prior, one `solve`."""
