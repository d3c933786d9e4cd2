"""The table of rules for operations.

Rules that rearrange entries support every type, sums and products also complex numbers, the others real floats. An
operation without a rule, or on another type, gets the plain difference: sorting, decompositions, loops and branches
that depend on the data, rounding, and functions of two numbers that are rare in networks.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from neurai_core.changes.choices import CHOICES
from neurai_core.changes.elementwise import ELEMENTWISE
from neurai_core.changes.linear import ARRANGE, SUM
from neurai_core.changes.products import MATRIX, POWERS, PRODUCTS
from neurai_core.changes.reductions import REDUCTIONS
from neurai_core.changes.rule import Rule, plain
from neurai_core.programs import Equation, Operand

_ANY = {**ARRANGE, "select_n": CHOICES["select_n"]}
_NUMBERS = {**SUM, **MATRIX, **PRODUCTS}
_FLOATS = {**POWERS, **ELEMENTWISE, **CHOICES, **REDUCTIONS}


def rule_of(equation: Equation) -> Rule:
    """The rule for the change of an operation."""
    name = equation.primitive.name
    if name in _ANY:
        return _ANY[name]
    if name in _NUMBERS and jnp.issubdtype(_dtype(equation.results[0]), jnp.inexact):
        return _NUMBERS[name]
    if name in _FLOATS and jnp.issubdtype(_dtype(equation.operands[0]), jnp.floating):
        return _FLOATS[name]
    return plain


def _dtype(operand: Operand) -> Any:
    aval: Any = operand.aval
    return aval.dtype
