"""Import of NIR graphs as spiking networks and their parameters."""

from __future__ import annotations

from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from neurai_core.arrays import PyTree
from neurai_core.errors import ModelError
from neurai_core.layered import Layer, avg_pool, block, conv, dense, flatten, output_shape
from neurai_core.models.spiking.cells import RESETS, Reset
from neurai_core.models.spiking.network import SpikingNetwork
from neurai_core.models.spiking.nir_nodes import (
    KEPT,
    KNOWN,
    NEURONS,
    STEP,
    SYNAPSES,
    WEIGHTS,
    Array,
    Signal,
    nir_signal,
    scale,
    sum_pool,
)
from neurai_core.models.spiking.stages import Stage

Method = Literal["euler", "exact"]
EXTREME = 1e3  # a logit for which the sigmoid is 0 or 1 in every precision
Edges = list[tuple[str, str]]


def from_nir(
    graph: Any,
    *,
    surrogate: Any,
    readout: str = "max",
    dt: float = STEP,
    method: Method = "euler",
    reset: Reset | None = None,
    delay_reset: bool | None = None,
    **options: Any,
) -> tuple[SpikingNetwork, PyTree]:
    """Convert a NIR graph to a network and its parameters.

    Values that differ between neurons become learned ones; a gain that differs goes into the weights or, where that
    is not possible, into a layer of factors after them. Images are (H, W, C) here: weights, and everything after a
    Flatten, are reordered accordingly.

    Args:
        graph: a ``nir.NIRGraph``, for instance ``nir.read(path)``.
        surrogate: surrogate of the neurons, which NIR does not specify.
        readout: as in `SpikingNetwork`; NIR does not specify it.
        dt: length of a step, in the unit of the graph's time constants, usually seconds; the value that the
            exporting program used.
        method: how a step is taken: ``"euler"``, a decay of ``1 - dt/tau``, as most programs export; ``"exact"``,
            ``exp(-dt/tau)``.
        reset: the reset of the exporting program, ``"soft"``, ``"hard"`` or ``"none"``, which NIR cannot
            express. None takes the one recorded by `to_nir`, else the hard one that NIR defines.
        delay_reset: as in `LIF`: whether the exporting program resets in the step after the spike. None takes
            the value recorded by `to_nir`, else False.
        **options: further options of `SpikingNetwork`.

    Raises:
        ModelError: a node is unknown or in the wrong place, or an element of a parameter is out of range.
    """
    _check_options(dt, method, reset)
    said = {"reset": reset, "delay_reset": delay_reset}
    reader = _Reader(dt, method, {name: value for name, value in said.items() if value is not None})
    nodes, edges = _flat(graph)
    source, chain = _chain(nodes, edges)
    signal = nir_signal(_shape(source, nodes[source], nodes[chain[0][0][0]] if chain else None))
    stages, params = [], []
    for synapses, neuron, recurrent in chain:
        stage, own, signal = reader.stage(nodes, synapses, neuron, recurrent, signal)
        stages.append(stage)
        params.append(own)
    if signal.order is not None:
        raise ModelError(
            "The NIR graph ends in neurons that follow a flattened image, whose order differs here.",
            "Let a Linear node follow the Flatten.",
        )
    return SpikingNetwork(tuple(stages), surrogate, readout, **options), tuple(params)


def _check_options(dt: float, method: str, reset: str | None) -> None:
    if not 0 < dt < np.inf:
        raise ModelError(f"dt={dt} is not a duration, expected more than 0.", "from_nir(graph, surrogate=..., dt=1e-4)")
    if method not in get_args(Method):
        raise ModelError(f"method={method!r} is neither 'euler' nor 'exact'.", "Most programs export Euler steps.")
    if reset not in (None, *RESETS):
        raise ModelError(f"reset={reset!r} is not a reset.", f"Resets: {', '.join(RESETS)}.")


# ---------------------------------------------------------------------------- the graph as a chain


def _flat(graph: Any, prefix: str = "") -> tuple[dict[str, Any], Edges]:
    """Nodes and edges with nested graphs inlined: some programs nest recurrent neurons."""
    nodes, edges = {}, [(f"{prefix}{a}", f"{prefix}{b}") for a, b in graph.edges]
    for name, node in graph.nodes.items():
        full = f"{prefix}{name}"
        if type(node).__name__ != "NIRGraph":
            nodes[full] = node
            continue
        inside, inner = _flat(node, f"{full}.")
        first, last = (_one(_of_kind(inside, kind), f"an {kind} of {full!r}") for kind in ("Input", "Output"))
        nodes |= {key: one for key, one in inside.items() if key not in (first, last)}
        enter, leave = [b for a, b in inner if a == first], [a for a, b in inner if b == last]
        edges = [(a, after) for a, b in edges for after in (enter if b == full else [b])]
        edges = [(before, b) for a, b in edges for before in (leave if a == full else [a])]
        edges += [(a, b) for a, b in inner if a != first and b != last]
    return nodes, edges


