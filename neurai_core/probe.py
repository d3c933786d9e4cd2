"""A linear probe: how well the simplest classifier reads labels off features that were learned without them."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from neurai_core.errors import DataError


class Probe(NamedTuple):
    """A linear classifier of features.

    Attributes:
        w: weights (D, n_classes).
        b: biases (n_classes,).
    """

    w: jax.Array
    b: jax.Array

    def __call__(self, features: jax.Array) -> jax.Array:
        """Scores (N, n_classes) of features (N, ...)."""
        return features.reshape(len(features), -1) @ self.w + self.b


def linear_probe(features: jax.Array, labels: jax.Array, n_classes: int, *, ridge: float = 1e-3) -> Probe:
    """Fit a linear classifier to features by ridge regression on one-hot labels, in closed form.

    Features are standardized first, so that `ridge` does not depend on their scale.

    Args:
        features: (N, ...); axes after the first are flattened.
        labels: integer labels (N,), or class probabilities (N, n_classes).
        n_classes: number of classes.
        ridge: strength of the penalty, relative to the variance of a feature.

    Returns:
        The classifier, a function of features.

    Raises:
        DataError: there is not one label per example.

    Example:
        >>> import jax.numpy as jnp
        >>> features, labels = jnp.array([[0.0], [0.2], [0.9], [1.0]]), jnp.array([0, 0, 1, 1])
        >>> linear_probe(features, labels, 2)(features).argmax(axis=1).tolist()
        [0, 0, 1, 1]
    """
    if labels.shape[:1] != features.shape[:1] or labels.shape[1:] not in ((), (n_classes,)):
        raise DataError(
            f"A probe got features {features.shape} and labels {labels.shape}.",
            f"Give one label per example, ({len(features)},).",
        )
    x = features.reshape(len(features), -1)
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    y = jax.nn.one_hot(labels, n_classes, dtype=x.dtype) if labels.ndim == 1 else labels.astype(x.dtype)
    mean, spread, target = x.mean(axis=0), x.std(axis=0), y.mean(axis=0)
    scale = jnp.where(spread > 0, 1 / jnp.where(spread > 0, spread, 1), 0)  # a dead feature tells nothing
    z = (x - mean) * scale
    curvature = z.T @ z / len(z) + ridge * jnp.eye(z.shape[1], dtype=z.dtype)
    w = scale[:, None] * jax.scipy.linalg.solve(curvature, z.T @ (y - target) / len(z), assume_a="pos")
    return Probe(w, target - mean @ w)
