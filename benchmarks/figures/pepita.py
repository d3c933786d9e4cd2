"""PEPITA: the forward weights come to align with the projection of the errors, and the updates with the gradient.

python benchmarks/figures/pepita.py [--seeds 3] [--json FILE]

Dellaferrera and Kreiman 2022, arXiv:2201.11665, train networks without a backward pass by a fixed random projection F
of the errors onto the inputs; Srinivasan et al., arXiv:2302.05440, show that this is well approximated by feedback
alignment with the adaptive feedback weights F W_1. Here: digits, 64-128-10 with tanh units, gradient descent at a
rate of 0.1, batches of 64, 60 epochs. The angles, in degrees, are those between -F W_1 and the transpose of W_2, and
between the updates of the hidden layer and the gradient, for all training images.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import optax
from digits_run import Epoch, last, run, script

import neurai_core as neurai
from neurai_core.losses import cross_entropy
from neurai_core.transforms import alignment

HIDDEN, EPOCHS, STEPS = (128,), 60, optax.sgd(0.1)


def angles(epoch: Epoch) -> dict[str, float]:
    """Between feedback and forward weights, and between update and gradient."""
    data = neurai.dataset("digits")
    x, y = data.x_train.reshape(len(data.x_train), -1), data.y_train
    found, _ = epoch.rule.estimate(epoch.model, epoch.params, epoch.state, (x, y))
    exact = jax.grad(lambda params: cross_entropy(epoch.model(params, x), y))(epoch.params)
    first, second = (layer["w"] for layer in epoch.params)
    weights = alignment([-epoch.state.own @ first], [second.T])["cosine"][0]
    updates = alignment(found.grads, exact)["cosine"][0]
    return {name: float(np.degrees(np.arccos(c))) for name, c in (("weights", weights), ("updates", updates))}


def figure(seed: int) -> dict[str, Any]:
    """Angles at the start, after an epoch and at the end, and errors beside back-propagation and feedback alignment."""
    epochs = list(run(neurai.algorithm("pepita"), HIDDEN, STEPS, EPOCHS, seed))
    at = {"at the start": epochs[0], "after an epoch": epochs[1], "after 10": epochs[10], "at the end": epochs[-1]}
    found = {f"angle of {name} {when}": a for when, epoch in at.items() for name, a in angles(epoch).items()}
    found["test error, pepita"] = epochs[-1].test_error
    for rule in ("bp", "fa"):
        found[f"test error, {rule}"] = last(run(neurai.algorithm(rule), HIDDEN, STEPS, EPOCHS, seed)).test_error
    return found


if __name__ == "__main__":
    script(__doc__, figure)