def _chain(nodes: dict[str, Any], edges: Edges) -> tuple[str, list[tuple[list[str], str, str | None]]]:
    """The name of the input; then, stage by stage, of synapses, neurons and recurrent synapses."""
    kinds = {name: type(node).__name__ for name, node in nodes.items()}
    for name, kind in kinds.items():
        if kind not in ("Input", "Output", *SYNAPSES, *NEURONS):
            raise ModelError(f"The NIR graph has the node {name!r} of type {kind}, which is not supported.", KNOWN)
    source = at = _one(_of_kind(nodes, "Input"), "an input")
    found: list[tuple[list[str], str, str | None]] = []
    synapses: list[str] = []
    for _ in nodes:
        loops = _loops(edges, kinds, at)
        after = _one([b for a, b in edges if a == at and b not in loops], f"a node after {at!r}")
        expected = "neurons" if synapses else "synapses"
        if kinds[after] in SYNAPSES and (not synapses or not {kinds[at], kinds[after]} <= set(WEIGHTS)):
            synapses.append(after)
        elif kinds[after] in NEURONS and synapses:
            recurrent = sorted(_loops(edges, kinds, after))
            found.append((synapses, after, _one(recurrent, "recurrent synapses") if recurrent else None))
            synapses = []
        elif kinds[after] == "Output" and not synapses:
            _refuse_unread(
                nodes, {source, after, *(name for stage in found for name in (*stage[0], *stage[1:]) if name)}
            )
            return source, found
        else:
            raise ModelError(f"The node {after!r} of the NIR graph follows {at!r}, expected {expected} there.", KNOWN)
        at = after
    raise ModelError("The NIR graph has a cycle, expected a chain of stages.", KNOWN)


def _refuse_unread(nodes: dict[str, Any], read: set[str]) -> None:
    left = [name for name in nodes if name not in read]
    if left:
        raise ModelError(
            f"The NIR graph has {', '.join(map(repr, left))} beside the chain from its input to its output.",
            "Networks are chains of stages.",
        )


def _of_kind(nodes: dict[str, Any], kind: str) -> list[str]:
    return [name for name, node in nodes.items() if type(node).__name__ == kind]


def _loops(edges: Edges, kinds: dict[str, str], neuron: str) -> set[str]:
    """Synapses from neurons to themselves."""
    if kinds[neuron] not in NEURONS:
        return set()
    return {b for a, b in edges if a == neuron and kinds[b] in SYNAPSES and (b, neuron) in edges}


def _one(names: list[str], what: str) -> str:
    if len(names) != 1:
        given = ", ".join(map(repr, names)) or "none"
        raise ModelError(
            f"The NIR graph has {given} for {what}, expected exactly one.", "Networks are chains of stages."
        )
    return names[0]


def _shape(name: str, node: Any, first: Any) -> tuple[int, ...]:
    """The shape of one example at one step, without the batch and time axes that some programs write."""
    given = (node.input_type or {}).get("input")
    if given is None:
        raise ModelError(f"The node {name!r} of the NIR graph has no shape.", "nir.Input({'input': np.array([784])})")
    shape = tuple(int(size) for size in np.ravel(given))
    axes = 1 if type(first).__name__ in WEIGHTS else 3
    extra = max(len(shape) - axes, 0)
    return shape[extra:] if set(shape[:extra]) <= {1} else shape


# ---------------------------------------------------------------------------- synapses


def _finite(name: str, what: str, values: Any) -> Array:
    """An array of numbers in double precision."""
    array = np.asarray(values, float)
    _refuse(name, what, array, ~np.isfinite(array), "a finite number")
    return array


def _refuse(name: str, what: str, values: Array, bad: Array, expected: str, hint: str = "") -> None:
    """Raise ModelError for the first bad element."""
    if bad.any():
        place = np.unravel_index(int(np.argmax(bad)), bad.shape)
        index = f"[{', '.join(map(str, place))}]" if bad.ndim else ""
        raise ModelError(
            f"The node {name!r} of the NIR graph has {what}{index} = {values[place]:g}, expected {expected}.",
            hint or "The file is damaged, or its program diverged.",
        )


