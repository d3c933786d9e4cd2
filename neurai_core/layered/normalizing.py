"""Batch normalization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from neurai_core.arrays import PyTree, Shape, default_float, wide_float
from neurai_core.errors import ModelError
from neurai_core.layered.layer import Layer
from neurai_core.layered.shapes import in_floats


def norm_init(key: jax.Array, input_shape: Shape) -> tuple[PyTree, PyTree]:
    """Parameters and collections of `batch_norm`: it changes nothing until it has seen a batch."""
    if not input_shape:
        raise ModelError("batch_norm takes examples (..., C), got single numbers.", hint="Add an axis with x[:, None].")
    ones, zeros = (jnp.full(input_shape[-1], value, default_float()) for value in (1, 0))
    return {"scale": ones, "bias": zeros}, {"mean": zeros, "var": ones}


@dataclass(frozen=True)
class BatchNorm:
    """The ``apply`` of `batch_norm`. Sums are taken in float32 at least."""

    momentum: float
    epsilon: float

    def __call__(
        self, params: PyTree, model_state: PyTree, x: jax.Array, *, key: Any = None, train: bool = False
    ) -> tuple[jax.Array, PyTree]:
        """Normalize by the batch in training, which moves the running statistics, and by these otherwise."""
        x = in_floats(x, params)
        if jnp.shape(x)[-1:] != jnp.shape(params["scale"]):
            raise ModelError(
                f"A batch_norm layer of {len(params['scale'])} channels got an input of shape {jnp.shape(x)}.",
                hint="The last axis holds the channels, the first the batch.",
            )
        wide = x.astype(wide_float(x.dtype))
        seen = _statistics(wide) if train else model_state
        y = (wide - seen["mean"]) * (params["scale"] * jax.lax.rsqrt(seen["var"] + self.epsilon)) + params["bias"]
        return y.astype(x.dtype), jax.tree.map(self._moved, model_state, seen) if train else model_state

    def _moved(self, old: jax.Array, new: jax.Array) -> jax.Array:
        return (self.momentum * old + (1 - self.momentum) * new).astype(old.dtype)


def _statistics(x: jax.Array) -> dict[str, jax.Array]:
    """Mean and variance of every channel."""
    axes = tuple(range(x.ndim - 1))
    mean = x.mean(axes)
    return {"mean": mean, "var": jnp.square(x - mean).mean(axes)}


def batch_norm(momentum: float = 0.9, epsilon: float = 1e-5) -> Layer:
    r"""Batch normalization of ``(B, ..., C)``: every channel with mean 0 and variance 1, then scaled and shifted.

    $$y = \mathrm{scale} \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \mathrm{bias}$$

    In training, $\mu$ and $\sigma^2$ are the mean and the mean squared deviation of a channel over all other axes of
    the batch, and derivatives go through them. Otherwise, they are running means, collections that a training step
    returns updated: ``{"mean": (C,), "var": (C,)}``. Inside a stage of a spiking network, the batch is that of all
    examples in all steps.

    Args:
        momentum: the fraction of the running means that a batch leaves, in [0, 1).
        epsilon: positive, added to the variance.

    Returns:
        A layer with params ``{"scale": (C,), "bias": (C,)}``.

    Raises:
        ModelError: a number is out of range.

    Ioffe and Szegedy 2015, arXiv:1502.03167.

    Example:
        >>> layer = batch_norm()
        >>> params, running = layer.init(jax.random.key(0), (1,))
        >>> y, running = layer.apply(params, running, jnp.array([[1.0], [3.0]]), train=True)
        >>> y.round(3).tolist(), round(float(running["mean"][0]), 3)
        ([[-1.0], [1.0]], 0.2)
    """
    if not 0 <= momentum < 1:
        raise ModelError(f"batch_norm got momentum={momentum}, expected a fraction in [0, 1).", hint="batch_norm(0.9)")
    if not epsilon > 0:
        raise ModelError(f"batch_norm got epsilon={epsilon}, expected more than 0.", hint="batch_norm(epsilon=1e-5)")
    return Layer(norm_init, BatchNorm(momentum, epsilon), name="batch_norm", stateful=True, numeric=True)
