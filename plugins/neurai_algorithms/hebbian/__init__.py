"""Hebbian learning of principal components: the rules of Oja and of Sanger."""
