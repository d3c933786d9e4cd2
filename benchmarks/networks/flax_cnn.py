"""The convolutional network of Flax's NNX tutorial on MNIST, with batch normalization and dropout.

neurai train --model benchmarks/networks/flax_cnn.py:make --activities auto --data fashion-mnist

https://flax.readthedocs.io/en/latest/mnist_tutorial.html
"""

from __future__ import annotations

from functools import partial

import jax
from flax import nnx

pool = partial(nnx.avg_pool, window_shape=(2, 2), strides=(2, 2))


class CNN(nnx.Module):
    """Images (B, H, W, 1) -> logits (B, C)."""

    def __init__(self, input_shape: tuple[int, int, int], n_outputs: int, rngs: nnx.Rngs) -> None:
        height, width, channels = input_shape
        self.conv1 = nnx.Conv(channels, 32, (3, 3), rngs=rngs)
        self.norm1 = nnx.BatchNorm(32, rngs=rngs)
        self.conv2 = nnx.Conv(32, 64, (3, 3), rngs=rngs)
        self.norm2 = nnx.BatchNorm(64, rngs=rngs)
        self.linear1 = nnx.Linear(64 * (height // 4) * (width // 4), 256, rngs=rngs)
        self.linear2 = nnx.Linear(256, n_outputs, rngs=rngs)
        self.dropout1 = nnx.Dropout(0.025)
        self.dropout2 = nnx.Dropout(0.025)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        x = self.dropout1(self.conv1(x), rngs=rngs)
        x = pool(nnx.relu(self.norm1(x)))
        x = pool(nnx.relu(self.norm2(self.conv2(x))))
        x = self.dropout2(self.linear1(x.reshape(len(x), -1)), rngs=rngs)
        return self.linear2(nnx.relu(x))


def make(input_shape: tuple[int, int, int], n_outputs: int, key: jax.Array) -> CNN:
    """The network for images of this shape."""
    return CNN(input_shape, n_outputs, nnx.Rngs(key))
