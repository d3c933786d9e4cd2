"""The surrogate `straightthrough`."""
