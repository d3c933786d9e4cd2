"""FabricPC's trainings for pc_training.py: its graph, solvers and training step."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import optax
import training
from fabricpc.core.activations import IdentityActivation, ReLUActivation, SigmoidActivation, SoftmaxActivation
from fabricpc.core.energy import CrossEntropyEnergy
from fabricpc.core.inference import InferenceSGD
from fabricpc.core.inference_epc import EPCInference
from fabricpc.core.topology import Edge
from fabricpc.graph_assembly import TaskMap, graph
from fabricpc.graph_initialization import initialize_params
from fabricpc.nodes import Linear
from fabricpc.training.trainer import make_train_step

HIDDEN = {"relu": ReLUActivation, "sigmoid": SigmoidActivation}


def structure_of(work: training.Work) -> Any:
    """The graph of the network; ``strict`` has the settings of its own comparison, ``error`` the defaults."""
    first, *hidden, last = work.sizes
    nodes = [Linear(shape=(first,), name="n0", activation=IdentityActivation())]
    activation = HIDDEN[work.activation]()
    nodes += [Linear(shape=(size,), name=f"n{i}", activation=activation) for i, size in enumerate(hidden, 1)]
    nodes += [Linear(shape=(last,), name="out", activation=SoftmaxActivation(), energy=CrossEntropyEnergy())]
    edges = [Edge(source=a, target=b.slot("in")) for a, b in itertools.pairwise(nodes)]
    solver = EPCInference() if work.method == "error" else InferenceSGD(eta_infer=0.05, infer_steps=20)
    return graph(nodes=nodes, edges=edges, task_map=TaskMap(x=nodes[0], y=nodes[-1]), inference=solver)


def main() -> None:
    work = training.asked()
    structure, key = structure_of(work), jax.random.PRNGKey(work.seed)
    params: Any = initialize_params(structure, key)
    drawn = training.weights(work)
    for name, weights in zip([*(f"n{i}" for i in range(1, len(drawn))), "out"], drawn, strict=True):
        node = params.nodes[name]
        (edge,) = node.weights
        params.nodes[name] = node._replace(
            weights={edge: jnp.asarray(weights)}, biases=jax.tree.map(jnp.zeros_like, node.biases)
        )
    optimizer = optax.adamw(training.RATE, weight_decay=training.DECAY)
    update = make_train_step(structure, optimizer, algorithm="backprop" if work.method == "bp" else "pc")
    carry = params, optimizer.init(params)

    def step(x: Any, y: Any) -> None:
        nonlocal carry
        new, moments, *_ = update(*carry, {"x": jnp.asarray(x), "y": jnp.asarray(y)}, key)
        carry = new, moments

    def outputs(x: Any) -> Any:
        for name in [f"n{i}" for i in range(1, len(drawn))]:
            node = carry[0].nodes[name]
            (weights,), (bias,) = node.weights.values(), node.biases.values()
            x = getattr(jax.nn, work.activation)(x @ weights + bias)
        (weights,), (bias,) = carry[0].nodes["out"].weights.values(), carry[0].nodes["out"].biases.values()
        return x @ weights + bias

    training.answer(work, step, outputs, lambda: jax.block_until_ready(carry))


if __name__ == "__main__":
    main()
