"""Feedback alignment: the angle between its gradients and those of back-propagation falls while it learns.

python benchmarks/figures/fa.py [--seeds 3] [--json FILE]

Lillicrap et al. 2016, doi:10.1038/ncomms13276: the teaching signal of random feedback comes to lie within 90 degrees of
that of back-propagation, and learning is as effective. Here: digits, 64-64-64-10 with tanh units, gradient descent at a
rate of 0.1, batches of 64, 30 epochs. Angles are those of the gradients of all training images, in degrees.
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

HIDDEN, EPOCHS, STEPS = (64, 64), 30, optax.sgd(0.1)


def angles(epoch: Epoch) -> list[float]:
    """Between the gradients of the two hidden layers and those of back-propagation."""
    data = neurai.dataset("digits")
    x, y = data.x_train.reshape(len(data.x_train), -1), data.y_train
    found, _ = epoch.rule.estimate(epoch.model, epoch.params, epoch.state, (x, y))
    exact = jax.grad(lambda params: cross_entropy(epoch.model(params, x), y))(epoch.params)
    return [float(np.degrees(np.arccos(c))) for c in alignment(found.grads, exact)["cosine"][:2]]


def figure(seed: int) -> dict[str, Any]:
    """Angles at the start, after an epoch and at the end, and errors at the end beside back-propagation."""
    epochs = list(run(neurai.algorithm("fa"), HIDDEN, STEPS, EPOCHS, seed))
    at = {"at the start": epochs[0], "after an epoch": epochs[1], "at the end": epochs[-1]}
    found = {
        f"angle of layer {layer + 1} {when}": angle
        for when, epoch in at.items()
        for layer, angle in enumerate(angles(epoch))
    }
    exact = last(run(neurai.algorithm("bp"), HIDDEN, STEPS, EPOCHS, seed))
    return found | {"test error, fa": epochs[-1].test_error, "test error, bp": exact.test_error}


if __name__ == "__main__":
    script(__doc__, figure)
