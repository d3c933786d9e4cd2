"""The surrogate `softsign`."""
