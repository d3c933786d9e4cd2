"""A NIR graph read as a chain: its input, then stage by stage the names of synapses, neurons and recurrent synapses."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from neurai_core.errors import ModelError
from neurai_core.models.spiking.nir_nodes import KNOWN, NEURONS, SYNAPSES, WEIGHTS

Nodes: TypeAlias = dict[str, Any]
Edges: TypeAlias = list[tuple[str, str]]


def inlined(graph: Any, prefix: str = "") -> tuple[Nodes, Edges]:
    """Nodes and edges with nested graphs inlined: some programs nest recurrent neurons."""
    nodes, edges = {}, [(f"{prefix}{a}", f"{prefix}{b}") for a, b in graph.edges]
    for name, node in graph.nodes.items():
        full = f"{prefix}{name}"
        if type(node).__name__ != "NIRGraph":
            nodes[full] = node
            continue
        inside, inner = inlined(node, f"{full}.")
        first, last = (_one(_of_kind(inside, kind), f"an {kind} of {full!r}") for kind in ("Input", "Output"))
        nodes |= {key: one for key, one in inside.items() if key not in (first, last)}
        enter, leave = [b for a, b in inner if a == first], [a for a, b in inner if b == last]
        edges = [(a, after) for a, b in edges for after in (enter if b == full else [b])]
        edges = [(before, b) for a, b in edges for before in (leave if a == full else [a])]
        edges += [(a, b) for a, b in inner if a != first and b != last]
    return nodes, edges


def chain_of(nodes: Nodes, edges: Edges) -> tuple[str, list[tuple[list[str], str, str | None]]]:
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


def _refuse_unread(nodes: Nodes, read: set[str]) -> None:
    left = [name for name in nodes if name not in read]
    if left:
        raise ModelError(
            f"The NIR graph has {', '.join(map(repr, left))} beside the chain from its input to its output.",
            "Networks are chains of stages.",
        )


def _of_kind(nodes: Nodes, kind: str) -> list[str]:
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


def shape_of_input(name: str, node: Any, first: Any) -> tuple[int, ...]:
    """The shape of one example at one step, without the batch and time axes that some programs write."""
    given = (node.input_type or {}).get("input")
    if given is None:
        raise ModelError(f"The node {name!r} of the NIR graph has no shape.", "nir.Input({'input': np.array([784])})")
    shape = tuple(int(size) for size in np.ravel(given))
    axes = 1 if type(first).__name__ in WEIGHTS else 3
    extra = max(len(shape) - axes, 0)
    return shape[extra:] if set(shape[:extra]) <= {1} else shape
