"""The pictures of docs/predictive-coding.md: distance from back-propagation by loss scale, reach by n, float32 errors.

python benchmarks/pc_pictures.py [--only NAME] [--out docs/assets]
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from neurai_algorithms.predictive_coding.fixed_prediction import coefficients
from neurai_algorithms.predictive_coding.rule import build
from neurai_algorithms.predictive_coding.spec import PCConfig
from neurai_core.losses import cross_entropy, sum_cross_entropy
from neurai_core.models import mlp
from neurai_core.report.canvas import BLUE, GREEN, INK, VERMILION, canvas

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def problem(
    sizes: tuple[int, ...], batch: int, activation: str = "tanh", dtype: Any = jnp.float32, seed: int = 0
) -> Any:
    model = mlp(sizes, activation)
    params, _ = model.init(jax.random.key(seed), sizes[:1])
    x = jax.random.normal(jax.random.key(seed + 1), (batch, sizes[0]))
    y = jax.random.randint(jax.random.key(seed + 2), (batch,), 0, sizes[-1])
    return model, *jax.tree.map(lambda leaf: leaf.astype(jnp.float32).astype(dtype), (params, x)), y


def gradients(model: Any, params: Any, x: Any, y: Any, loss: Any = cross_entropy, **settings: Any) -> Any:
    rule = build(PCConfig(**settings), loss=loss)
    return jax.jit(lambda p, b: rule.estimate(model, p, (), b)[0].grads)(params, (x, y))


def distance(ours: Any, true: Any) -> float:
    flat = [jnp.concatenate([leaf.ravel().astype(jnp.float64) for leaf in jax.tree.leaves(t)]) for t in (ours, true)]
    return float(jnp.linalg.norm(flat[0] - flat[1]) / jnp.linalg.norm(flat[1]))


def loss_scale(axes: Any) -> None:
    """Distance from back-propagation after convergence, by batch size, for the three ways to scale a loss."""
    ways = {
        "sum": (sum_cross_entropy, 1.0, VERMILION, "o"),
        "mean": (cross_entropy, 1.0, BLUE, "s"),
        "mean, per_sample": (cross_entropy, "per_sample", GREEN, "^"),
    }
    for name, (loss, scale, color, marker) in ways.items():
        away = []
        for batch in BATCHES:
            task = problem((20, 32, 32, 32, 10), batch)
            strict = gradients(*task, loss, n=400, eta=0.2, loss_scale=scale)
            away.append(distance(strict, gradients(*task, loss, mode="exact")))
        # sum and per_sample relax alike: draw one dashed over the other
        axes.loglog(BATCHES, away, marker + ("--" if name == "sum" else "-"), color=color, label=name, alpha=0.8)
    axes.set(xlabel="batch size", ylabel="|PC - BP| / |BP|", title="Distance of strict PC from BP")
    axes.legend(title="loss")


def reach(axes: Any) -> None:
    """Share of the back-propagated error by distance from the output."""
    for n, color in ((20, BLUE), (60, GREEN), (200, VERMILION)):
        axes.semilogy(
            range(20), np.maximum(coefficients(0.1, n - 1, 20), 1e-30), "o-", color=color, label=f"n = {n}", ms=3
        )
    axes.axhline(0.01, color=INK, lw=1)
    axes.set(
        ylim=(1e-6, 2), xticks=range(0, 20, 4), xlabel="layers from the output", ylabel="share of the BP error",
        title="What n sweeps at eta = 0.1 reach",
    )  # fmt: skip
    axes.legend()


def rounding(axes: Any) -> None:
    """Relative error of float32 gradients, delta form against the plain difference of predictions and activities."""
    forms = {"activities as state": (_state_form, VERMILION, "o"), "this library": (gradients, BLUE, "s")}
    wrong: dict[str, list[list[float]]] = {name: [] for name in forms}
    for seed in (0, 10, 20):
        single = problem((20, *[128] * 19, 10), 32, "tanh", jnp.float32, seed)
        model, *numbers, y = single
        true = gradients(model, *jax.tree.map(lambda leaf: leaf.astype(jnp.float64), numbers), y)
        for name, (form, _, _) in forms.items():
            wrong[name].append([distance(g["w"], t["w"]) for g, t in zip(form(*single), true, strict=True)])
    for name, (_, color, marker) in forms.items():
        axes.semilogy(range(1, 21), np.median(wrong[name], axis=0), marker + "-", color=color, label=name, ms=3)
    axes.set(
        xticks=range(1, 21, 3),
        xlabel="layer",
        ylabel="relative error",
        title="float32 gradients, tanh, n = 20, median of 3 seeds",
    )
    axes.legend()


def _state_form(model: Any, params: Any, x: Any, y: Any) -> Any:
    """Strict predictive coding as it is usually written: activities are the state, errors their difference."""

    def predict(params: Any, activities: list[Any]) -> list[Any]:
        below = [x, *activities]
        return [f.apply(p, (), v)[0] for f, p, v in zip(model.layers, params, below, strict=True)]

    def energy(activities: list[Any]) -> Any:
        *hidden, top = predict(params, activities)
        return cross_entropy(top, y) + sum(jnp.sum((f - v) ** 2) / 2 for f, v in zip(hidden, activities, strict=True))

    @jax.jit
    def run() -> Any:
        activities, h = [], x
        for layer, own in zip(model.layers[:-1], params[:-1], strict=True):
            h = layer.apply(own, (), h)[0]
            activities.append(h)
        for _ in range(20):
            before = activities
            activities = [v - 0.1 * g for v, g in zip(activities, jax.grad(energy)(activities), strict=True)]
        *hidden, top = predict(params, before)
        errors = [*(f - v for f, v in zip(hidden, before, strict=True)), jax.grad(cross_entropy)(top, y)]
        return jax.vjp(lambda p: predict(p, activities), params)[1](errors)[0]

    return run()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "assets")
    parser.add_argument("--only", default="", help="draw those with this in their name")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    args.out.mkdir(parents=True, exist_ok=True)
    for name, draw, wide in (
        ("pc-loss-scale", loss_scale, False),
        ("pc-reach", reach, False),
        ("pc-rounding", rounding, True),
    ):
        if args.only not in name:
            continue
        with canvas(args.out / f"{name}.png", (5, 3.4), dpi=120) as figure, jax.enable_x64(wide):
            draw(figure.subplots())
        print(args.out / f"{name}.png")


if __name__ == "__main__":
    main()
