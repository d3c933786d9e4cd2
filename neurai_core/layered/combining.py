"""Several layers as one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax

from neurai_core.arrays import PyTree, Shape
from neurai_core.errors import ModelError
from neurai_core.layered.chain import Layered
from neurai_core.layered.layer import Layer
from neurai_core.layered.shapes import output_shape


@dataclass(frozen=True)
class ChainInit:
    """Parameters and model states of several layers, combined into one."""

    model: Layered
    skip: bool

    def __call__(self, key: jax.Array, input_shape: Shape) -> tuple[PyTree, PyTree]:
        """Raise ModelError if a residual chain does not keep the shape."""
        params, model_state = self.model.init(key, input_shape)
        if self.skip:
            given, got = tuple(input_shape), output_shape(self.model, params, model_state, input_shape)
            if given != got:
                raise ModelError(
                    f"The layers of a residual layer turn shape {given} into {got}, expected the same shape.",
                    hint="Give its last layer the width, channels and stride that keep the shape.",
                )
        return params, model_state


@dataclass(frozen=True)
class ChainApply:
    """Several layers run as one; ``skip`` adds the input to the output."""

    model: Layered
    skip: bool

    def __call__(
        self, params: PyTree, model_state: PyTree, x: PyTree, *, key: Any = None, train: bool = False
    ) -> tuple[PyTree, PyTree]:
        """``y = layers(x)`` or ``y = x + layers(x)``."""
        y, model_state = self.model.apply(params, model_state, x, key=key, train=train)
        return (x + y if self.skip else y), model_state


def _chain(layers: tuple[Layer, ...], skip: bool, name: str) -> Layer:
    model = Layered(layers)
    inner = ", ".join(layer.name for layer in layers)
    return Layer(
        ChainInit(model, skip),
        ChainApply(model, skip),
        name=f"{name}({inner})",
        stateful=any(layer.stateful for layer in layers),
        stochastic=any(layer.stochastic for layer in layers),
        numeric=layers[0].numeric,
    )


def residual(*layers: Layer) -> Layer:
    """``x + layers(x)`` as one layer; the inner layers keep the shape.

    Example:
        >>> import jax.numpy as jnp
        >>> from neurai_core.layered import dense
        >>> model = Layered((residual(dense(4, "relu"), dense(4)), dense(2)))
        >>> params, _ = model.init(jax.random.key(0), (4,))
        >>> model(params, jnp.ones((3, 4))).shape
        (3, 2)
    """
    return _chain(layers, True, "residual")


def block(*layers: Layer) -> Layer:
    """Several layers as one layer: a local rule keeps activities only at its output.

    Example:
        >>> from neurai_core.layered import conv, max_pool
        >>> block(conv(4, 3, activation="relu"), max_pool(2)).name
        'block(conv(4, 3), max_pool(2))'
    """
    return _chain(layers, False, "block")
