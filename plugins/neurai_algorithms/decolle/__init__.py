"""Deep continuous local learning."""
