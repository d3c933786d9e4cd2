"""Forward gradients."""
