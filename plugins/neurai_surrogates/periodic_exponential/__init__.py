"""The surrogate `periodicexponential`."""
