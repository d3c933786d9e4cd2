"""Spike-timing-dependent plasticity."""
