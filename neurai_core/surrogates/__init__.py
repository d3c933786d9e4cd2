"""Surrogates: a step forward and a smooth derivative backward, as a class to write one and two ways to make one."""

from __future__ import annotations

from neurai_core.surrogates.makers import custom, normalized
from neurai_core.surrogates.surrogate import Facts, Number, Surrogate

__all__ = ["Facts", "Number", "Surrogate", "custom", "normalized"]
