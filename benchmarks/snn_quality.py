"""How well do spiking networks learn? Test accuracy after training by back-propagation through time, several seeds.

python benchmarks/snn_quality.py [TASK ...] [--seeds 5] [--json FILE]
python benchmarks/snn_quality.py --widths [--picture docs/assets/snn-widths.png] [--epochs 5] [--json FILE]

With --widths the task randman is trained with every surrogate, brought to a range of half widths by stretching it, once
with peak 1 and once with area 1: is learning robust to the shape of the surrogate and sensitive to its scale, as Zenke
and Vogels 2021 say?
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import jax
import numpy as np
import optax
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from timing import write

import neurai_core as neurai
from neurai_core.losses import accuracy
from neurai_core.models.spiking import LIF, SpikingNetwork, exact_decay, snn
from neurai_core.surrogate_makers import custom
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
WIDTHS = (0.01, 0.05, 0.2, 1.0, 5.0)
Training = Callable[[int, float], tuple[float, float]]


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


def training(task: Task, data: Dataset, spike: Callable[[Any], Any]) -> Training:
    """``(seed, number) -> (test accuracy at the end, seconds)``; ``spike(number)`` is the surrogate, compiled once."""
    rule = neurai.algorithm(task.rule, loss="cross_entropy")
    flat = (lambda x: x.reshape(len(x), -1)) if task.steps is not None else (lambda x: x)
    x, y = flat(data.x_train), data.y_train
    count = len(x) // task.batch
    optimizer = optax.adam(optax.cosine_decay_schedule(task.lr, task.epochs * count))

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params: Any, state: Any, number: Any, x: jax.Array, y: jax.Array) -> Any:
        estimate, _ = rule.estimate(model_of(task, data, spike(number)), params, (), (x, y))
        updates, state = optimizer.update(estimate.grads, state)
        return optax.apply_updates(params, updates), state

    score = jax.jit(lambda params, x, y: accuracy(model_of(task, data, spike(1.0))(params, x), y))

    def train(seed: int, number: float) -> tuple[float, float]:
        params, _ = model_of(task, data, spike(1.0)).init(jax.random.key(seed), x.shape[1:])
        state, began = optimizer.init(params), time.perf_counter()
        for epoch in range(task.epochs):
            rows = order(seed, epoch, len(x))
            for i in range(count):
                batch = rows[i * task.batch : (i + 1) * task.batch]
                params, state = step(params, state, number, x[batch], y[batch])
        parts = [slice(i, i + 500) for i in range(0, len(data.x_test), 500)]
        reached = [float(score(params, flat(data.x_test[one]), data.y_test[one])) for one in parts]
        return float(np.average(reached, weights=[len(data.x_test[one]) for one in parts])), time.perf_counter() - began

    return train


def run(name: str, train: Training, seeds: int, number: float = 1.0) -> dict[str, Any]:
    made = [train(seed, number) for seed in range(seeds)]
    scores, seconds = [score for score, _ in made], [spent for _, spent in made]
    spread = stdev(scores) if seeds > 1 else 0.0
    print(f"{name:44} {mean(scores):.4f} +- {spread:.4f}  (worst {min(scores):.4f}, {mean(seconds):.0f} s)", flush=True)
    return {"scores": scores, "seconds": seconds}


# ---------------------------------------------------------------------------- the shape and the scale of surrogates


def stretched(own: Any, scale: str) -> Callable[[Any], Any]:
    """The half width -> the surrogate stretched to it, with a peak or an area of 1."""
    facts = own.facts

    def times(width: Any) -> tuple[Any, Any]:
        """What u and what the derivative are multiplied by."""
        stretch = facts.half_width / width
        return stretch, (1 / facts.peak if scale == "peak" else stretch / facts.area)

    def derivative(u: Any, width: Any) -> Any:
        stretch, tall = times(width)
        return tall * own.derivative(stretch * u)

    def primitive(u: Any, width: Any) -> Any:
        stretch, tall = times(width)
        return tall / stretch * own.primitive(stretch * u)

    return lambda width: custom(derivative=derivative, primitive=primitive, width=width)


def over_widths(task: Task, seeds: int, picture: str | None) -> dict[str, Any]:
    data, found = neurai.dataset(task.data, **task.settings), {"peak": {}, "area": {}}
    for name, scale in product(sorted(neurai.names("surrogate")), found):
        own = neurai.surrogate(name)
        measure = getattr(own.facts, scale)
        if own.needs_key or not measure or not np.isfinite([measure, own.facts.half_width or np.inf]).all():
            print(f"{name}: left out, it draws, or its half width or {scale} is not finite")
            continue
        train = training(task, data, stretched(own, scale))
        found[scale][name] = [
            mean(run(f"{name}, {scale} 1, half width {w:g}", train, seeds, w)["scores"]) for w in WIDTHS
        ]
    if picture:
        draw(found, Path(picture))
    return found


def draw(found: dict[str, Any], path: Path) -> None:
    """Accuracy against half width, a line per surrogate and their median."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (scale, lines) in zip(figure.subplots(1, 2, sharey=True), found.items(), strict=True):
        for line in lines.values():
            axes.semilogx(WIDTHS, line, color="#0072b2", lw=1, alpha=0.35)
        axes.semilogx(WIDTHS, [median(column) for column in zip(*lines.values(), strict=True)], "o-", color="#d55e00")
        axes.set(xlabel="half width", title=f"{len(lines)} surrogates with {scale} 1, and their median")
        axes.grid(alpha=0.3)
    figure.axes[0].set(ylabel="test accuracy, randman")
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", help=f"of: {', '.join(TASKS)}")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, help="instead of each task's own")
    parser.add_argument("--widths", action="store_true", help="randman with every surrogate over half widths")
    parser.add_argument("--picture", help="write the picture of --widths to this PNG file")
    parser.add_argument("--json", help="write the figures to this file")
    args = parser.parse_args()
    tasks = {name: replace(task, epochs=args.epochs or task.epochs) for name, task in TASKS.items()}
    results: dict[str, Any] = {}
    for name in args.tasks or ([] if args.widths else list(TASKS)):
        task, data = tasks[name], neurai.dataset(TASKS[name].data, **TASKS[name].settings)
        spike = neurai.surrogate("superspike", alpha=task.alpha)
        results[name] = run(name, training(task, data, lambda _, spike=spike: spike), args.seeds)
    if args.widths:
        results["widths"] = over_widths(tasks["randman"], args.seeds, args.picture)
    write(args.json, results)


if __name__ == "__main__":
    main()
