"""What a run starts from, computed by one compiled program instead of dozens of tiny ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from neurai_core.arrays import PyTree
from neurai_core.programs import Equation, Program, primitives_of, read_program

MOST = 250  # operations of a program; a deep network has more, but repeats layers: each is then compiled once, alone


def at_once(function: Callable[..., PyTree], *arguments: PyTree) -> PyTree:
    """``function(*arguments)``, as one program that gives the bits of its operations run one after the other.

    Args:
        function: any function that JAX can trace.
        *arguments: trees of arrays.

    Example:
        >>> from neurai_core.models import mlp
        >>> params = at_once(lambda key: mlp((4, 3, 2)).init(key, (4,))[0], jax.random.key(0))
        >>> [layer["w"].shape for layer in params]
        [(4, 3), (3, 2)]
    """
    program = read_program(function, *arguments, inline=frozenset())
    leaves = jax.tree.leaves(arguments)

    def start(leaves: list[Any]) -> list[Any]:
        return program.run(leaves, _apart)

    if _size(program) <= MOST:
        results = jax.jit(start)(leaves)
    else:
        results = program.run(leaves, lambda equation, operands: equation(*operands))
    return jax.tree.unflatten(program.structure, results)


def key_of(seed: int, use: int) -> jax.Array:
    """The PRNG key of a run for one use: ``fold_in(key(seed), use)``.

    >>> bool(key_of(3, 1) == jax.random.fold_in(jax.random.key(3), 1))
    True
    """
    key: jax.Array = jax.jit(folded, static_argnums=1)(np.int64(seed), use)
    return key


def folded(seed: Any, use: int) -> jax.Array:
    """`key_of`, inside a program."""
    return jax.random.fold_in(jax.random.key(seed), use)


def _size(program: Program) -> int:
    """The number of its operations, including those inside others."""
    inside = (one for equation in program.equations for one in equation.inside)
    return len(program.equations) + sum(len([*primitives_of(one)]) for one in inside)


def _apart(equation: Equation, operands: Sequence[Any]) -> list[Any]:
    """The results of an operation, behind a barrier: XLA would multiply the constants of neighbors together."""
    return [one if _is_key(one) else jax.lax.optimization_barrier(one) for one in equation(*operands)]


def _is_key(array: Any) -> bool:
    return bool(jax.dtypes.issubdtype(array.dtype, jax.dtypes.extended))
