"""The surrogate `circ`."""
