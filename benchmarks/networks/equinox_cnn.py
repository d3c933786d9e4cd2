"""The convolutional network of Equinox's MNIST example: a list of layers and functions, called one after the other.

neurai train --model benchmarks/networks/equinox_cnn.py:make --activities auto --data fashion-mnist

https://docs.kidger.site/equinox/examples/mnist. Equinox keeps channels in front, the data sets here at the end; one
line of `__call__` moves them, and the first dense layer is as wide as the images ask for.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp


class CNN(eqx.Module):
    """One image (H, W, 1) -> log probabilities (C,)."""

    layers: list

    def __init__(self, input_shape: tuple[int, int, int], n_outputs: int, key: jax.Array) -> None:
        keys = jax.random.split(key, 4)
        height, width, channels = input_shape
        flat = 3 * (height - 4) * (width - 4)  # a kernel of 4 takes 3 rows, pooling with stride 1 takes one
        self.layers = [
            eqx.nn.Conv2d(channels, 3, kernel_size=4, key=keys[0]),
            eqx.nn.MaxPool2d(kernel_size=2),
            jax.nn.relu,
            jnp.ravel,
            eqx.nn.Linear(flat, 512, key=keys[1]),
            jax.nn.sigmoid,
            eqx.nn.Linear(512, 64, key=keys[2]),
            jax.nn.relu,
            eqx.nn.Linear(64, n_outputs, key=keys[3]),
            jax.nn.log_softmax,
        ]

    def __call__(self, x: jax.Array) -> jax.Array:
        x = jnp.moveaxis(x, -1, 0)
        for layer in self.layers:
            x = layer(x)
        return x


def make(input_shape: tuple[int, int, int], n_outputs: int, key: jax.Array) -> CNN:
    """The network for images of this shape."""
    return CNN(input_shape, n_outputs, key)
