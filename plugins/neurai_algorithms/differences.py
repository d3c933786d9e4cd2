"""Layers around the feed-forward pass: f(x + d) - f(x) for a change d of the input, and its transpose.

Subtracting two outputs loses the effect of a tiny change in float32. Here it is computed from the change itself:
linear halves act on d alone, activations use exact differences, and chains and residual layers combine those of their
parts. Any other layer, such as max pooling, may define a method
``difference(params, model_state, x, d, *, key, train)`` on its ``apply``; otherwise the plain difference is used.

Changes are kept in float32 at least: with bfloat16 parameters the linear maps run in bfloat16, the rest does not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from neurai_core.arrays import Elementwise, PyTree, Scalar
from neurai_core.changes.activations import difference
from neurai_core.layered import ChainApply, Layer

Map = Callable[[PyTree], PyTree]


class Around(NamedTuple):
    """A layer around one input.

    Attributes:
        output: f(x).
        model_state: the layer's collections, updated once by this pass.
        change: ``d -> f(x + d) - f(x)``, in float32 at least.
        rest: ``zero -> (change, pull)`` at d = 0, without applying linear maps to zeros; ``pull`` is the transpose of
            the derivative of ``change``.
        bounded: whether the parameters alone bound its derivative; a normalization has no such bound.
    """

    output: PyTree
    model_state: PyTree
    change: Map
    rest: Callable[[Scalar], tuple[PyTree, Map]]
    bounded: bool = True

    def pull(self, d: PyTree) -> tuple[PyTree, Map]:
        """The change for d, and the transpose of its derivative there."""
        change, vjp = jax.vjp(self.change, d)
        return change, lambda e: vjp(e)[0]


def around(
    layer: Layer, params: PyTree, model_state: PyTree, x: PyTree, *, key: Any = None, remat: bool = False
) -> Around:
    """Expand a layer around one input, in training mode, with random draws and collections held fixed.

    Args:
        layer: the layer.
        params: its parameters.
        model_state: its collections.
        x: the input, batch axis first.
        key: PRNG key of this layer for this batch.
        remat: recompute the layer's intermediate values for the transpose instead of storing them.

    Example:
        >>> from neurai_core.layered import dense
        >>> params = {"w": jnp.ones((1, 1)), "b": jnp.ones(1)}
        >>> here = around(dense(1, "tanh"), params, (), jnp.zeros((1, 1)))
        >>> float(here.change(jnp.full((1, 1), 1e-12))[0, 0]) > 0
        True
    """
    if isinstance(layer.apply, ChainApply) and not hasattr(layer.apply, "difference"):
        seen = _chain(layer.apply, params, model_state, x, key)
    elif layer.linear is not None and layer.activation is not None:
        seen = _split(layer.linear, layer.activation, params, model_state, x)
    else:
        seen = _whole(layer, params, model_state, x, key)
    return seen._replace(change=jax.checkpoint(seen.change)) if remat else seen


def state_dtype(dtype: Any) -> Any:
    """The dtype of activities and errors: float32 for narrower floats.

    >>> str(state_dtype(jnp.bfloat16))
    'float32'
    """
    return jnp.promote_types(dtype, jnp.float32)


def widened(tree: PyTree) -> PyTree:
    """Every float leaf in the dtype of activities and errors."""
    return jax.tree.map(lambda leaf: leaf.astype(state_dtype(leaf.dtype)), tree)


def like(tree: PyTree, other: PyTree) -> PyTree:
    """A tree in the dtypes of another."""
    return jax.tree.map(lambda a, b: a.astype(b.dtype), tree, other)


def add(a: PyTree, b: PyTree) -> PyTree:
    """Sum of two trees."""
    return jax.tree.map(jnp.add, a, b)


def subtract(a: PyTree, b: PyTree) -> PyTree:
    """Difference of two trees."""
    return jax.tree.map(jnp.subtract, a, b)


def hidden_zero(tree: PyTree) -> Scalar:
    """A zero that the compiler cannot see, made from any value; nan if that is nan.

    With a visible zero, the compiler would fuse the surrounding operations differently, which changes the last bits.

    >>> float(hidden_zero(jnp.ones(3)))
    0.0
    """
    value = jax.tree.leaves(widened(tree))[0].ravel()[0]
    return jnp.where(value == value, jnp.zeros_like(value), value)


def zeros(tree: PyTree, zero: Any = 0) -> PyTree:
    """Zeros in the shapes of a tree and the dtype of changes."""
    return jax.tree.map(lambda leaf: jnp.full(leaf.shape, zero, state_dtype(leaf.dtype)), tree)


def _split(
    linear: Callable[..., Any], activation: Elementwise, params: PyTree, model_state: PyTree, x: PyTree
) -> Around:
    """Linear, then elementwise: the linear half acts on the change alone."""
    a = linear(params, x)
    bend = difference(activation, widened(a))

    def tangent(d: PyTree) -> PyTree:
        own = getattr(linear, "along", None)
        d = like(d, x)
        return widened(own(params, d) if own else jax.jvp(lambda x: linear(params, x), (x,), (d,))[1])

    # At rest only the activation is evaluated: the linear half of zeros is zero, and its transpose needs no values.
    def rest(zero: Scalar) -> tuple[PyTree, Map]:
        change, pull = jax.vjp(bend, zeros(a, zero))
        return change, lambda e: jax.vjp(tangent, zeros(x))[1](pull(e)[0])[0]

    return Around(activation(a), model_state, lambda d: bend(tangent(d)), rest)


def _chain(chain: ChainApply, params: PyTree, model_state: PyTree, x: PyTree, key: Any) -> Around:
    """Several layers as one: the change passes from part to part, and beside them for a residual layer."""
    parts: list[Around] = []
    below = x
    for index, (layer, own, state) in enumerate(
        zip(chain.model.layers, params, chain.model.layer_states(model_state), strict=True)
    ):
        part_key = chain.model.layer_key(key, index)
        parts.append(around(layer, own, state, below, key=part_key))
        below = parts[-1].output
    updated = model_state if model_state == () else tuple(part.model_state for part in parts)

    def change(d: PyTree) -> PyTree:
        moved = d
        for part in parts:
            moved = part.change(moved)
        return add(d, moved) if chain.skip else moved

    def rest(zero: Scalar) -> tuple[PyTree, Map]:
        changes, pulls = zip(*(part.rest(zero) for part in parts), strict=True)

        def pull(e: PyTree) -> PyTree:
            back = e
            for one in reversed(pulls):
                back = one(back)
            return add(e, back) if chain.skip else back

        return changes[-1], pull

    return Around(add(x, below) if chain.skip else below, updated, change, rest, all(part.bounded for part in parts))


def _whole(layer: Layer, params: PyTree, model_state: PyTree, x: PyTree, key: Any) -> Around:
    """Any other layer: its own difference, or the plain one."""
    output, updated = layer.apply(params, model_state, x, key=key, train=True)
    own = getattr(layer.apply, "difference", None)

    def change(d: PyTree) -> PyTree:
        if own is not None:
            return widened(own(params, model_state, x, d, key=key, train=True))
        moved, _ = layer.apply(params, model_state, like(add(x, d), x), key=key, train=True)
        return subtract(widened(moved), widened(output))

    def rest(zero: Scalar) -> tuple[PyTree, Map]:
        none, vjp = jax.vjp(change, zeros(x, zero))
        return none, lambda e: vjp(e)[0]

    return Around(output, updated, change, rest, own is not None or not jax.tree.leaves(params))
