"""PEPITA."""
