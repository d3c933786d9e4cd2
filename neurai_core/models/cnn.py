"""A small convolutional network."""

from __future__ import annotations

from collections.abc import Sequence

from neurai_core.arrays import Elementwise
from neurai_core.errors import ModelError
from neurai_core.layered import Layered, avg_pool, conv, dense, flatten


def cnn(channels: Sequence[int], n_outputs: int, activation: str | Elementwise = "relu", kernel: int = 3) -> Layered:
    """Convolutions, each followed by 2 x 2 average pooling, then one dense layer.

    Args:
        channels: output channels of every convolution, at least one.
        n_outputs: width of the last layer.
        activation: name or elementwise callable of the convolutions.
        kernel: side of the kernels, in pixels.

    Returns:
        A `Layered` for images ``(B, H, W, C)``.

    Raises:
        ModelError: there is no convolution.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> model = cnn((8, 16), 10)
        >>> params, _ = model.init(jax.random.key(0), (28, 28, 1))
        >>> model(params, jnp.ones((4, 28, 28, 1))).shape
        (4, 10)
    """
    if len(channels) == 0:
        raise ModelError("A CNN needs at least one convolution, got none.", hint="cnn((8, 16), 10).")
    stages = [layer for width in channels for layer in (conv(width, kernel, activation=activation), avg_pool(2))]
    return Layered((*stages, flatten(), dense(n_outputs)))
