"""The surrogate `sigmoid`."""
