"""Difference target propagation: with the difference, targets train deep networks; without it, they do not.

python benchmarks/figures/dtp.py [--seeds 3] [--json FILE]

Lee et al. 2015, arXiv:1412.7525, report that the correction by the difference makes target propagation work in deep
networks, with results comparable to back-propagation. Here: digits, five hidden layers of 128 tanh units, Adam at 1e-3,
batches of 64, 60 epochs. The correction is left out by propagating g(t) in place of h + g(t) - g(h).
"""

from __future__ import annotations

from typing import Any

import optax
from digits_run import last, run, script

import neurai_core as neurai
from neurai_algorithms.target_propagation import rule as target_propagation

HIDDEN, EPOCHS, STEPS = (128,) * 5, 60, optax.adam(1e-3)


def without_difference(model: Any, inverses: Any, h: list[Any], last: Any) -> list[Any]:
    """t_l - h_l where the target is what the inverse makes of the target above."""
    found = [last]
    layers = list(zip(model.layers[:-1], inverses, h[:-1], h[1:], strict=True))
    for layer, own, below, above in reversed(layers):
        found.append(layer.activation((above + found[-1]) @ own["w"] + own["b"]) - below)
    return found[::-1]


def figure(seed: int) -> dict[str, Any]:
    """Training and test errors in percent."""
    found = {}
    kept = target_propagation.differences
    for name in ("bp", "dtp", "dtp without the difference"):
        target_propagation.differences = without_difference if name.endswith("difference") else kept
        end = last(run(neurai.algorithm(name.split()[0]), HIDDEN, STEPS, EPOCHS, seed))
        found |= {f"{name}, training error": end.train_error, f"{name}, test error": end.test_error}
    target_propagation.differences = kept
    return found


if __name__ == "__main__":
    script(__doc__, figure)
