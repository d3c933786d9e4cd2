"""How far is every estimator from the true gradient, for which beta? Float64, settled phases, 6-5-4-3 with sigmoids.

python benchmarks/ep_bias.py [--picture docs/assets/ep-bias.png] [--json FILE]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from timing import write

from neurai_core.errors import NeurAIError
from neurai_core.grads import EP
from neurai_core.layered import Layered, dense
from neurai_core.report.canvas import COLORS, MARKERS, canvas

BETAS = tuple(np.geomspace(0.01, 0.9, 10))
ESTIMATORS: dict[str, dict[str, Any]] = {
    "two_phase": {"mode": "two_phase"},
    "symmetric": {"mode": "symmetric"},
    "richardson": {"mode": "richardson"},
    "holomorphic, 3 points": {"mode": "holomorphic", "n_points": 3},
    "holomorphic, 6 points": {"mode": "holomorphic", "n_points": 6},
}
PAIRS = {
    "hopfield, squared error": {"loss_f": "squared_error", "energy": "hopfield", "dt": 0.5},
    "gaussian, cross entropy": {"loss_f": "cross_entropy", "energy": "gaussian", "dt": 0.2, "init": "zeros"},
}


def problem() -> tuple[Any, Any, Any]:
    model = Layered((dense(5, "sigmoid"), dense(4, "sigmoid"), dense(3)))
    params, _ = model.init(jax.random.key(1), (6,))
    batch = jax.random.normal(jax.random.key(2), (4, 6)), jnp.arange(4) % 3
    return model, params, batch


def gradient(beta: float, **settings: Any) -> Any:
    method = EP(beta=beta, n_relax=500, activation="sigmoid", **settings)
    return jax.flatten_util.ravel_pytree(method.get_grads(*problem())[0])[0]


def measure() -> dict[str, dict[str, list[float]]]:
    """Relative error by energy, estimator and beta; the reference extrapolates from a tiny nudge."""
    found: dict[str, dict[str, list[float]]] = {}
    for pair, settings in PAIRS.items():
        exact = gradient(0.02, mode="holomorphic", n_points=8, **settings)
        found[pair] = {}
        for name, estimator in ESTIMATORS.items():
            errors = []
            for beta in BETAS:
                try:
                    wrong = gradient(float(beta), **settings, **estimator) - exact
                    errors.append(float(jnp.linalg.norm(wrong) / jnp.linalg.norm(exact)))
                except NeurAIError:
                    errors.append(float("nan"))
            found[pair][name] = errors
            print(f"{pair:26} {name:24}", " ".join(f"{error:8.1e}" for error in errors))
    return found


def draw(found: dict[str, dict[str, list[float]]], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with canvas(path, (9.2, 4.0)) as figure:
        panels = figure.subplots(1, 2, sharey=True)
        for axes, (pair, lines) in zip(panels, found.items(), strict=True):
            for (name, errors), color, marker in zip(lines.items(), COLORS, MARKERS, strict=False):
                axes.loglog(BETAS, errors, marker + "-", color=color, markersize=3, linewidth=1.5, label=name)
            axes.set_title(pair)
            axes.set_xlabel("beta")
        panels[0].set_ylabel("relative error of the gradient")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", type=Path, help="write the picture to this file")
    parser.add_argument("--json", help="write the figures to this file")
    args = parser.parse_args()
    with jax.enable_x64(True):
        found = measure()
    if args.picture:
        draw(found, args.picture)
    write(args.json, {"betas": list(BETAS), "relative_error": found})


if __name__ == "__main__":
    main()
