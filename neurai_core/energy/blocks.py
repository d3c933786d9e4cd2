"""A network as a chain of blocks, each between two layers of activities."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from neurai_core.arrays import Elementwise, PyTree, Scalar, Shape
from neurai_core.curvature import spectral_norm
from neurai_core.energy.per_example import dot
from neurai_core.layered import (
    Layer,
    Layered,
    MaxPool,
    dense_columns,
    dense_linear,
    flatten_linear,
    fused_groups,
    identity,
)

Activities: TypeAlias = tuple[jax.Array, ...]


@dataclass(frozen=True)
class Block:
    """The layers between two activities.

    Layers without parameters (pooling, flattening) belong to the block of the next layer that has some, or, fused, to
    that of the layer before them.

    Attributes:
        map: ``(params of all layers, below) -> pre-activation``, batch axis first.
        rho: elementwise; ``rho(u)`` is the input of the block above.
        affine: whether ``map`` is affine in both arguments, so that its adjoint needs no linearization.
        name: name and number of its last layer.
        obstacle: the first layer that is neither affine nor a max pooling behind the weights; empty if there is none.
        columns: ``map`` with the batch axis last, if available: faster with few outputs.
        unpooled: for a map with maxima, an affine one that changes at least as much in every direction.
    """

    map: Callable[[PyTree, jax.Array], jax.Array]
    rho: Elementwise
    affine: bool
    name: str
    obstacle: str = ""
    columns: Callable[[PyTree, jax.Array], jax.Array] | None = None
    unpooled: Callable[[PyTree, jax.Array], jax.Array] | None = None


@dataclass(frozen=True)
class Chain:
    """A network bound to one batch of inputs.

    Attributes:
        blocks: from the input to the output.
        x: inputs ``(B, ...)``, the clamped ``u_0``.
        batch_last: whether activities are ``(D, B)``, see `on_columns`; the inputs and the first block's map never are.
    """

    blocks: tuple[Block, ...]
    x: jax.Array
    batch_last: bool = False

    def drive(self, params: PyTree) -> jax.Array:
        """The first block's map of the inputs: constant during a relaxation, so computed once."""
        drive = self.blocks[0].map(params, self.x)
        return drive.T if self.batch_last else drive

    def on_columns(self) -> Chain | None:
        """The chain with the batch axis last, except in the first block; None if a map does not support it."""
        if not all(block.columns for block in self.blocks[1:]):
            return None
        columns = (replace(block, map=block.columns) for block in self.blocks[1:] if block.columns)
        return Chain((self.blocks[0], *columns), self.x, batch_last=True)

    def on_rows(self, u: Activities) -> Chain:
        """The chain with activities ``(B, D)`` in place of images: XLA's loops over few channels are slow on a CPU.

        Args:
            u: activities, for their shapes.
        """
        below = (None, *(v.shape for v in u[:-1]))
        maps = (partial(_on_rows, block.map, shape) for block, shape in zip(self.blocks, below, strict=True))
        return Chain(tuple(map(_with_map, self.blocks, maps)), self.x)

    def dot(self, a: jax.Array, b: jax.Array) -> jax.Array:
        """Inner product of every example, ``(B,)``, without conjugation."""
        return jnp.sum(a * b, axis=0) if self.batch_last else dot(a, b)

    def below(self, u: Activities) -> tuple[jax.Array, ...]:
        """The input of each block: ``(x, rho(u_1), .., rho(u_{L-1}))``."""
        return (self.x, *(block.rho(v) for block, v in zip(self.blocks, u[:-1], strict=False)))

    def feedforward(self, params: PyTree) -> Activities:
        """The pre-activations of one forward pass."""
        u = [self.drive(params)]
        for lower, block in zip(self.blocks, self.blocks[1:], strict=False):
            u.append(block.map(params, lower.rho(u[-1])))
        return tuple(u)

    def norms(self, params: PyTree) -> list[Scalar]:
        """Spectral norms of the maps of all blocks but the first, affine ones; bounds of those with maxima."""
        below = jax.eval_shape(replace(self, x=self.x[:1]).feedforward, params)
        later = zip(self.blocks[1:], below, strict=False)
        maps = ((block.unpooled or block.map, jnp.zeros(v.shape, v.dtype)) for block, v in later)
        return [spectral_norm(partial(affine, params), zeros) for affine, zeros in maps]


def _on_rows(
    map: Callable[[PyTree, jax.Array], jax.Array], shape: Shape | None, params: PyTree, below: jax.Array
) -> jax.Array:
    """A map of images between rows; None if its own input stays as it is."""
    above = map(params, below if shape is None else below.reshape(shape))
    return above.reshape(len(above), -1)


def _with_map(block: Block, map: Callable[[PyTree, jax.Array], jax.Array]) -> Block:
    return replace(block, map=map, columns=None, unpooled=None)


