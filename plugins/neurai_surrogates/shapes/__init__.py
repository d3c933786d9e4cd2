"""The mathematics of each surrogate, one file each; the specs are in ``specs``, in files of the same name."""
