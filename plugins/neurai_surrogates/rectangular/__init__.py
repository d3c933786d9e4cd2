"""The surrogate `rectangular`."""
