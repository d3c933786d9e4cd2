"""The surrogate `piecewiseleakyrelu`."""
