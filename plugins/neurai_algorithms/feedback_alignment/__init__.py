"""Feedback alignment."""
