"""Self-supervised search for semantic directions of a frozen model."""
