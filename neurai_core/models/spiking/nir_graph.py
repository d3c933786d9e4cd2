r"""Networks of dense stages as NIR graphs, the neuromorphic intermediate representation, and back.

NIR's neurons live in continuous time, $\tau \dot v = v_{leak} - v + R I$. One Euler step of length dt is one step
of ours, as in the other libraries that write NIR: $d = 1 - dt/\tau$ and $\gamma = R\,dt/\tau$; the synaptic
current likewise, with $w_{in}\,dt/\tau_{syn} = 1$. NIR knows the hard reset alone. Whatever else a cell has, such
as a soft reset, is kept in the node's metadata, where this module finds it again and other programs do not look.

Pedersen et al. 2024, doi:10.1038/s41467-024-52259-9.
"""

from __future__ import annotations

import importlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from neurai_core.arrays import PyTree
from neurai_core.errors import ModelError, missing_extra
from neurai_core.layered import dense, dense_linear
from neurai_core.models.spiking.cells import LIF, Leaky
from neurai_core.models.spiking.network import SpikingNetwork
from neurai_core.models.spiking.stages import Stage

STEP = 1e-4  # seconds; what the other libraries write
NEURONS = {"LIF": LIF, "CubaLIF": LIF, "LI": Leaky, "CubaLI": Leaky}
SYNAPSES = ("Affine", "Linear")
_KNOWN = f"Known nodes: {', '.join(('Input', 'Output', *SYNAPSES, *NEURONS))}."
_KEPT = ("reset", "detach_reset", "delay_reset")

Array = NDArray[Any]


def to_nir(model: SpikingNetwork, params: PyTree, *, dt: float = STEP) -> Any:
    """A network as a ``nir.NIRGraph``; ``nir.write(path, graph)`` writes it.

    Args:
        model: its stages are dense, their cells `LIF` or `Leaky`; encoder and readout are not written.
        params: its parameters.
        dt: length of a step, in seconds.

    Raises:
        ModelError: a stage has no counterpart in NIR.
        MissingExtra: ``nir`` is not installed.
    """
    nir = _nir("Writing a NIR graph")
    nodes: dict[str, Any] = {"input": nir.Input({"input": np.array([params[0]["input"]["w"].shape[0]])})}
    edges, before = [], "input"
    for i, (stage, own) in enumerate(zip(model.stages, params, strict=True)):
        neuron = f"neuron_{i}"
        nodes |= {f"synapse_{i}": _synapse(nir, i, stage, own), neuron: _neuron(nir, i, stage, own, dt)}
        edges += [(before, f"synapse_{i}"), (f"synapse_{i}", neuron)]
        if stage.recurrent:
            nodes[f"recurrent_{i}"] = nir.Linear(np.asarray(own["recurrent"]).T)
            edges += [(neuron, f"recurrent_{i}"), (f"recurrent_{i}", neuron)]
        before = neuron
    nodes["output"] = nir.Output({"output": np.array([params[-1]["input"]["w"].shape[1]])})
    return nir.NIRGraph(nodes, [*edges, (before, "output")])


def from_nir(
    graph: Any, *, surrogate: Any, readout: str = "max", dt: float = STEP, **options: Any
) -> tuple[SpikingNetwork, PyTree]:
    """The network of a NIR graph and its parameters.

    Numbers that differ from neuron to neuron become learned ones; a gain that does is put into the weights.

    Args:
        graph: a ``nir.NIRGraph``, for instance ``nir.read(path)``.
        surrogate: what the neurons fire with; NIR does not say.
        readout: as in `SpikingNetwork`; NIR does not say.
        dt: length of a step, in seconds.
        **options: further options of `SpikingNetwork`.

    Raises:
        ModelError: names the node that is not known, or that stands where it cannot.
    """
    stages, params = [], []
    for synapse, neuron, recurrent in _chain(graph):
        stage, own = _stage(graph.nodes, synapse, neuron, recurrent, dt)
        stages.append(stage)
        params.append(own)
    return SpikingNetwork(tuple(stages), surrogate, readout, **options), tuple(params)


