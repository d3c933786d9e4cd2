"""The surrogate `tanh`."""
