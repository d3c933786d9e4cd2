"""The surrogate `onesidedwindow`."""
