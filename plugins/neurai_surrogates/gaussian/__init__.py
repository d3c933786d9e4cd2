"""The surrogate `gaussian`."""
