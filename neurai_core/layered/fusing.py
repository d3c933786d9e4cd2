"""Layers without parameters, joined to the layer before them."""

from __future__ import annotations

from typing import NamedTuple

import jax

from neurai_core.arrays import PyTree
from neurai_core.layered.chain import Layered
from neurai_core.layered.combining import block


class Fused(NamedTuple):
    """A model with fewer layers, which computes the same.

    Attributes:
        model: layers in groups, those of several layers as a `block`.
        groups: numbers of the layers in each group.
    """

    model: Layered
    groups: tuple[tuple[int, ...], ...]

    def grouped(self, trees: PyTree) -> tuple[PyTree, ...]:
        """Parameters or model states of all layers, one tree per group; the leaves keep their order."""
        return tuple(
            trees[group[0]] if len(group) == 1 else tuple(trees[index] for index in group) for group in self.groups
        )


def fused(model: Layered, params: PyTree) -> Fused:
    """Join pooling, flattening, activations and other layers without parameters to the layer before them.

    A local rule then keeps activities only at the end of each group. Layers at the input without parameters are part of
    the first group. Layers that are random or carry a model state stay alone. Random layers draw other numbers.

    Args:
        model: a chain of layers.
        params: its parameters; only their structure is used.

    Example:
        >>> from neurai_core.models import cnn
        >>> model = cnn((4,), 10)
        >>> params, _ = model.init(jax.random.key(0), (8, 8, 1))
        >>> [layer.name for layer in fused(model, params).model.layers]
        ['block(conv(4, 3), avg_pool(2), flatten)', 'dense(10)']
    """
    groups = fused_groups(model, params)
    layers = (tuple(model.layers[index] for index in group) for group in groups)
    return Fused(Layered(tuple(own[0] if len(own) == 1 else block(*own) for own in layers)), groups)


def fused_groups(model: Layered, params: PyTree) -> tuple[tuple[int, ...], ...]:
    """Numbers of the layers in each group of `fused`.

    >>> from neurai_core.models import cnn
    >>> model = cnn((4,), 10)
    >>> fused_groups(model, model.init(jax.random.key(0), (8, 8, 1))[0])
    ((0, 1, 2), (3,))
    """
    groups: list[list[int]] = []
    closed, learns = True, False
    for index, (layer, own) in enumerate(zip(model.layers, params, strict=True)):
        alone, more = layer.stochastic or layer.stateful, bool(jax.tree.leaves(own))
        if closed or alone or (learns and more):
            groups.append([])
            learns = False
        groups[-1].append(index)
        closed, learns = alone, learns or more
    return tuple(map(tuple, groups))
