"""The surrogate `stochasticescape`."""
