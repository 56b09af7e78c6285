"""Sweeps: one parameter after another, or all of them at once, over seeds, and what became of the image."""
