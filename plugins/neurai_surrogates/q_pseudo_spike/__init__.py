"""The surrogate `qpseudospike`."""