def chain_of(
    model: Layered,
    params: PyTree,
    x: jax.Array,
    *,
    model_state: PyTree = (),
    key: jax.Array | None = None,
    train: bool = False,
    activation: Elementwise | None = None,
    activation_last: bool = False,
    fuse: bool = False,
) -> Chain:
    """Convert a model to a chain of blocks. ``key`` fixes dropout masks for a whole relaxation.

    Args:
        model: the network.
        params: its parameters; only their structure is used.
        x: inputs ``(B, ...)``.
        model_state: collections of stateful layers; they do not change.
        key: PRNG key for stochastic layers.
        train: whether layers are in training mode.
        activation: replaces the blocks' own activations; None keeps them.
        activation_last: whether ``activation`` also replaces the last block's own.
        fuse: whether layers without parameters belong to the block of the layer before them.

    Example:
        >>> from neurai_core.models import cnn
        >>> model = cnn((4,), 10)
        >>> params, _ = model.init(jax.random.key(0), (8, 8, 1))
        >>> [block.name for block in chain_of(model, params, jnp.ones((2, 8, 8, 1))).blocks]
        ['layer 0 (conv(4, 3))', 'layer 3 (dense(10))']
    """
    states = model.layer_states(model_state)
    groups = groups_of(model, params, fuse)
    blocks = []
    for indices in groups:
        last = indices is groups[-1]
        rho = activation if activation is not None and (activation_last or not last) else None
        weights = max((index for index in indices if jax.tree.leaves(params[index])), default=-1)
        blocks.append(_block(model, indices, weights, states, key, train, rho))
    return Chain(tuple(blocks), x)


def groups_of(model: Layered, params: PyTree, fuse: bool = False) -> list[list[int]]:
    """Layer numbers of every block: each ends at a layer with parameters, or at the end.

    Args:
        model: the network.
        params: its parameters; only their structure is used.
        fuse: whether layers without parameters belong to the block of the layer before them.

    >>> from neurai_core.models import cnn
    >>> model = cnn((4,), 10)
    >>> params, _ = model.init(jax.random.key(0), (8, 8, 1))
    >>> groups_of(model, params), groups_of(model, params, fuse=True)
    ([[0], [1, 2, 3]], [[0, 1, 2], [3]])
    """
    if fuse:
        return list(map(list, fused_groups(model, params)))
    groups: list[list[int]] = [[]]
    for index, layer_params in enumerate(params):
        groups[-1].append(index)
        if jax.tree.leaves(layer_params) and index + 1 < len(params):
            groups.append([])
    return groups


def _block(
    model: Layered,
    indices: Sequence[int],
    weights: int,
    states: PyTree,
    key: Any,
    train: bool,
    rho: Elementwise | None,
) -> Block:
    """The block of some layers, the last one with parameters being ``weights``."""
    own_layers = list(indices)
    while len(own_layers) > 1 and model.layers[own_layers[-1]].linear is flatten_linear:
        own_layers.pop()  # an elementwise function may come before or after it
    (*inner, last), flattened = own_layers, len(own_layers) < len(indices)
    split = model.layers[last].linear is not None and model.layers[last].activation is not None

    def mapped(params: PyTree, below: jax.Array, maxima: bool = True) -> jax.Array:
        for index in inner if split else own_layers:
            if _is_max_pool(model.layers[index]) and not maxima:
                below = _repeats(model.layers[index]) ** 0.5 * below
                continue
            layer_key = model.layer_key(key, index)
            below, _ = model.layers[index].apply(params[index], states[index], below, key=layer_key, train=train)
        above = model.layers[last].linear(params[last], below) if split else below  # type: ignore[misc]
        return flatten_linear((), above) if flattened else above

    own = model.layers[last].activation if split else identity
    opaque = [i for i in inner if not _is_linear(model.layers[i])] + ([] if split else [last])
    others = [i for i in opaque if i <= weights or not _is_max_pool(model.layers[i])]
    obstacle = f"layer {others[0]} ({model.layers[others[0]].name})" if others else ""
    name = f"layer {last} ({model.layers[last].name})"
    columns = dense_columns if model.layers[last].linear is dense_linear and len(indices) == 1 else None
    unpooled = partial(mapped, maxima=False) if opaque and not others else None
    return Block(mapped, rho or own or identity, not opaque, name, obstacle, _of_layer(columns, last), unpooled)


def _of_layer(
    function: Callable[[PyTree, jax.Array], jax.Array] | None, index: int
) -> Callable[[PyTree, jax.Array], jax.Array] | None:
    """Turn a function of one layer's parameters into one of all layers' parameters."""
    return None if function is None else lambda params, below: function(params[index], below)


def _is_linear(layer: Layer) -> bool:
    return layer.linear is not None and layer.activation is identity


def _is_max_pool(layer: Layer) -> bool:
    return isinstance(getattr(layer.apply, "function", None), MaxPool)


def _repeats(layer: Layer) -> int:
    """In how many windows of a max pooling a pixel may be the maximum."""
    pool: Any = layer.apply
    pairs = zip(pool.function.window, pool.function.stride, strict=True)
    return math.prod(math.ceil(extent / step) for extent, step in pairs)
