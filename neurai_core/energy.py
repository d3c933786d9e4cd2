"""Energies of activities, on which relaxing rules descend, and their couplings from a chain of layers.

A network is a `Chain` of `Block`s: block l maps the layer below to a pre-activation, ``map_l(params, .)``, and ends in
an elementwise ``rho``. The activities ``u_1 .. u_L`` are the pre-activations, ``u_0 = x`` is clamped.
An `Energy` gives every example a scalar E(u). A new one only needs `Energy.value`; gradients then come from automatic
differentiation, and may be overridden in closed form.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, TypeAlias

import jax
import jax.numpy as jnp

from neurai_core.arrays import Elementwise, PyTree, Scalar
from neurai_core.curvature import largest_eigenvalue, spectral_norm
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
EXAMPLES = 4  # examples of a batch for estimating a curvature that the weights do not bound


# ---------------------------------------------------------------------------- the network as a chain of blocks


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


# ---------------------------------------------------------------------------- energies


class Energy:
    """An energy E(u) of the activities of a chain, one scalar per example.

    Subclass it and define ``value``; define ``force`` and ``contrast`` too if closed forms are faster. Make it a
    frozen dataclass, or keep it without state, so that equal energies share one compiled step.

    Attributes:
        default_init: default start of a free phase: ``zeros`` or ``feedforward``.
        settled_by_feedforward: whether the feed-forward activities are an exact minimum of E, so that a free phase
            that starts there is skipped.
        activation_last: whether an activation given by the user also replaces the output block's own.
        readout: whether ``outputs`` uses parameters; their share of the cost's gradient is then added.
        any_layout: whether all methods also support activities ``(D, B)``, which is faster: they may use only the
            chain's ``drive`` and ``dot``, the maps of later blocks and elementwise operations.

    Example:
        >>> class Quadratic(Energy):
        ...     def value(self, chain, params, u):
        ...         return half_squares(u[0] - chain.drive(params))
        >>> from neurai_core.models import mlp
        >>> model = mlp((2, 1))
        >>> params, _ = model.init(jax.random.key(0), (2,))
        >>> chain = chain_of(model, params, jnp.ones((3, 2)))
        >>> u = chain.feedforward(params)
        >>> [float(f.sum()) for f in Quadratic().force(chain, params, chain.drive(params), u, None)]
        [0.0]
    """

    default_init: ClassVar[str] = "zeros"
    settled_by_feedforward: ClassVar[bool] = False
    activation_last: ClassVar[bool] = False
    readout: ClassVar[bool] = False
    any_layout: ClassVar[bool] = False

    def laid_out(self, chain: Chain, states: Sequence[Activities]) -> tuple[Chain, Sequence[Activities]]:
        """Chain and states in the faster layout, or unchanged if this energy, a map or a shape requires that."""
        plain = all(v.ndim == 2 for u in states for v in u)
        columns = chain.on_columns() if self.any_layout and plain else None
        return (chain, states) if columns is None else (columns, [on_columns(u) for u in states])

    def check(self, chain: Chain) -> None:
        """Raise ModelError if the energy does not support the chain, naming the layer and what to do instead."""

    def feedforward(self, chain: Chain, params: PyTree) -> Activities:
        """Activities of one forward pass; their number and shapes are those of all activities of this energy."""
        return chain.feedforward(params)

    def value(self, chain: Chain, params: PyTree, u: Activities) -> jax.Array:
        """E of every example, ``(B,)``."""
        raise NotImplementedError

    def outputs(self, chain: Chain, params: PyTree, top: jax.Array) -> jax.Array:
        """The last activities, as the cost takes them."""
        return top

    def force(
        self, chain: Chain, params: PyTree, drive: jax.Array, u: Activities, nudge: jax.Array | None
    ) -> Activities:
        """dF/du of every example, F = E + beta C; activities move against it.

        Args:
            chain: the network.
            params: its parameters.
            drive: ``chain.drive(params)``.
            u: activities.
            nudge: ``beta dC/du_L``, of the shape of ``u_L``; None in a free phase.
        """
        holomorphic = jnp.iscomplexobj(u[-1])
        forces = jax.grad(lambda u: jnp.sum(self.value(chain, params, u)), holomorphic=holomorphic)(u)
        return nudged(forces, nudge)

    def curvature(self, chain: Chain, params: PyTree, nudge: Any = 0.0, in_turn: bool = False) -> Scalar:
        """The largest curvature of F in the activities, which limits the step of a stable relaxation.

        Estimated from products with the Hessian at the feed-forward activities of a few examples; override it if
        the weights give a bound.

        Args:
            chain: the network, activities ``(B, ...)``.
            params: its parameters.
            nudge: curvature of the cost times beta, which is added at the outputs.
            in_turn: whether even and odd layers move in turn, so that only a layer's own curvature matters.
        """
        few = replace(chain, x=chain.x[:EXAMPLES])  # steps keep a margin for the others
        u = self.feedforward(few, params)
        _, back = jax.vjp(jax.grad(lambda u: jnp.sum(self.value(few, params, u))), u)

        def product(v: Activities) -> Activities:
            return nudged(back(v)[0], nudge * v[-1])

        return largest_eigenvalue(product, u)

    def project(self, chain: Chain, u: Activities) -> Activities:
        """Project activities back into their allowed range; the identity for most energies."""
        return u

    def contrast(self, chain: Chain, params: PyTree, states: Sequence[Activities], weights: jax.Array) -> PyTree:
        """``sum_k Re(w_k dE/dparams(u_k))``, mean over the batch.

        Args:
            chain: the network.
            params: its parameters.
            states: K activities.
            weights: ``(K,)``; their sum is 0 unless K is 1.
        """

        def total(params: PyTree) -> Scalar:
            values = jax.vmap(lambda u: jnp.mean(self.value(chain, params, u)))(stacked)
            return jnp.real(jnp.sum(weights * values))

        stacked = jax.tree.map(lambda *layers: jnp.stack(layers), *states)
        return jax.grad(total)(params)


def on_columns(u: Activities) -> Activities:
    """Activities ``(B, D)`` as ``(D, B)``, or back.

    >>> [v.shape for v in on_columns((jnp.zeros((2, 3)),))]
    [(3, 2)]
    """
    return tuple(v.T for v in u)


def nudged(forces: Activities, nudge: jax.Array | None) -> Activities:
    """Add the nudge to the last force.

    >>> nudged((jnp.zeros(1), jnp.ones(1)), jnp.ones(1))[1].tolist()
    [2.0]
    """
    return forces if nudge is None else (*forces[:-1], forces[-1] + nudge)


def half_squares(a: jax.Array) -> jax.Array:
    """``1/2 |a|^2`` of every example, ``(B,)``; analytic, so complex entries are not conjugated.

    >>> half_squares(jnp.array([[3.0, 4.0]])).tolist()
    [12.5]
    """
    return 0.5 * dot(a, a)


def dot(a: jax.Array, b: jax.Array) -> jax.Array:
    """Inner product of every example, ``(B,)``, without conjugation.

    >>> dot(jnp.ones((2, 3)), jnp.ones((2, 3))).tolist()
    [3.0, 3.0]
    """
    return (a * b).reshape(len(a), -1).sum(axis=1)


# ---------------------------------------------------------------------------- energies that are sums over couplings


class Coupled(Energy):
    """An energy whose parameters enter only through ``- sum_l < map_l(params, below_l), above_l >``.

    Then dE/dparams of block l is minus the adjoint of ``map_l`` in its parameters, at ``below_l``, applied to
    ``above_l``. A subclass gives the two in ``couplings``; differences are taken before the outer product, which saves
    one large product and keeps digits that subtracting two gradients would lose.
    """

    def couplings(
        self, chain: Chain, params: PyTree, drive: jax.Array, u: Activities
    ) -> list[tuple[jax.Array, jax.Array]]:
        """``(below_l, above_l)`` of every block, or of the first ones if not all couple."""
        raise NotImplementedError

    def contrast(self, chain: Chain, params: PyTree, states: Sequence[Activities], weights: jax.Array) -> PyTree:
        """As for `Energy.contrast`, by one product with the inputs, whatever K is."""
        chain, states = self.laid_out(chain, states)
        drive, batch = chain.drive(params), -1 if chain.batch_last else 0
        pairs = [self.couplings(chain, params, drive, u) for u in states]
        scales = -weights / len(chain.x)
        total = jax.tree.map(jnp.zeros_like, params)
        for block, *of_block in zip(chain.blocks, *pairs, strict=False):
            below, above = zip(*of_block, strict=True)
            # Inputs are the same in all states: one product with the weighted sum of what is above.
            if block is chain.blocks[0]:
                pull = _weighted(scales, above).real
                parts = adjoint(block, params, chain.x, pull.T if chain.batch_last else pull)
            elif block.affine:
                parts = _bilinear(block, params, below, above, scales, batch)
            else:
                scaled = [scale * a for scale, a in zip(scales, above, strict=True)]
                parts = adjoint(block, params, jnp.concatenate(below, batch), jnp.concatenate(scaled, batch))
            total = jax.tree.map(jnp.add, total, parts)
        return total


def _bilinear(
    block: Block,
    params: PyTree,
    below: Sequence[jax.Array],
    above: Sequence[jax.Array],
    weights: jax.Array,
    batch: int,
) -> PyTree:
    """``sum_k w_k A(below_k)' above_k`` as ``A(b_0)' sum_k w_k (a_k - a_0) + sum_k A(b_k - b_0)' w_k a_k``.

    ``batch`` is the number of the batch axis.
    """
    parts = adjoint(block, params, below[0], _weighted(weights, above))
    if len(below) == 1:
        return parts
    change = jnp.concatenate([b - below[0] for b in below[1:]], batch)
    pull = jnp.concatenate([w * a for w, a in zip(weights[1:], above[1:], strict=True)], batch)

    # The jvp of an affine map is its linear part: the bias, which does not multiply b_k - b_0, drops out.
    def without_bias(params: PyTree) -> jax.Array:
        return jax.jvp(lambda b: block.map(params, b), (jnp.zeros_like(change),), (change,))[1]

    return jax.tree.map(jnp.add, parts, jax.vjp(without_bias, params)[1](pull)[0])


def _weighted(weights: jax.Array, terms: Sequence[jax.Array]) -> jax.Array:
    """``sum_k w_k a_k`` by differences from the first, as the weights sum to 0; ``w_0 a_0`` if it is the only one."""
    if len(terms) == 1:
        return weights[0] * terms[0]
    parts = [w * (a - terms[0]) for w, a in zip(weights[1:], terms[1:], strict=True)]
    return sum(parts[1:], start=parts[0])


def adjoint(block: Block, params: PyTree, below: jax.Array, above: jax.Array) -> PyTree:
    """Gradient of ``< map(params, below), above >`` with respect to the parameters, real part."""
    return jax.vjp(lambda p: block.map(p, below), params)[1](above)[0]
