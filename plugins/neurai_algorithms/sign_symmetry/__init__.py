"""Sign-symmetry."""
