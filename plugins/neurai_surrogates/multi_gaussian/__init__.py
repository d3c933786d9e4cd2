"""The surrogate `multigaussian`."""
