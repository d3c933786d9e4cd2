r"""Nodes and axis orders of NIR, the neuromorphic intermediate representation, for import and export.

NIR's neurons live in continuous time, $\tau \dot v = v_{leak} - v + R I$. One Euler step of length dt is one step
of ours, as in most libraries that write NIR: $d = 1 - dt/\tau$ and $\gamma = R\,dt/\tau$; the synaptic current
likewise, with $w_{in}\,dt/\tau_{syn} = 1$. NIR has only the hard reset. Other options of a cell, such as a soft
reset, are kept in the node's metadata, where `from_nir` finds them and other programs ignore them.

Images are (C, H, W) in NIR and (H, W, C) here, so neurons after a flattened image are in a different order.

Pedersen et al. 2024, doi:10.1038/s41467-024-52259-9.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from neurai_core.arrays import PyTree, Shape
from neurai_core.layered import Layer, linear_layer, no_params
from neurai_core.models.spiking.cells import LIF, Leaky

STEP = 1e-4  # seconds; the value that most other libraries write
NEURONS = {"LIF": LIF, "CubaLIF": LIF, "IF": LIF, "LI": Leaky, "CubaLI": Leaky, "I": Leaky}
WEIGHTS = ("Affine", "Linear")
SYNAPSES = (*WEIGHTS, "Conv2d", "AvgPool2d", "SumPool2d", "Flatten", "Scale")
KNOWN = f"Known nodes: {', '.join(('Input', 'Output', *SYNAPSES, *NEURONS))}."
KEPT = ("reset", "detach_reset", "delay_reset")

Array = NDArray[Any]


@dataclass(frozen=True)
class Signal:
    """The signal along an edge at one step.

    Attributes:
        shape: of one example, channels last.
        order: for a flattened image, the position of each of our entries in NIR's order; None if both agree.
    """

    shape: Shape
    order: Array | None = None

    @property
    def nir_shape(self) -> Shape:
        """The same shape, channels first."""
        return (self.shape[-1], *self.shape[:-1]) if len(self.shape) == 3 else self.shape

    def flattened(self) -> Signal:
        """The signal after Flatten, which uses NIR's order there and ours here."""
        size = math.prod(self.shape)
        order = self.to_ours(np.arange(size).reshape(self.nir_shape)).ravel()
        return Signal((size,), None if (order == np.arange(size)).all() else order)

    def to_ours(self, values: Array) -> Array:
        """Values of ``nir_shape``, one per entry, in our order."""
        if self.order is not None:
            return values[self.order]
        return np.moveaxis(values, 0, -1) if len(self.shape) == 3 else values

    def to_nir(self, values: Array) -> Array:
        """Values of ``shape``, one per entry, in NIR's order."""
        if self.order is not None:
            return values[np.argsort(self.order)]
        return np.moveaxis(values, -1, 0) if len(self.shape) == 3 else values


def nir_signal(nir_shape: Shape) -> Signal:
    """The signal of a shape in NIR."""
    return Signal((*nir_shape[1:], nir_shape[0]) if len(nir_shape) == 3 else nir_shape)


@dataclass(frozen=True)
class SumPool:
    """Sum over windows of ``(B, H, W, C)``: a linear map without parameters."""

    window: tuple[int, int]
    stride: tuple[int, int]

    def __call__(self, params: PyTree, x: jax.Array) -> jax.Array:
        """``(B, H, W, C) -> (B, H', W', C)``; windows that do not fit are left out."""
        return jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, *self.window, 1), (1, *self.stride, 1), "VALID")


def scaled(params: PyTree, x: jax.Array) -> jax.Array:
    """One factor per entry."""
    y: jax.Array = x * params["scale"]
    return y


def scale() -> Layer:
    """One learned factor per entry, from 1."""
    return linear_layer(_ones, scaled, "identity", "scale")


def _ones(key: jax.Array, input_shape: Shape) -> tuple[PyTree, PyTree]:
    return {"scale": jnp.ones(input_shape)}, ()


def sum_pool(window: tuple[int, int], stride: tuple[int, int]) -> Layer:
    """Sum over windows of images, as neuromorphic hardware pools."""
    return linear_layer(no_params, SumPool(window, stride), "identity", f"sum_pool({window})")
