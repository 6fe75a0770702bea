"""What a node counts of itself, and how Prometheus reads it."""