def _layer(name: str, node: Any, signal: Signal) -> tuple[Layer | None, PyTree, Signal]:
    """The layer of a node, its parameters, and its output signal; no layer for a Flatten without effect."""
    kind = type(node).__name__
    if kind == "Flatten":
        return _flatten(name, node, signal)
    if kind == "Scale":
        return scale(), {"scale": _each(name, "scale", node, signal)}, signal
    layer, own = _dense(name, node, signal) if kind in WEIGHTS else _spatial(name, node, kind, signal)
    shape = output_shape(layer, own, (), signal.shape)
    if min(shape) < 1:
        raise ModelError(f"The node {name!r} of the NIR graph leaves nothing of an image {signal.nir_shape}.", "")
    return layer, own, Signal(shape)


def _dense(name: str, node: Any, signal: Signal) -> tuple[Layer, PyTree]:
    weight = _finite(name, "weight", node.weight)
    if weight.ndim != 2 or signal.shape != weight.shape[1:]:
        raise ModelError(
            f"The node {name!r} of the NIR graph has weights {weight.shape} and is given {signal.nir_shape}.",
            "Weights are (outputs, inputs); a Flatten makes one axis of an image.",
        )
    own = {"w": signal.to_ours(weight.T)}
    if hasattr(node, "bias"):
        own["b"] = _bias(name, node, weight.shape[0])
    return dense(weight.shape[0], bias="b" in own), own


def _bias(name: str, node: Any, width: int) -> Array:
    bias = _finite(name, "bias", node.bias)
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
    weight = _finite(name, "weight", node.weight)
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
    return layer, {"w": weight.transpose(2, 3, 1, 0), "b": _bias(name, node, channels)}


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


# ---------------------------------------------------------------------------- stages


class _Reader:
    """How neurons are imported: the time step and their reset."""

    def __init__(self, dt: float, method: Method, said: dict[str, Any]) -> None:
        self.dt, self.method, self.said = dt, method, said

    def stage(
        self, nodes: dict[str, Any], synapses: list[str], neuron: str, recurrent: str | None, signal: Signal
    ) -> tuple[Stage, PyTree, Signal]:
        """The stage, its parameters, and its output signal."""
        layers, params = [], []
        for name in synapses:
            layer, own, signal = _layer(name, nodes[name], signal)
            if layer is not None:
                layers.append(layer)
                params.append(own)
        layers, params = layers or [flatten()], params or [()]
        cell, numbers, gains, settings = self._cell(neuron, nodes[neuron], signal)
        made: dict[str, Any] = {"cell": numbers}
        if recurrent is not None:
            made["recurrent"], bias = _recurrent(recurrent, nodes[recurrent], neuron, signal)
            _add_bias(recurrent, bias, layers, params)
        settings["input_gain"], factor = _put_gains(gains, layers, params)
        if recurrent is not None:
            made["recurrent"] = made["recurrent"] * factor
        alone = len(layers) == 1
        made["input"] = params[0] if alone else tuple(params)
        stage = Stage(layers[0] if alone else block(*layers), cell(**settings), recurrent is not None)
        return stage, jax.tree.map(jnp.asarray, made), signal

    def _cell(self, name: str, node: Any, signal: Signal) -> tuple[Any, dict[str, Array], tuple[Array, Array], Any]:
        """The class of the cell, its learned values, the gains of its current and its weights, and its settings."""
        kind = type(node).__name__
        values, gains = self._dynamics(name, node, kind, signal)
        settings: dict[str, Any] = {}
        if hasattr(node, "v_leak"):
            settings["v_rest"] = _same(name, "v_leak", _each(name, "v_leak", node, signal))
        if kind.endswith("IF"):
            values["threshold"] = _each(name, "v_threshold", node, signal)
            settings |= {"reset": "hard", "v_reset": _same(name, "v_reset", _each(name, "v_reset", node, signal))}
            settings |= {key: value for key, value in dict(node.metadata or {}).items() if key in KEPT} | self.said
        learn = tuple(key for key, value in values.items() if not _uniform(value))
        settings |= {key: float(np.mean(one) if key in learn else one.flat[0]) for key, one in values.items()}
        numbers = {key: values[key] if key == "threshold" else _logit(values[key]) for key in learn}
        return NEURONS[kind], numbers, gains, settings | {"learn": learn}

    def _dynamics(
        self, name: str, node: Any, kind: str, signal: Signal
    ) -> tuple[dict[str, Array], tuple[Array, Array]]:
        """Decays, and the factors on the current that charges the membrane and on the input of that current."""
        r, one = _each(name, "r", node, signal), np.ones(())
        if kind in ("IF", "I"):
            return {"decay": np.ones(signal.shape)}, (r * self.dt, one)
        decay, rate = self._decay(name, "tau_mem" if "Cuba" in kind else "tau", node, signal)
        if "Cuba" not in kind:
            return {"decay": decay}, (r * rate, one)
        synapse, entering = self._decay(name, "tau_syn", node, signal)
        return {"decay": decay, "synapse": synapse}, (r * rate, _each(name, "w_in", node, signal) * entering)

    def _decay(self, name: str, what: str, node: Any, signal: Signal) -> tuple[Array, Array]:
        """The decay of a time constant, and its complement to 1."""
        tau = _each(name, what, node, signal)
        low = self.dt if self.method == "euler" else 0.0
        bad = ~(tau >= low * (1 - 1e-6)) | (tau <= 0)
        expected = f"at least dt = {low:g}" if low else "more than 0"
        hint = "Give the dt of the exporting program, or method='exact', which takes any time constant."
        _refuse(name, what, signal.to_nir(tau), signal.to_nir(bad), expected, hint)
        if self.method == "exact":
            return np.exp(-self.dt / tau), -np.expm1(-self.dt / tau)
        rate = np.minimum(self.dt / tau, 1.0)
        return 1 - rate, rate


