"""Online training through time."""
