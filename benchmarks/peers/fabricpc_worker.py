"""FabricPC's strict solver for pc_peers.py: its graph, InferenceSGD, and the training step that it makes itself."""

from __future__ import annotations

import itertools
from typing import Any

import fabricpc
import jax
import jax.numpy as jnp
import optax
import worker
from fabricpc.core.activations import IdentityActivation, ReLUActivation
from fabricpc.core.inference import InferenceSGD
from fabricpc.core.topology import Edge
from fabricpc.graph_assembly import TaskMap, graph
from fabricpc.graph_initialization import initialize_params
from fabricpc.nodes import Linear
from fabricpc.training.trainer import make_train_step


def structure_of(sizes: list[int]) -> Any:
    last = len(sizes) - 1
    nodes = [
        Linear(shape=(size,), name=f"n{l}", activation=IdentityActivation() if l in (0, last) else ReLUActivation())
        for l, size in enumerate(sizes)
    ]
    edges = [Edge(source=a, target=b.slot("in")) for a, b in itertools.pairwise(nodes)]
    solver = InferenceSGD(eta_infer=worker.ETA, infer_steps=worker.SWEEPS)
    return graph(nodes=nodes, edges=edges, task_map=TaskMap(x=nodes[0], y=nodes[-1]), inference=solver)


def main() -> None:
    sizes, _, x, y = worker.problem()
    structure, key = structure_of(sizes), jax.random.PRNGKey(0)
    params, optimizer = initialize_params(structure, key), optax.sgd(worker.RATE)
    carry, batch = optimizer.init(params), {"x": jnp.asarray(x), "y": jnp.asarray(y)}
    step = make_train_step(structure, optimizer)
    versions = f"fabricpc {fabricpc.__version__}, jax {jax.__version__}"
    worker.serve({"FabricPC InferenceSGD": lambda: jax.block_until_ready(step(params, carry, batch, key))}, versions)


if __name__ == "__main__":
    main()
