"""Synapses of a NIR graph as layers, their arrays checked and in our order."""

from __future__ import annotations

from typing import Any

import numpy as np

from neurai_core.arrays import PyTree
from neurai_core.errors import ModelError
from neurai_core.layered import Layer, avg_pool, conv, dense, flatten, output_shape
from neurai_core.models.spiking.nir_nodes import WEIGHTS, Array, Signal, scale, sum_pool


def finite(name: str, what: str, values: Any) -> Array:
    """An array of numbers in double precision."""
    array = np.asarray(values, float)
    refuse(name, what, array, ~np.isfinite(array), "a finite number")
    return array


def refuse(name: str, what: str, values: Array, bad: Array, expected: str, hint: str = "") -> None:
    """Raise ModelError for the first bad element."""
    if bad.any():
        place = np.unravel_index(int(np.argmax(bad)), bad.shape)
        index = f"[{', '.join(map(str, place))}]" if bad.ndim else ""
        raise ModelError(
            f"The node {name!r} of the NIR graph has {what}{index} = {values[place]:g}, expected {expected}.",
            hint or "The file is damaged, or its program diverged.",
        )


def layer_of(name: str, node: Any, signal: Signal) -> tuple[Layer | None, PyTree, Signal]:
    """The layer of a node, its parameters, and its output signal; no layer for a Flatten without effect."""
    kind = type(node).__name__
    if kind == "Flatten":
        return _flatten(name, node, signal)
    if kind == "Scale":
        return scale(), {"scale": each(name, "scale", node, signal)}, signal
    layer, own = _dense(name, node, signal) if kind in WEIGHTS else _spatial(name, node, kind, signal)
    shape = output_shape(layer, own, (), signal.shape)
    if min(shape) < 1:
        raise ModelError(f"The node {name!r} of the NIR graph leaves nothing of an image {signal.nir_shape}.", "")
    return layer, own, Signal(shape)


def _dense(name: str, node: Any, signal: Signal) -> tuple[Layer, PyTree]:
    weight = finite(name, "weight", node.weight)
    if weight.ndim != 2 or signal.shape != weight.shape[1:]:
        raise ModelError(
            f"The node {name!r} of the NIR graph has weights {weight.shape} and is given {signal.nir_shape}.",
            "Weights are (outputs, inputs); a Flatten makes one axis of an image.",
        )
    own = {"w": signal.to_ours(weight.T)}
    if hasattr(node, "bias"):
        own["b"] = bias_of(name, node, weight.shape[0])
    return dense(weight.shape[0], bias="b" in own), own


def bias_of(name: str, node: Any, width: int) -> Array:
    """One bias for every output."""
    bias = finite(name, "bias", node.bias)
    if bias.size not in (1, width):
        raise ModelError(f"The node {name!r} of the NIR graph has {bias.size} biases, expected {width}.", "One each.")
    return np.broadcast_to(bias.ravel(), (width,))


def _spatial(name: str, node: Any, kind: str, signal: Signal) -> tuple[Layer, PyTree]:
    if len(signal.shape) != 3:
        raise ModelError(
            f"The node {name!r} of the NIR graph is given {signal.nir_shape}, expected an image (C, H, W).",
            "nir.Input({'input': np.array([1, 28, 28])})",
        )
    return _conv(name, node, signal) if kind == "Conv2d" else _pool(name, node, kind)


def _conv(name: str, node: Any, signal: Signal) -> tuple[Layer, PyTree]:
    weight = finite(name, "weight", node.weight)
    groups = int(node.groups)
    if groups != 1:
        raise ModelError(
            f"The node {name!r} of the NIR graph has groups={groups}, expected 1.", "Other values are not supported."
        )
    if weight.ndim != 4 or weight.shape[1] != signal.shape[-1]:
        raise ModelError(
            f"The node {name!r} of the NIR graph has weights {weight.shape} and is given {signal.nir_shape}.",
            "Weights are (channels out, channels in, height, width).",
        )
    channels, _, *kernel = weight.shape
    layer = conv(
        channels, (kernel[0], kernel[1]), _pair(node.stride), _padding(name, node), dilation=_pair(node.dilation)
    )
    return layer, {"w": weight.transpose(2, 3, 1, 0), "b": bias_of(name, node, channels)}


def _padding(name: str, node: Any) -> Any:
    if not isinstance(node.padding, str):
        return tuple((size, size) for size in _pair(node.padding))
    if node.padding == "same" and set(_pair(node.stride)) != {1}:
        raise ModelError(f"The node {name!r} of the NIR graph has padding 'same' and a stride.", "Write the padding.")
    return node.padding.upper()


def _pool(name: str, node: Any, kind: str) -> tuple[Layer, PyTree]:
    if any(_pair(node.padding)):
        raise ModelError(
            f"The node {name!r} of the NIR graph pads before it pools, which is not supported.", "Pad by 0."
        )
    make = avg_pool if kind == "AvgPool2d" else sum_pool
    return make(_pair(node.kernel_size), _pair(node.stride)), ()


def _pair(value: Any) -> tuple[int, int]:
    sizes = np.ravel(value).astype(int).tolist()
    return (sizes[0], sizes[-1])


def _flatten(name: str, node: Any, signal: Signal) -> tuple[Layer | None, PyTree, Signal]:
    # Some programs count the batch axis, so that the first axis has number 1.
    if int(node.start_dim) not in (0, 1) or int(node.end_dim) not in (-1, len(signal.shape) - 1, len(signal.shape)):
        raise ModelError(
            f"The node {name!r} of the NIR graph flattens the axes {node.start_dim} to {node.end_dim}, expected all.",
            "nir.Flatten(shape, start_dim=0, end_dim=-1)",
        )
    return (None, (), signal) if len(signal.shape) == 1 else (flatten(), (), signal.flattened())


def each(name: str, what: str, node: Any, signal: Signal) -> Array:
    """One number per neuron, in our order."""
    values, size = finite(name, what, getattr(node, what)), int(np.prod(signal.shape))
    if values.size not in (1, size):
        raise ModelError(
            f"The node {name!r} of the NIR graph has {values.size} values of {what}, expected 1 or {size}.",
            f"It has neurons of the shape {signal.nir_shape}.",
        )
    if values.size == 1:
        return np.full(signal.shape, values.item())
    return signal.to_ours(values.reshape(signal.nir_shape))
