"""The surrogate `leakyrelu`."""
