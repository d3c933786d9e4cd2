"""E-prop."""
