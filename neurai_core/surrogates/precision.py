"""Arguments of surrogates: u and parameters in the precision of the computation, and a key for random spikes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from neurai_core.errors import DataError, UsageError

if TYPE_CHECKING:
    from neurai_core.surrogates.surrogate import Surrogate


def formula(method: Callable[..., Any]) -> Callable[..., Any]:
    """Let a formula take any real u: 16 bits are computed in 32 and rounded once, without promotion."""

    @wraps(method)
    def evaluate(self: Surrogate, u: ArrayLike, *key: jax.Array | None) -> jax.Array:
        u = real(u, self)
        wide = jnp.promote_types(u.dtype, jnp.float32)
        numbers = jax.tree.map(partial(_in_precision, wide), self)
        return jnp.asarray(method(numbers, u.astype(wide), *key)).astype(u.dtype)

    return evaluate


def _in_precision(wide: Any, number: Any) -> Any:
    """A parameter of the surrogate in the precision of the computation; Python numbers adapt by themselves."""
    return number.astype(wide) if hasattr(number, "astype") else number


def as_array(value: Any) -> Any:
    """Convert an array or a list of numbers to a floating-point JAX array; return anything else unchanged."""
    if isinstance(value, list | tuple) or hasattr(value, "dtype"):
        array = jnp.asarray(value)
        return array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(float)
    return value


def _broadcast(u: jax.Array, surrogate: Surrogate) -> jax.Array:
    """Broadcast u with the parameters that are arrays."""
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(surrogate)]
    try:
        return jnp.broadcast_to(u, jnp.broadcast_shapes(u.shape, *shapes))
    except ValueError:
        numbers = jax.tree_util.tree_leaves_with_path(surrogate)
        shapes_text = ", ".join(f"{jax.tree_util.keystr(at)[1:]} {one.shape}" for at, one in numbers if jnp.ndim(one))
        raise DataError(
            f"{type(surrogate).__name__} got u of shape {u.shape}, which does not broadcast with {shapes_text}.",
            "One number per neuron has the shape of the last axes of u.",
        ) from None


def real(u: ArrayLike, surrogate: Surrogate) -> jax.Array:
    """Convert u to a real floating-point array, broadcast with the parameters of the surrogate."""
    try:
        array = jnp.asarray(u)
    except (TypeError, ValueError):
        kind = type(u).__name__
    else:
        kind = f"{array.dtype} {list(array.shape)}"
        if jnp.issubdtype(array.dtype, jnp.floating):
            return _broadcast(array, surrogate)
    raise DataError(
        f"{type(surrogate).__name__} got u as {kind}, expected real floating-point numbers: membrane "
        "potential minus threshold.",
        "Convert it: jnp.asarray(u, float).",
    )


def key_for(surrogate: Surrogate, key: jax.Array | None) -> jax.Array | None:
    """The key of a surrogate that draws its spikes, which is required; None for any other."""
    if not surrogate.needs_key:
        return None
    if key is None:
        raise UsageError(
            f"{type(surrogate).__name__} draws its spikes and got no key.",
            "Give every call a key of its own: surrogate(u, key=jax.random.key(0)).",
        )
    return key
