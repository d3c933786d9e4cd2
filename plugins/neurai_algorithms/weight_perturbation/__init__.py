"""Weight perturbation."""
