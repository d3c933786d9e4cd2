"""The code of each surrogate, one file each; formulas and facts are in ``specs``, in files of the same name."""
