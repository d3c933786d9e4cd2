"""How well do spiking networks learn? Test accuracy after training by back-propagation through time, several seeds.

python benchmarks/snn_quality.py [TASK ...] [--seeds 5] [--surrogates] [--json FILE]

With --surrogates the task randman is trained with every surrogate over a range of widths: is learning robust to
the shape of the surrogate and sensitive to its scale, as Zenke and Vogels 2021 say?
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import mean, stdev
from typing import Any

import jax
import numpy as np
import optax
from timing import write

import neurai_core as neurai
from neurai_core.losses import accuracy
from neurai_core.models.spiking import LIF, SpikingNetwork, exact_decay, snn
from neurai_core.training.data import Dataset, order


@dataclass(frozen=True)
class Task:
    """A data set, a network and how it is trained; what is None is as `snn` has it, and so the command line."""

    data: str
    hidden: int = 128
    settings: dict[str, Any] = field(default_factory=dict)
    steps: int | None = None
    epochs: int = 25
    batch: int = 32
    lr: float = 2e-3
    alpha: float = 10.0
    cell: LIF | None = None
    readout: str = "mean"
    rule: str = "bp"
    recurrent: bool = False


LATENCY = Task("spiking-digits", settings={"coding": "latency", "steps": 50})
CURRENT_BASED = LIF(exact_decay(20.0), synapse=exact_decay(10.0))
TASKS = {
    "digits latency": LATENCY,
    "digits rate": Task("spiking-digits", settings={"coding": "rate", "steps": 50}),
    "digits held": Task("digits", steps=50),
    "yin-yang": Task(
        "yin-yang",
        hidden=120,
        settings={"steps": 60},
        epochs=60,
        batch=64,
        alpha=5.0,
        cell=LIF(exact_decay(20.0), synapse=exact_decay(5.0)),
        readout="max",
    ),
    "randman": Task(
        "randman",
        settings={"smoothness": 1.5, "dimension": 2, "units": 20},
        epochs=10,
        batch=256,
        cell=CURRENT_BASED,
        readout="max",
    ),
    "fashion-mnist": Task("fashion-mnist", hidden=256, steps=25, epochs=5, batch=128, cell=LIF(exact_decay(10.0))),
    "digits latency, e-prop": replace(LATENCY, rule="eprop"),
    "digits latency, recurrent e-prop": replace(LATENCY, rule="eprop", recurrent=True),
}
ALPHAS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
SHAPES = ("superspike", "sigmoid", "gaussian", "rectangular", "polynomial")


def model_of(task: Task, data: Dataset, surrogate: Any) -> SpikingNetwork:
    inputs = data.input_shape[-1] if task.steps is None else int(np.prod(data.input_shape))
    return snn(
        (inputs, task.hidden, len(data.classes or ())),
        surrogate=surrogate,
        steps=task.steps,
        cell=task.cell,
        recurrent=task.recurrent,
        readout=task.readout,
    )


def train(task: Task, data: Dataset, surrogate: Any, seed: int) -> tuple[float, float]:
    """Test accuracy at the end, and seconds."""
    model, rule = model_of(task, data, surrogate), neurai.algorithm(task.rule, loss="cross_entropy")
    flat = (lambda x: x.reshape(len(x), -1)) if task.steps is not None else (lambda x: x)
    x, y = flat(data.x_train), data.y_train
    count = len(x) // task.batch
    optimizer = optax.adam(optax.cosine_decay_schedule(task.lr, task.epochs * count))
    params, _ = model.init(jax.random.key(seed), x.shape[1:])
    state = optimizer.init(params)

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params: Any, state: Any, x: jax.Array, y: jax.Array) -> Any:
        estimate, _ = rule.estimate(model, params, (), (x, y))
        updates, state = optimizer.update(estimate.grads, state)
        return optax.apply_updates(params, updates), state

    began = time.perf_counter()
    for epoch in range(task.epochs):
        rows = order(seed, epoch, len(x))
        for i in range(count):
            batch = rows[i * task.batch : (i + 1) * task.batch]
            params, state = step(params, state, x[batch], y[batch])
    score = jax.jit(lambda params, x, y: accuracy(model(params, x), y))
    reached = [
        float(score(params, flat(data.x_test[i : i + 500]), data.y_test[i : i + 500]))
        for i in range(0, len(data.x_test), 500)
    ]
    sizes = [len(data.x_test[i : i + 500]) for i in range(0, len(data.x_test), 500)]
    return float(np.average(reached, weights=sizes)), time.perf_counter() - began


def run(name: str, task: Task, surrogate: Any, seeds: int) -> dict[str, Any]:
    data = neurai.dataset(task.data, **task.settings)
    made = [train(task, data, surrogate, seed) for seed in range(seeds)]
    scores, seconds = [score for score, _ in made], [spent for _, spent in made]
    spread = stdev(scores) if seeds > 1 else 0.0
    print(f"{name:44} {mean(scores):.4f} +- {spread:.4f}  (worst {min(scores):.4f}, {mean(seconds):.0f} s)", flush=True)
    return {"scores": scores, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", help=f"of: {', '.join(TASKS)}")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, help="instead of each task's own")
    parser.add_argument("--surrogates", action="store_true", help="randman over surrogates and widths")
    parser.add_argument("--alphas", nargs="+", type=float, default=ALPHAS, help="what --surrogates goes through")
    parser.add_argument("--json", help="write the figures to this file")
    args = parser.parse_args()
    results = {}
    for name in args.tasks or ([] if args.surrogates else list(TASKS)):
        task = replace(TASKS[name], epochs=args.epochs or TASKS[name].epochs)
        results[name] = run(name, task, neurai.surrogate("superspike", alpha=task.alpha), args.seeds)
    randman = replace(TASKS["randman"], epochs=args.epochs or TASKS["randman"].epochs)
    for shape in SHAPES if args.surrogates else ():
        for alpha in args.alphas:
            spike = neurai.surrogate(shape, alpha=alpha)
            width = float(spike.facts.half_width)
            name = f"randman, {shape}, half width {width:.3g}, area {float(spike.facts.area):.3g}"
            results[f"{shape} {alpha}"] = run(name, randman, spike, args.seeds) | {"half_width": width}
    write(args.json, results)


if __name__ == "__main__":
    main()