# ---------------------------------------------------------------------------- writing


def _nir(purpose: str) -> Any:
    try:
        return importlib.import_module("nir")
    except ImportError as error:
        raise missing_extra("nir", "neurai[nir]", purpose) from error


def _synapse(nir: Any, i: int, stage: Stage, own: PyTree) -> Any:
    if stage.synapse.linear is not dense_linear or stage.synapse != dense(
        own["input"]["w"].shape[1], bias="b" in own["input"]
    ):
        raise ModelError(
            f"Stage {i} has the synapses {stage.synapse.name}, and only dense ones are written to NIR.", "dense(128)"
        )
    weights = np.asarray(own["input"]["w"]).T
    return nir.Affine(weights, np.asarray(own["input"]["b"])) if "b" in own["input"] else nir.Linear(weights)


def _neuron(nir: Any, i: int, stage: Stage, own: PyTree, dt: float) -> Any:
    cell: Any = stage.cell
    if type(cell) not in (LIF, Leaky):
        raise ModelError(f"Stage {i} has {type(cell).__name__} neurons, which NIR does not know.", _KNOWN)
    shape, numbers = own["input"]["w"].shape[1:], own["cell"]
    decay = _each(cell, numbers, "decay", shape)
    if not (decay < 1).all():
        raise ModelError(f"Stage {i} has a decay of 1, which has no time constant.", "NIR needs a decay below 1.")
    gain = 1 - decay if cell.input_gain == "complement" else np.full(shape, cell.input_gain)
    values = {"tau": dt / (1 - decay), "r": gain / (1 - decay), "v_leak": np.full(shape, cell.v_rest)}
    if cell.synapse is not None:
        synapse = _each(cell, numbers, "synapse", shape)
        values |= {"tau_mem": values.pop("tau"), "tau_syn": dt / (1 - synapse), "w_in": 1 / (1 - synapse)}
    if isinstance(cell, LIF):
        values["v_threshold"] = _each(cell, numbers, "threshold", shape)
        values["v_reset"] = np.full(shape, cell.v_reset)
    kind = ("Cuba" if cell.synapse is not None else "") + ("LIF" if isinstance(cell, LIF) else "LI")
    node = getattr(nir, kind)(**values)
    node.metadata = {name: getattr(cell, name) for name in _KEPT if hasattr(cell, name)}
    return node


def _each(cell: Any, numbers: PyTree, name: str, shape: tuple[int, ...]) -> Array:
    """One number per neuron, in double precision."""
    if name not in cell.learn:
        return np.full(shape, getattr(cell, name), float)
    learned = np.asarray(numbers[name], float)
    return 1 / (1 + np.exp(-learned)) if name in cell.decays else learned


# ---------------------------------------------------------------------------- reading


def _chain(graph: Any) -> list[tuple[str, str, str | None]]:
    """Synapses, neurons and recurrent synapses by name, from the input to the output."""
    for name, node in graph.nodes.items():
        if type(node).__name__ not in ("Input", "Output", *SYNAPSES, *NEURONS):
            raise ModelError(
                f"The NIR graph has the node {name!r} of type {type(node).__name__}, which is not known.", _KNOWN
            )
    kinds = {name: type(node).__name__ for name, node in graph.nodes.items()}
    found: list[tuple[str, str, str | None]] = []
    at = _one([name for name, kind in kinds.items() if kind == "Input"], "an input")
    while True:
        loops = _loops(graph, kinds, at)
        after = _one([b for a, b in graph.edges if a == at and b not in loops], f"a node after {at!r}")
        if kinds[after] == "Output":
            return found
        if kinds[after] not in SYNAPSES:
            raise ModelError(f"The node {after!r} of the NIR graph follows {at!r}, expected synapses there.", _KNOWN)
        neuron = _one([b for a, b in graph.edges if a == after], f"neurons after {after!r}")
        if kinds[neuron] not in NEURONS:
            raise ModelError(f"The node {neuron!r} of the NIR graph follows {after!r}, expected neurons there.", _KNOWN)
        recurrent = _loops(graph, kinds, neuron)
        found.append((after, neuron, _one(sorted(recurrent), "recurrent synapses") if recurrent else None))
        at = neuron


