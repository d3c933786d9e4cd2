"""Forward-Forward: four hidden layers, each trained on its own, and how many more epochs it takes.

python benchmarks/figures/forward_forward.py [--seeds 3] [--json FILE]

Hinton 2022, arXiv:2212.13345: four hidden layers of 2000 rectified units reach a test error of 1.36% on MNIST after
60 epochs, for which back-propagation takes about 20. Here: digits, four hidden layers of 200 rectified units, Adam at
0.005 for Forward-Forward and at 0.001 for back-propagation, batches of 64. Errors are those of the test images, in
percent.
"""

from __future__ import annotations

from typing import Any

import optax
from digits_run import run, script

import neurai_core as neurai

HIDDEN, EPOCHS, AT = (200,) * 4, 60, (5, 20, 60)
RATES = {"forward-forward": 0.005, "bp": 0.001}


def figure(seed: int) -> dict[str, Any]:
    """Errors over the epochs, and the first epoch at which back-propagation is as good as the other at its end."""
    errors = {}
    for name, rate in RATES.items():
        rule = neurai.algorithm(name, loss="cross_entropy")
        errors[name] = [one.test_error for one in run(rule, HIDDEN, optax.adam(rate), EPOCHS, seed, "relu")]
    found: dict[str, Any] = {f"{name}, epoch {at}": errors[name][at] for name in errors for at in AT}
    end = errors["forward-forward"][-1]
    reached = (epoch for epoch, error in enumerate(errors["bp"]) if error <= end)
    return found | {"epochs of bp to the end of forward-forward": next(reached, EPOCHS)}


if __name__ == "__main__":
    script(__doc__, figure)
