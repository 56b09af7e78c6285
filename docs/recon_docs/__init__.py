"""What writes the pages of the documentation that are not written by hand, and checks that they hold."""
