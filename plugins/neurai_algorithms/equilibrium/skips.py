"""Residual layers in the energy of a chain: the layers inside them have activities too, and a skip joins both ends.

    residual(f_1, .., f_k) above u_l        what enters u_{l+k} is  map(rho(u_{l+k-1})) + skip(rho(u_l))

The skip has no parameters. It is the identity, or the pooling and flattening that blocks have at the same place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import getitem
from typing import Any, NamedTuple

import jax

from neurai_core.arrays import PyTree
from neurai_core.energy import Activities, Block, Chain, chain_of, groups_of
from neurai_core.errors import ModelError
from neurai_core.layered import ChainApply, Layer, Layered, identity


class Skip(NamedTuple):
    """A connection that passes over blocks.

    Attributes:
        source: number of the block whose activities it carries, after rho; -1 for the inputs.
        target: number of the block whose activities it enters.
        map: what it does to them; no parameters.
    """

    source: int
    target: int
    map: Callable[[jax.Array], jax.Array]


@dataclass(frozen=True)
class SkipChain(Chain):
    """A `Chain` with connections that pass over blocks.

    Attributes:
        skips: these connections.
    """

    skips: tuple[Skip, ...] = ()

    def on_columns(self) -> None:
        """No other layout."""

    def feedforward(self, params: PyTree) -> Activities:
        """The pre-activations of one forward pass."""
        u: list[jax.Array] = []
        fired = [self.x]
        for index, block in enumerate(self.blocks):
            entering = (skip for skip in self.skips if skip.target == index)
            u.append(sum((skip.map(fired[skip.source + 1]) for skip in entering), start=block.map(params, fired[-1])))
            fired.append(block.rho(u[-1]))
        return tuple(u)


def skips_of(chain: Chain) -> tuple[Skip, ...]:
    """The connections of a chain that pass over blocks."""
    return chain.skips if isinstance(chain, SkipChain) else ()


def chain_with_skips(model: Layered, params: PyTree, x: jax.Array, *, fuse: bool = False, **options: Any) -> Chain:
    """`chain_of` a model in which residual layers are taken apart.

    Args:
        model: the network.
        params: its parameters; only their structure is used.
        x: inputs ``(B, ...)``.
        fuse: whether layers without parameters belong to the block of the layer before them.
        **options: as for `chain_of`.

    Raises:
        ModelError: an end of a residual layer is no end of a block.

    >>> import jax.numpy as jnp
    >>> from neurai_core.layered import dense, residual
    >>> model = Layered((dense(4), residual(dense(3, "tanh"), dense(4)), dense(2)))
    >>> params, _ = model.init(jax.random.key(0), (5,))
    >>> chain = chain_with_skips(model, params, jnp.ones((1, 5)))
    >>> len(chain.blocks), [skip[:2] for skip in skips_of(chain)]
    (4, [(0, 2)])
    >>> [block.name for block in chain.blocks][1:3]
    ['layer 1.0 (dense(3))', 'layer 1.1 (dense(4))']
    """
    parts, spans = list(_parts(model)), list(_spans(model))
    if not spans:
        return chain_of(model, params, x, fuse=fuse, **options)
    flat = Layered(tuple(layer for _, layer in parts))

    def own(params: PyTree) -> tuple[PyTree, ...]:
        return tuple(reduce(getitem, path, params) for path, _ in parts)

    if options.get("model_state", ()) != ():  # residual layers with a state are not taken apart
        states = options["model_state"]
        options["model_state"] = tuple(states[path[0]] if len(path) == 1 else () for path, _ in parts)
    groups = groups_of(flat, own(params), fuse)
    skips = tuple(_skip(flat, own(params), groups, *span) for span in spans)
    blocks = chain_of(flat, own(params), x, fuse=fuse, **options).blocks
    places = [path for path, _ in parts]
    return SkipChain(tuple(_on_whole(block, own, places) for block in blocks), x, skips=skips)


def _on_whole(block: Block, own: Callable[[PyTree], PyTree], places: Sequence[tuple[int, ...]]) -> Block:
    """The block as a function of the parameters of the model before it was taken apart, and named by its numbers."""

    def named(text: str) -> str:
        word, number, rest = text.split(" ", 2) if text else ("", "", "")
        return f"{word} {'.'.join(map(str, places[int(number)]))} {rest}" if text else ""

    def whole(map: Callable[[PyTree, jax.Array], jax.Array]) -> Callable[[PyTree, jax.Array], jax.Array]:
        return lambda params, below: map(own(params), below)

    unpooled = block.unpooled and whole(block.unpooled)
    name, obstacle = named(block.name), named(block.obstacle)
    return Block(whole(block.map), block.rho, block.affine, name, obstacle, unpooled=unpooled)


def _inside(layer: Layer) -> Layered | None:
    """The layers inside a residual layer; None for other layers, and for residual layers that draw or carry a state."""
    apply: Any = layer.apply
    apart = isinstance(apply, ChainApply) and apply.skip and not (layer.stateful or layer.stochastic)
    return apply.model if apart else None


def _parts(model: Layered, at: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], Layer]]:
    """All layers in order, those inside residual layers included, and where their parameters are."""
    for index, layer in enumerate(model.layers):
        inside = _inside(layer)
        if inside is None:
            yield (*at, index), layer
        else:
            yield from _parts(inside, (*at, index))


def _spans(model: Layered, first: int = 0) -> Iterator[tuple[str, int, int]]:
    """Every residual layer: its name, and the numbers of its first and last layer among all parts."""
    for layer in model.layers:
        inside = _inside(layer)
        size = 1 if inside is None else len(list(_parts(inside)))
        if inside is not None:
            yield layer.name, first, first + size - 1
            yield from _spans(inside, first)
        first += size


def _skip(
    model: Layered, params: Sequence[PyTree], groups: Sequence[Sequence[int]], name: str, first: int, last: int
) -> Skip:
    """The connection from before the first to behind the last layer."""
    start, end = (next(g for g, group in enumerate(groups) if index in group) for index in (first, last))
    before = [model.layers[index] for index in groups[start] if index < first]
    behind = [model.layers[index] for index in groups[end] if index > last]
    learns = [bool(jax.tree.leaves(params[index])) for index in (*groups[start], *groups[end])]
    inside = [first <= index <= last for index in (*groups[start], *groups[end])]
    if any(has and not within for has, within in zip(learns, inside, strict=True)):
        raise ModelError(
            f"The energy 'hopfield' takes residual layers that begin and end with a layer of weights; {name} does not.",
            hint="Put pooling, flattening and activations before or behind it.",
        )
    if model.layers[last].activation is not identity or any(layer.linear is None for layer in behind):
        raise ModelError(
            f"The energy 'hopfield' takes skips that end right before an activation; that of {name} does not.",
            hint="Leave out the activation of its last layer: give activation='sigmoid' to the rule, or put "
            "elementwise('sigmoid') behind it and set fuse=True. Before a max pooling, put a layer of weights.",
        )

    def carried(x: jax.Array) -> jax.Array:
        for layer in before:
            x = layer.apply((), (), x)[0]
        for layer in behind:
            x = layer.linear((), x)  # type: ignore[misc]
        return x

    return Skip(start - 1, end, carried)
