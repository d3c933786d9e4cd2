"""The surrogate `triangle`."""
