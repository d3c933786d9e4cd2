"""SoftHebb seen once, and in noise, beside back-propagation.

python benchmarks/figures/softhebb.py [--seeds 5] [--json FILE]

Moraitis et al. 2022, doi:10.1088/2634-4386/aca710: in comparisons with back-propagation of shallow networks, SoftHebb
converges in fewer iterations, and is significantly more robust to noise. Here: 256 units on the digits. Those of
SoftHebb, and the same units untrained, are read off by a linear probe of the training images; back-propagation trains
64-256-10 with rectified units by Adam. Accuracies in percent, after 1 and 25 epochs, on test images with Gaussian
noise of a standard deviation of 0, 0.25 and 0.5 (pixels reach from 0 to 1).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from digits_run import script

import neurai_core as neurai
from neurai_core.probe import linear_probe

NOISE, EPOCHS = (0.0, 0.25, 0.5), (1, 25)
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "softhebb": ("softhebb", {}),
    "untrained": ("softhebb", {"lr": 1e-9}),
    "bp": ("bp", {"model": "mlp:256"}),
}


def figure(seed: int) -> dict[str, Any]:
    """The accuracy of every rule after every number of epochs in every noise."""
    data = neurai.dataset("digits")
    noise = jax.random.normal(jax.random.key(seed), data.x_test.shape)
    found = {}
    for name, (rule, given) in RUNS.items():
        for epochs in EPOCHS if name != "untrained" else EPOCHS[:1]:
            settings = {"model": "mlp:256", "epochs": epochs, "seed": seed, **given}
            fitted = neurai.fit(rule, settings.pop("model"), None, "digits", **settings)
            scores = fitted.predict
            if name != "bp":
                probe = linear_probe(jnp.asarray(fitted.predict(data.x_train)), jnp.asarray(data.y_train), 10)
                scores = lambda x, fitted=fitted, probe=probe: probe(jnp.asarray(fitted.predict(x)))  # noqa: E731
            for size in NOISE:
                hits = np.argmax(scores(np.asarray(data.x_test + size * noise)), -1) == data.y_test
                found[f"{name}, {epochs} epochs, noise {size}"] = 100 * float(np.mean(hits))
    return found


if __name__ == "__main__":
    script(__doc__, figure)
