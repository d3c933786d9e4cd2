"""Bidirectional predictive coding."""
