"""Export of spiking networks to NIR graphs."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from neurai_core.arrays import PyTree, Shape
from neurai_core.errors import ModelError, missing_extra
from neurai_core.layered import (
    AvgPoolLinear,
    ChainApply,
    ConvLinear,
    Layer,
    dense_linear,
    flatten_linear,
    identity,
    output_shape,
)
from neurai_core.models.spiking.cells import LIF, Leaky
from neurai_core.models.spiking.network import SpikingNetwork
from neurai_core.models.spiking.nir_nodes import KEPT, KNOWN, STEP, Array, Signal, SumPool, scaled
from neurai_core.models.spiking.stages import Stage


def to_nir(model: SpikingNetwork, params: PyTree, *, dt: float = STEP, input_shape: Shape | None = None) -> Any:
    """Convert a network to a ``nir.NIRGraph``; ``nir.write(path, graph)`` writes it.

    Args:
        model: its cells are `LIF` or `Leaky`, its synapses dense, conv, avg_pool and flatten layers or blocks of
            them; encoder and readout are not written.
        params: its parameters.
        dt: length of a step, in seconds.
        input_shape: shape of one example at one step, such as ``(28, 28, 1)``; not needed if the first layer is
            dense.

    Raises:
        ModelError: a stage has no counterpart in NIR.
        MissingExtra: ``nir`` is not installed.
    """
    nir = _nir()
    signal = Signal(_input_shape(model, params, input_shape))
    nodes: dict[str, Any] = {"input": nir.Input({"input": np.array(signal.nir_shape)})}
    edges, before = [], "input"

    def put(name: str, node: Any) -> None:
        nonlocal before
        nodes[name] = node
        edges.append((before, name))
        before = name

    for i, (stage, own) in enumerate(zip(model.stages, params, strict=True)):
        layers = tuple(_inner(stage.synapse, own["input"]))
        for j, (layer, weights) in enumerate(layers):
            node, signal = _synapse(nir, i, layer, weights, signal)
            put(f"synapse_{i}" if len(layers) == 1 else f"synapse_{i}_{j}", node)
        put(f"neuron_{i}", _neuron(nir, i, stage, own["cell"], signal, dt))
        if stage.recurrent:
            nodes[f"recurrent_{i}"] = nir.Linear(_both_sides(signal, np.asarray(own["recurrent"])).T)
            edges += [(before, f"recurrent_{i}"), (f"recurrent_{i}", before)]
    put("output", nir.Output({"output": np.array(signal.nir_shape)}))
    try:
        return nir.NIRGraph(nodes, edges)
    except ValueError as error:
        raise ModelError(
            f"The package nir rejects the graph: {error}", "Its shapes follow from input_shape."
        ) from error


def _nir() -> Any:
    try:
        return importlib.import_module("nir")
    except ImportError as error:
        raise missing_extra("nir", "neurai[nir]", "Writing a NIR graph") from error


def _input_shape(model: SpikingNetwork, params: PyTree, given: Shape | None) -> Shape:
    if given is not None:
        return tuple(given)
    first, own = next(_inner(model.stages[0].synapse, params[0]["input"]))
    if first.linear is not dense_linear:
        raise ModelError(
            f"The network begins with {first.name}, so the shape of its input has to be given.",
            "to_nir(model, params, input_shape=(28, 28, 1)), without batch and time.",
        )
    return (own["w"].shape[0],)


def _inner(layer: Layer, own: PyTree) -> Iterator[tuple[Layer, PyTree]]:
    """The layers that make up a layer, with their parameters."""
    if isinstance(layer.apply, ChainApply) and not layer.apply.skip:
        for inner, weights in zip(layer.apply.model.layers, own, strict=True):
            yield from _inner(inner, weights)
    else:
        yield layer, own


def _synapse(nir: Any, i: int, layer: Layer, own: PyTree, signal: Signal) -> tuple[Any, Signal]:
    """The node of a layer, and its output signal."""
    linear: Any = layer.linear if layer.activation is identity else None
    own = jax.tree.map(np.asarray, own)
    if linear is flatten_linear:
        return nir.Flatten({"input": np.array(signal.nir_shape)}, start_dim=0, end_dim=-1), signal.flattened()
    after = Signal(output_shape(layer, own, (), signal.shape))
    if linear is dense_linear:
        weights = signal.to_nir(own["w"]).T
        return (nir.Affine(weights, own["b"]) if "b" in own else nir.Linear(weights)), after
    if linear is scaled:
        return nir.Scale(signal.to_nir(own["scale"])), after
    if isinstance(linear, ConvLinear):
        return _convolution(nir, i, linear, own, signal), after
    if isinstance(linear, AvgPoolLinear | SumPool):
        kind = nir.SumPool2d if isinstance(linear, SumPool) else nir.AvgPool2d
        return kind(np.array(linear.window), np.array(linear.stride), np.zeros(2, int)), after
    raise ModelError(
        f"Stage {i} has the synapses {layer.name}, which NIR does not know.",
        "It can hold dense, conv, avg_pool and flatten layers without an activation.",
    )


def _convolution(nir: Any, i: int, linear: ConvLinear, own: PyTree, signal: Signal) -> Any:
    kernel = [(size - 1) * step + 1 for size, step in zip(own["w"].shape[:2], linear.dilation, strict=True)]
    pads = linear.padding
    if isinstance(pads, str):
        pads = jax.lax.padtype_to_pads(signal.shape[:2], kernel, linear.stride, pads)
    if any(low != high for low, high in pads):
        raise ModelError(
            f"Stage {i} has a convolution padded by {tuple(map(tuple, pads))}, and NIR pads both sides alike.",
            'An odd kernel with a stride of 1, or padding="VALID".',
        )
    return nir.Conv2d(
        input_shape=signal.shape[:2],
        weight=own["w"].transpose(3, 2, 0, 1),
        stride=linear.stride,
        padding=tuple(int(low) for low, _ in pads),
        dilation=linear.dilation,
        groups=1,
        bias=own["b"] if "b" in own else np.zeros(own["w"].shape[-1], own["w"].dtype),
    )


def _neuron(nir: Any, i: int, stage: Stage, numbers: PyTree, signal: Signal, dt: float) -> Any:
    cell: Any = stage.cell
    if type(cell) not in (LIF, Leaky):
        raise ModelError(f"Stage {i} has {type(cell).__name__} neurons, which NIR does not know.", KNOWN)
    fires = isinstance(cell, LIF)
    decay = _each(cell, numbers, "decay", signal)
    gain = 1 - decay if cell.input_gain == "complement" else np.full(decay.shape, cell.input_gain)
    if (decay == 1).all() and cell.synapse is None:
        kind, values = ("IF" if fires else "I"), {"r": gain / dt}
    else:
        kind, values = ("LIF" if fires else "LI"), _leak(i, cell, decay, gain, dt)
    if cell.synapse is not None:
        synapse = _below_one(i, "synapse", _each(cell, numbers, "synapse", signal))
        values |= {"tau_mem": values.pop("tau"), "tau_syn": dt / (1 - synapse), "w_in": 1 / (1 - synapse)}
        kind = f"Cuba{kind}"
    if fires:
        values |= {
            "v_threshold": _each(cell, numbers, "threshold", signal),
            "v_reset": np.full(decay.shape, cell.v_reset),
        }
    node = getattr(nir, kind)(**values)
    node.metadata = {name: getattr(cell, name) for name in KEPT if hasattr(cell, name)}
    return node


def _leak(i: int, cell: Any, decay: Array, gain: Array, dt: float) -> dict[str, Array]:
    rate = 1 - _below_one(i, "decay", decay)
    return {"tau": dt / rate, "r": gain / rate, "v_leak": np.full(decay.shape, float(cell.v_rest))}


def _below_one(i: int, name: str, decay: Array) -> Array:
    if not (decay < 1).all():
        raise ModelError(
            f"Stage {i} has a {name} of 1, which has no time constant.",
            "NIR takes a decay of 1 for all neurons without a synaptic current, as IF.",
        )
    return decay


def _each(cell: Any, numbers: PyTree, name: str, signal: Signal) -> Array:
    """One number per neuron, in double precision and in NIR's order."""
    if name not in cell.learn:
        return np.full(signal.nir_shape, getattr(cell, name), float)
    learned = np.asarray(numbers[name], float)
    return signal.to_nir(1 / (1 + np.exp(-learned)) if name in cell.decays else learned)


def _both_sides(signal: Signal, weights: Array) -> Array:
    return signal.to_nir(signal.to_nir(weights).T).T
