"""FabricPC's strict solver on a convolutional network, with a node for every convolution, pooling and dense layer."""

from __future__ import annotations

import itertools
from typing import Any

import fabricpc
import images
import jax
import jax.numpy as jnp
import optax
import worker
from fabricpc.core.activations import IdentityActivation, ReLUActivation
from fabricpc.core.inference import InferenceSGD
from fabricpc.core.topology import Edge
from fabricpc.graph_assembly import TaskMap, graph
from fabricpc.graph_initialization import initialize_params
from fabricpc.nodes import AvgPool, ConvNode, IdentityNode, Linear, MaxPool
from fabricpc.training.trainer import make_train_step


def nodes_of(pool: str, kinds: list[tuple[Any, ...]], shape: tuple[int, ...]) -> list[Any]:
    """The input, then one node per layer."""
    nodes: list[Any] = [IdentityNode(shape=shape, name="x")]
    for index, (kind, *sizes) in enumerate(kinds):
        name = f"n{index}"
        if kind == "conv":
            out, kernel, pad = sizes
            shape = (*(side + 2 * pad - kernel + 1 for side in shape[:2]), out)
            pads = ((pad, pad), (pad, pad))
            nodes.append(ConvNode(shape, name, (kernel, kernel), padding=pads, activation=ReLUActivation()))
        elif kind == "pool":
            shape = (shape[0] // 2, shape[1] // 2, shape[2])
            nodes.append({"average": AvgPool, "max": MaxPool}[pool](shape, name, (2, 2)))
        elif kind == "dense":
            last = index == len(kinds) - 1
            flat, shape = len(shape) > 1, (sizes[0],)
            activation = IdentityActivation() if last else ReLUActivation()
            nodes.append(Linear(shape, name, activation=activation, flatten_input=flat))
    return nodes


def main() -> None:
    pool, kinds, _, x, y = images.problem()
    nodes = nodes_of(pool, kinds, x.shape[1:])
    edges = [Edge(source=a, target=b.slot("in")) for a, b in itertools.pairwise(nodes)]
    solver = InferenceSGD(eta_infer=worker.ETA, infer_steps=worker.SWEEPS)
    structure = graph(nodes=nodes, edges=edges, task_map=TaskMap(x=nodes[0], y=nodes[-1]), inference=solver)
    key, optimizer = jax.random.PRNGKey(0), optax.sgd(worker.RATE)
    params = initialize_params(structure, key)
    carry, batch = optimizer.init(params), {"x": jnp.asarray(x), "y": jnp.asarray(y)}
    step = make_train_step(structure, optimizer)
    versions = f"fabricpc {fabricpc.__version__}, jax {jax.__version__}"
    call = {"FabricPC pc strict": lambda: jax.block_until_ready(step(params, carry, batch, key))}
    worker.serve(call, versions, calls=1)


if __name__ == "__main__":
    main()
