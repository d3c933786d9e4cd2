"""The surrogate `polynomial`."""
