"""The surrogate `slayerpdf`."""
