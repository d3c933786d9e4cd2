"""The surrogate `erf`."""
