"""The mathematics of each surrogate, one file each; the specs are in the package above."""
