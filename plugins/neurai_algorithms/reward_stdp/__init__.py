"""Reward-modulated spike-timing-dependent plasticity."""
