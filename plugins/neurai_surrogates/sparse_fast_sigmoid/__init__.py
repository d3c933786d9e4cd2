"""The surrogate `sparsefastsigmoid`."""