def _loops(graph: Any, kinds: dict[str, str], neuron: str) -> set[str]:
    """Synapses from neurons to themselves."""
    edges = set(graph.edges)
    return {b for a, b in edges if a == neuron and kinds[b] in SYNAPSES and (b, neuron) in edges}


def _one(names: list[str], what: str) -> str:
    if len(names) != 1:
        given = ", ".join(map(repr, names)) or "none"
        raise ModelError(
            f"The NIR graph has {given} for {what}, expected exactly one.", "Networks are chains of stages."
        )
    return names[0]


def _stage(nodes: Any, synapse: str, neuron: str, recurrent: str | None, dt: float) -> tuple[Stage, PyTree]:
    node = nodes[neuron]
    cell, numbers, factor = _cell(neuron, node, dt)
    weights = {"w": np.asarray(nodes[synapse].weight).T * factor}
    if hasattr(nodes[synapse], "bias"):
        weights["b"] = np.asarray(nodes[synapse].bias) * factor
    own = {"input": weights, "cell": numbers}
    if recurrent is not None:
        if hasattr(nodes[recurrent], "bias"):
            raise ModelError(
                f"The recurrent synapses {recurrent!r} of the NIR graph have a bias.", "Use a Linear node."
            )
        own["recurrent"] = np.asarray(nodes[recurrent].weight).T * factor
    layer = dense(weights["w"].shape[1], bias="b" in weights)
    return Stage(layer, cell, recurrent is not None), jax.tree.map(jnp.asarray, own)


def _cell(name: str, node: Any, dt: float) -> tuple[Any, dict[str, Array], Any]:
    """The cell, its learned numbers, and a factor of its incoming weights."""
    kind = type(node).__name__
    rates = {"decay": dt / np.asarray(node.tau_mem if "Cuba" in kind else node.tau, float)}
    gain = np.asarray(node.r, float) * rates["decay"]
    if "Cuba" in kind:
        rates["synapse"] = dt / np.asarray(node.tau_syn, float)
    values = {key: 1 - rate for key, rate in rates.items()}
    factor = np.asarray(node.w_in, float) * rates["synapse"] if "synapse" in rates else np.ones(())
    settings: dict[str, Any] = {"v_rest": _same(name, "v_leak", node.v_leak)}
    if kind.endswith("LIF"):
        values["threshold"] = np.asarray(node.v_threshold, float)
        settings |= {"reset": "hard", "v_reset": _same(name, "v_reset", node.v_reset)}
        settings |= {key: value for key, value in dict(node.metadata).items() if key in _KEPT}
    factor, settings["input_gain"] = (factor, gain.flat[0]) if _uniform(gain) else (factor * gain, 1.0)
    learn = tuple(key for key, value in values.items() if not _uniform(value))
    settings |= {key: float(np.mean(value)) if key in learn else float(value.flat[0]) for key, value in values.items()}
    numbers = {key: values[key] if key == "threshold" else np.log(values[key] / (1 - values[key])) for key in learn}
    settings["input_gain"] = float(settings["input_gain"])
    return NEURONS[kind](**settings, learn=learn), numbers, 1.0 if np.allclose(factor, 1, rtol=1e-12) else factor


def _uniform(values: Array) -> bool:
    return bool(np.allclose(values, np.asarray(values).flat[0], rtol=1e-12, atol=0))


def _same(name: str, what: str, values: Any) -> float:
    if not _uniform(values):
        raise ModelError(f"The neurons {name!r} of the NIR graph differ in {what}.", "Give them one value.")
    return float(np.asarray(values).flat[0])
