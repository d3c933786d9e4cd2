"""Node perturbation."""
