"""Ready-made ways to run several nodes at once."""
