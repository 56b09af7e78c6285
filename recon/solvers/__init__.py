"""Optimisation algorithms, one a file."""
