"""Training: data and its order, the training loop, checkpoints. Import what is needed from its own module."""
