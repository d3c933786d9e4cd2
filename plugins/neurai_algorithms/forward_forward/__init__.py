"""Forward-Forward."""
