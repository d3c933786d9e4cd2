"""Import of NIR graphs as spiking networks and their parameters."""

from __future__ import annotations

from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from neurai_core.arrays import PyTree
from neurai_core.errors import ModelError
from neurai_core.layered import Layer, block, dense, flatten
from neurai_core.models.spiking.cells import RESETS, Reset
from neurai_core.models.spiking.network import SpikingNetwork
from neurai_core.models.spiking.nir_chain import chain_of, inlined, shape_of_input
from neurai_core.models.spiking.nir_nodes import (
    KEPT,
    NEURONS,
    STEP,
    WEIGHTS,
    Array,
    Signal,
    nir_signal,
    scale,
)
from neurai_core.models.spiking.nir_synapses import bias_of, each, finite, layer_of, refuse
from neurai_core.models.spiking.stages import Stage

Method = Literal["euler", "exact"]
EXTREME = 1e3  # a logit for which the sigmoid is 0 or 1 in every precision


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
    nodes, edges = inlined(graph)
    source, chain = chain_of(nodes, edges)
    signal = nir_signal(shape_of_input(source, nodes[source], nodes[chain[0][0][0]] if chain else None))
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
            layer, own, signal = layer_of(name, nodes[name], signal)
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
            settings["v_rest"] = _same(name, "v_leak", each(name, "v_leak", node, signal))
        if kind.endswith("IF"):
            values["threshold"] = each(name, "v_threshold", node, signal)
            settings |= {"reset": "hard", "v_reset": _same(name, "v_reset", each(name, "v_reset", node, signal))}
            settings |= {key: value for key, value in dict(node.metadata or {}).items() if key in KEPT} | self.said
        learn = tuple(key for key, value in values.items() if not _uniform(value))
        settings |= {key: float(np.mean(one) if key in learn else one.flat[0]) for key, one in values.items()}
        numbers = {key: values[key] if key == "threshold" else _logit(values[key]) for key in learn}
        return NEURONS[kind], numbers, gains, settings | {"learn": learn}

    def _dynamics(
        self, name: str, node: Any, kind: str, signal: Signal
    ) -> tuple[dict[str, Array], tuple[Array, Array]]:
        """Decays, and the factors on the current that charges the membrane and on the input of that current."""
        r, one = each(name, "r", node, signal), np.ones(())
        if kind in ("IF", "I"):
            return {"decay": np.ones(signal.shape)}, (r * self.dt, one)
        decay, rate = self._decay(name, "tau_mem" if "Cuba" in kind else "tau", node, signal)
        if "Cuba" not in kind:
            return {"decay": decay}, (r * rate, one)
        synapse, entering = self._decay(name, "tau_syn", node, signal)
        return {"decay": decay, "synapse": synapse}, (r * rate, each(name, "w_in", node, signal) * entering)

    def _decay(self, name: str, what: str, node: Any, signal: Signal) -> tuple[Array, Array]:
        """The decay of a time constant, and its complement to 1."""
        tau = each(name, what, node, signal)
        low = self.dt if self.method == "euler" else 0.0
        bad = ~(tau >= low * (1 - 1e-6)) | (tau <= 0)
        expected = f"at least dt = {low:g}" if low else "more than 0"
        hint = "Give the dt of the exporting program, or method='exact', which takes any time constant."
        refuse(name, what, signal.to_nir(tau), signal.to_nir(bad), expected, hint)
        if self.method == "exact":
            return np.exp(-self.dt / tau), -np.expm1(-self.dt / tau)
        rate = np.minimum(self.dt / tau, 1.0)
        return 1 - rate, rate


def _recurrent(name: str, node: Any, neuron: str, signal: Signal) -> tuple[Array, Array]:
    """Recurrent weights (N, N) and their bias."""
    weight = finite(name, "weight", getattr(node, "weight", np.zeros(0)))
    if type(node).__name__ not in WEIGHTS or weight.shape != signal.shape * 2:
        raise ModelError(
            f"The recurrent synapses {name!r} of the NIR graph have weights {weight.shape}, and {neuron!r} has neurons "
            f"of the shape {signal.nir_shape}.",
            "Recurrent synapses are a Linear or Affine node (N, N).",
        )
    bias = bias_of(name, node, len(weight)) if hasattr(node, "bias") else np.zeros(len(weight))
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
