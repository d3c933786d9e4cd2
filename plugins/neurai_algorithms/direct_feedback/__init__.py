"""Direct feedback alignment."""
