"""The surrogate `atan`."""