def _each(name: str, what: str, node: Any, signal: Signal) -> Array:
    """One number per neuron, in our order."""
    values, size = _finite(name, what, getattr(node, what)), int(np.prod(signal.shape))
    if values.size not in (1, size):
        raise ModelError(
            f"The node {name!r} of the NIR graph has {values.size} values of {what}, expected 1 or {size}.",
            f"It has neurons of the shape {signal.nir_shape}.",
        )
    if values.size == 1:
        return np.full(signal.shape, values.item())
    return signal.to_ours(values.reshape(signal.nir_shape))


def _recurrent(name: str, node: Any, neuron: str, signal: Signal) -> tuple[Array, Array]:
    """Recurrent weights (N, N) and their bias."""
    weight = _finite(name, "weight", getattr(node, "weight", np.zeros(0)))
    if type(node).__name__ not in WEIGHTS or weight.shape != signal.shape * 2:
        raise ModelError(
            f"The recurrent synapses {name!r} of the NIR graph have weights {weight.shape}, and {neuron!r} has neurons "
            f"of the shape {signal.nir_shape}.",
            "Recurrent synapses are a Linear or Affine node (N, N).",
        )
    bias = _bias(name, node, len(weight)) if hasattr(node, "bias") else np.zeros(len(weight))
    return signal.to_ours(signal.to_ours(weight).T), signal.to_ours(bias)


def _add_bias(name: str, bias: Array, layers: list[Layer], params: list[PyTree]) -> None:
    """A bias of recurrent synapses acts at every step, like that of the synapses from below."""
    if not bias.any():
        return
    if not isinstance(params[-1], dict) or params[-1]["w"].ndim != 2:
        raise ModelError(
            f"The recurrent synapses {name!r} of the NIR graph have a bias, and no dense synapses take it over.",
            "Use a Linear node.",
        )
    layers[-1] = dense(len(bias))
    params[-1] = params[-1] | {"b": params[-1].get("b", 0) + bias}


def _put_gains(gains: tuple[Array, Array], layers: list[Layer], params: list[PyTree]) -> tuple[float, Any]:
    """The gain of the cell, and the factor for the weights, which must take a gain that differs between neurons."""
    gain, factor = gains
    input_gain, factor = (float(gain.flat[0]), factor) if _uniform(gain) else (1.0, factor * gain)
    if np.allclose(factor, 1, rtol=1e-12):
        return input_gain, 1.0
    own = params[-1]
    if _uniform(factor) and not own:
        return input_gain * float(factor.flat[0]), 1.0
    by_channel = factor.reshape(-1, factor.shape[-1])
    if own and all(_uniform(channel) for channel in by_channel.T):
        params[-1] = {name: values * by_channel[0] for name, values in own.items()}
    else:
        layers.append(scale())
        params.append({"scale": factor})
    return input_gain, factor


def _logit(decay: Array) -> Array:
    with np.errstate(divide="ignore"):
        return np.clip(np.log(decay) - np.log1p(-decay), -EXTREME, EXTREME)


def _uniform(values: Array) -> bool:
    return bool(np.allclose(values, np.asarray(values).flat[0], rtol=1e-12, atol=0))


def _same(name: str, what: str, values: Array) -> float:
    if not _uniform(values):
        raise ModelError(f"The neurons {name!r} of the NIR graph differ in {what}.", "Give them one value.")
    return float(values.flat[0])
