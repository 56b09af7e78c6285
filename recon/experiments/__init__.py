"""Experiments of publications, run here: resumable grids of methods, beside the published tables."""
