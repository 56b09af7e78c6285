"""End-to-end training: the fit loop, what it is shown, what it minimises, and the files it writes."""
