"""The settings and spec of each surrogate, one file each, free of JAX; the mathematics is in ``shapes``."""
