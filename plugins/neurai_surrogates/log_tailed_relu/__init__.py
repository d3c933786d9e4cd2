"""The surrogate `logtailedrelu`."""
