"""Soft Hebbian learning: units compete softly and learn the inputs that they win."""
