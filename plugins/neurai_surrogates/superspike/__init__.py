"""The surrogate `superspike`."""
