"""Pictures of images and convergence, and self-contained HTML reports made of them."""
