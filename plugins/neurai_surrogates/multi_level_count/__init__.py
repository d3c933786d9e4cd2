"""The surrogate `multilevelcount`."""
