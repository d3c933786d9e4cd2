"""How well do spiking networks learn? Test accuracy after training by back-propagation through time, several seeds.

python benchmarks/snn_quality.py [TASK ...] [--seeds 5] [--json FILE]
python benchmarks/snn_quality.py --shapes [--picture docs/assets/snn-shapes.png] [--seeds 3] [--epochs 5] [--json FILE]

With --shapes the task randman is trained with every surrogate, stretched to a range of half widths, with a peak of 1;
and with some of them over a range of peaks, with recurrent hidden neurons and without: is learning robust to the shape
of the surrogate and sensitive to its scale, as Zenke and Vogels 2021 say?
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import jax
import numpy as np
import optax
from timing import write

import neurai_core as neurai
from neurai_core.data import Dataset, order
from neurai_core.losses import accuracy
from neurai_core.models.spiking import LIF, SpikingNetwork, exact_decay, snn
from neurai_core.report.canvas import BLUE, COLORS, MARKERS, VERMILION, canvas
from neurai_core.surrogates import custom


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
    bias: bool = True


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
        lr=8e-3,
        cell=CURRENT_BASED,
        bias=False,
    ),
    "fashion-mnist": Task("fashion-mnist", hidden=256, steps=25, epochs=5, batch=128, cell=LIF(exact_decay(10.0))),
    "digits latency, e-prop": replace(LATENCY, rule="eprop"),
    "digits latency, recurrent e-prop": replace(LATENCY, rule="eprop", recurrent=True),
}
WIDTHS, PEAKS = (0.01, 0.05, 0.2, 1.0, 5.0), (0.03, 0.1, 0.3, 1.0, 10.0)
SHAPES, WIDTH = ("superspike", "sigmoid", "gaussian", "rectangular", "triangle"), 0.2  # for the range of peaks
Training = Callable[[int, float], tuple[float, float]]


def model_of(task: Task, data: Dataset, surrogate: Any) -> SpikingNetwork:
    inputs = data.input_shape[-1] if task.steps is None else int(np.prod(data.input_shape))
    return snn(
        (inputs, task.hidden, len(data.classes or ())),
        surrogate=surrogate,
        steps=task.steps,
        cell=task.cell,
        recurrent=task.recurrent,
        bias=task.bias,
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


def stretched(own: Any, width: float | None = None) -> Callable[[Any], Any]:
    """The half width -> the surrogate stretched to it, with peak 1; with ``width``, the peak -> the surrogate."""
    facts = own.facts

    def times(number: Any) -> tuple[Any, Any]:
        """What u and what the derivative are multiplied by."""
        wide, peak = (number, 1.0) if width is None else (width, number)
        return facts.half_width / wide, peak / facts.peak

    def derivative(u: Any, number: Any) -> Any:
        stretch, tall = times(number)
        return tall * own.derivative(stretch * u)

    def primitive(u: Any, number: Any) -> Any:
        stretch, tall = times(number)
        return tall / stretch * own.primitive(stretch * u)

    return lambda number: custom(derivative=derivative, primitive=primitive, number=number)


def accuracies(label: str, task: Task, data: Dataset, spike: Any, numbers: Sequence[float], seeds: int) -> list[float]:
    """Mean test accuracy for every number."""
    train = training(task, data, spike)
    return [mean(run(f"{label} {number:g}", train, seeds, number)["scores"]) for number in numbers]


def over_widths(task: Task, data: Dataset, names: Sequence[str], seeds: int) -> dict[str, list[float]]:
    """Surrogate -> accuracy over `WIDTHS`."""
    found = {}
    for name in names:
        own = neurai.surrogate(name)
        if own.needs_key or not own.facts.half_width or not np.isfinite(own.facts.half_width):
            print(f"{name}: left out, it draws, or has no finite half width")
            continue
        found[name] = accuracies(f"{name}, half width", task, data, stretched(own), WIDTHS, seeds)
    return found


def over_peaks(task: Task, data: Dataset, seeds: int) -> dict[str, list[float]]:
    """Surrogate -> accuracy over `PEAKS` with recurrent neurons; the first one without as well."""
    recurrent = replace(task, recurrent=True, cell=replace(CURRENT_BASED, input_gain=0.2))
    one = {f"{SHAPES[0]}, feed-forward": (SHAPES[0], task)}
    lines = one | {name: (name, recurrent) for name in SHAPES}
    return {
        label: accuracies(f"{label}, peak", own, data, stretched(neurai.surrogate(name), WIDTH), PEAKS, seeds)
        for label, (name, own) in lines.items()
    }


def draw(widths: dict[str, list[float]], peaks: dict[str, list[float]], path: Path) -> None:
    """Accuracy against half width, a line per surrogate and their median; and against the peak."""
    with canvas(path, (9, 4.2), dpi=120) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        for line in widths.values():
            left.semilogx(WIDTHS, line, color=BLUE, lw=1, alpha=0.35)
        middle = [median(column) for column in zip(*widths.values(), strict=True)]
        left.semilogx(WIDTHS, middle, "o-", color=VERMILION)
        left.set(xlabel="half width", title=f"{len(widths)} surrogates with peak 1, and their median")
        left.set(ylabel="test accuracy, randman")
        for (label, line), color, marker in zip(peaks.items(), COLORS, MARKERS, strict=True):
            alone = "feed-forward" in label
            name, dashes = (label, "--") if alone else (f"{label}, recurrent", "-")
            right.semilogx(PEAKS, line, marker + dashes, color=color, lw=1, ms=5, label=name)
        right.set(xlabel="peak", title=f"half width {WIDTH}")
        figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", help=f"of: {', '.join(TASKS)}")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, help="instead of each task's own")
    parser.add_argument("--shapes", action="store_true", help="randman with every surrogate over half widths and peaks")
    parser.add_argument("--picture", help="write the picture of --shapes to this PNG file")
    parser.add_argument("--json", help="write the figures to this file")
    args = parser.parse_args()
    tasks = {name: replace(task, epochs=args.epochs or task.epochs) for name, task in TASKS.items()}
    results: dict[str, Any] = {}
    for name in args.tasks or ([] if args.shapes else list(TASKS)):
        task, data = tasks[name], neurai.dataset(TASKS[name].data, **TASKS[name].settings)
        spike = neurai.surrogate("superspike", alpha=task.alpha)
        results[name] = run(name, training(task, data, lambda _, spike=spike: spike), args.seeds)
    if args.shapes:
        task = tasks["randman"]
        data = neurai.dataset(task.data, **task.settings)
        results["widths"] = over_widths(task, data, sorted(neurai.names("surrogate")), args.seeds)
        results["peaks"] = over_peaks(task, data, args.seeds)
        if args.picture:
            draw(results["widths"], results["peaks"], Path(args.picture))
    write(args.json, results)


if __name__ == "__main__":
    main()
