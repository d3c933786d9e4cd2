"""Direct feedback alignment: deep networks fit their training data, without an error passing from layer to layer.

python benchmarks/figures/dfa.py [--seeds 3] [--json FILE]

Nøkland 2016, arXiv:1609.01596, reports a training error of zero even in very deep networks, and test errors almost as
low as with back-propagation. Here: digits, 2, 5 and 10 hidden layers of 128 tanh units, Adam at 1e-3, batches of 64,
60 epochs.
"""

from __future__ import annotations

from typing import Any

import optax
from digits_run import last, run, script

import neurai_core as neurai

DEPTHS, WIDTH, EPOCHS, STEPS = (2, 5, 10), 128, 60, optax.adam(1e-3)


def figure(seed: int) -> dict[str, Any]:
    """Training and test errors in percent, by depth, beside feedback alignment and back-propagation."""
    found = {}
    for depth in DEPTHS:
        for rule in ("bp", "fa", "dfa"):
            end = last(run(neurai.algorithm(rule), (WIDTH,) * depth, STEPS, EPOCHS, seed))
            found |= {f"{rule}, {depth} hidden layers, training error": end.train_error}
            found |= {f"{rule}, {depth} hidden layers, test error": end.test_error}
    return found


if __name__ == "__main__":
    script(__doc__, figure)
