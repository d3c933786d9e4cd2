"""The surrogate `s2nn`."""
