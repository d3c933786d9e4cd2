"""Surrogates: a step forward and a smooth derivative backward; a base class and two functions to make them."""

from __future__ import annotations

from neurai_core.surrogates.makers import custom, normalized
from neurai_core.surrogates.surrogate import Facts, Number, Surrogate

__all__ = ["Facts", "Number", "Surrogate", "custom", "normalized"]
