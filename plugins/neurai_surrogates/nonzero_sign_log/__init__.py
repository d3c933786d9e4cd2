"""The surrogate `nonzerosignlog`."""
