"""The surrogate `singleexponential`."""
