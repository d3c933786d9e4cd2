"""The surrogate `squarewavefourier`."""
