"""The step forward and the surrogate derivative backward, as JAX sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from neurai_core.errors import NeurAIError, UsageError
from neurai_core.registry import REGISTRY

if TYPE_CHECKING:
    from neurai_core.surrogates.surrogate import Surrogate


def fire(surrogate: Surrogate, u: jax.Array, key: jax.Array | None) -> jax.Array:
    """The forward pass of a surrogate, with its derivatives backward with respect to u and its parameters."""
    frozen, arrays = _split(surrogate)
    return _fire(frozen, arrays, key, u)


class _Frozen(NamedTuple):
    """A surrogate without its arrays: static, and hashable where its other settings are."""

    treedef: Any
    constants: tuple[float | None, ...]

    def surrogate(self, arrays: tuple[Any, ...]) -> Any:
        left: Iterator[Any] = iter(arrays)
        return self.treedef.unflatten([next(left) if one is None else one for one in self.constants])


def _split(surrogate: Surrogate) -> tuple[_Frozen, tuple[jax.Array, ...]]:
    # Python numbers stay constants of the program: they neither promote dtypes nor need to be saved.
    leaves, treedef = jax.tree.flatten(surrogate)
    constants = tuple(leaf if isinstance(leaf, float | int) else None for leaf in leaves)
    arrays = tuple(jnp.asarray(leaf) for leaf, one in zip(leaves, constants, strict=True) if one is None)
    return _Frozen(treedef, constants), arrays


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _fire(frozen: _Frozen, arrays: tuple[jax.Array, ...], key: jax.Array | None, u: jax.Array) -> jax.Array:
    surrogate = frozen.surrogate(arrays)
    return surrogate.step(u, key) if surrogate.spiking else surrogate.primitive(u)


@partial(_fire.defjvp, symbolic_zeros=True)
def _fire_jvp(frozen: _Frozen, primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    (arrays, key, u), (d_arrays, _, du) = primals, tangents
    moving = {i: d for i, d in enumerate(d_arrays) if not isinstance(d, SymbolicZero)}
    tangent = jnp.zeros_like(u)
    if not isinstance(du, SymbolicZero):
        tangent = _input_tangent(frozen, arrays, u, du)
    if moving:
        tangent = tangent + _number_tangent(frozen, arrays, u, moving)
    return _fire(frozen, arrays, key, u), tangent


# Rematerialized: the backward pass keeps u, which the network keeps anyway, instead of a second array g(u).
# The forward pass computes no part of g, so common subexpression elimination cannot undo this.
@partial(jax.checkpoint, prevent_cse=False, static_argnums=(0,))
def _input_tangent(frozen: _Frozen, arrays: tuple[jax.Array, ...], u: jax.Array, du: jax.Array) -> jax.Array:
    g: jax.Array = frozen.surrogate(arrays).derivative(u)
    return g * du


@partial(jax.checkpoint, prevent_cse=False, static_argnums=(0,))
def _number_tangent(
    frozen: _Frozen, arrays: tuple[jax.Array, ...], u: jax.Array, moving: dict[int, jax.Array]
) -> jax.Array:
    """dP/dalpha dalpha for the differentiated parameters."""
    surrogate = frozen.surrogate(arrays)
    if not surrogate.has_primitive:
        raise no_primitive(surrogate, "has no primitive, which the derivative by one of its numbers needs.")
    # At u = inf a factor u times zero would give NaN; a large finite number, whose square fits, gives the limit.
    far = float(jnp.finfo(u.dtype).max) ** (1.0 if u.dtype == jnp.float16 else 0.5)  # type: ignore[no-untyped-call]
    bounded = jnp.where(jnp.isinf(u), jnp.copysign(jnp.asarray(far, u.dtype), u), u)

    def primitive(moved: dict[int, jax.Array]) -> jax.Array:
        now = tuple(moved.get(i, one) for i, one in enumerate(arrays))
        value: jax.Array = frozen.surrogate(now).primitive(bounded)
        return value

    return _tangent(primitive, {i: arrays[i] for i in moving}, moving)


@partial(jax.jit, inline=True)
def heaviside(u: jax.Array) -> jax.Array:
    """1 where ``u >= 0``, else 0; NaN stays NaN."""
    return jnp.where(jnp.isnan(u), u, (u >= 0).astype(u.dtype))


def slope(function: Callable[[jax.Array], jax.Array], u: jax.Array) -> jax.Array:
    """The derivative of an elementwise function, by automatic differentiation."""
    return _tangent(function, u, jnp.ones_like(u))


def _tangent(function: Callable[[Any], jax.Array], at: Any, along: Any) -> jax.Array:
    tangent: jax.Array = jax.jvp(function, (at,), (along,))[1]
    return tangent


def no_primitive(surrogate: Surrogate, what: str) -> UsageError:
    """The error for a surrogate without a primitive, with the names of those that have one."""
    names = ", ".join(_names_with_primitive())
    return UsageError(f"{type(surrogate).__name__} {what}", f"Surrogates with a primitive: {names}.")


def _names_with_primitive() -> Iterator[str]:
    for name in REGISTRY.names("surrogate"):
        with suppress(NeurAIError):
            if getattr(REGISTRY.spec("surrogate", name), "primitive", ""):
                yield name
