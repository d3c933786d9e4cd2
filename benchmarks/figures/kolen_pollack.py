"""Kolen-Pollack: the angle between forward and feedback weights falls to zero, and that of feedback alignment does not.

python benchmarks/figures/kolen_pollack.py [--seeds 3] [--json FILE]

Akrout et al. 2019, arXiv:1904.05391, show that feedback weights learn to match forward weights quickly and accurately,
where those of feedback alignment stay apart. Here: digits, 64-64-64-10 with tanh units, AdamW at 5e-3 with a weight
decay of 1, batches of 64, 60 epochs. Angles are those between the weights of layer 2 and its feedback weights, in
degrees.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import optax
from digits_run import Epoch, run, script

import neurai_core as neurai

HIDDEN, EPOCHS, STEPS = (64, 64), 60, optax.adamw(5e-3, weight_decay=1.0)


def angle(epoch: Epoch) -> float:
    """Between W and B of the second layer."""
    if isinstance(epoch.params, dict):
        w, b = epoch.params["forward"][1]["w"], epoch.params["feedback"][1]
    else:
        w, b = epoch.params[1]["w"], epoch.state.own[1]
    return float(np.degrees(np.arccos(np.sum(w * b) / np.linalg.norm(w) / np.linalg.norm(b))))


def figure(seed: int) -> dict[str, Any]:
    """Angles by epoch, and test errors in percent."""
    found = {}
    for name in ("kolen-pollack", "fa"):
        epochs = list(run(neurai.algorithm(name), HIDDEN, STEPS, EPOCHS, seed))
        found |= {f"{name}, angle after {n} epochs": angle(epochs[n]) for n in (0, 5, 20, EPOCHS)}
        found |= {f"{name}, test error": epochs[-1].test_error}
    return found


if __name__ == "__main__":
    script(__doc__, figure)
