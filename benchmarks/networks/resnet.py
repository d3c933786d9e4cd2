"""A small residual network in Flax Linen: three stages of 8, 16 and 32 channels, batch normalization, skip connections.

neurai train --model benchmarks/networks/resnet.py:make --activities auto --data fashion-mnist

He et al. 2016, https://arxiv.org/abs/1512.03385, with one block per stage.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


class Block(nn.Module):
    """Two convolutions beside a shortcut, which is a convolution of its own where the shape changes."""

    channels: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        strides = (self.stride, self.stride)
        norm = partial(nn.BatchNorm, use_running_average=not train, momentum=0.9)
        y = nn.Conv(self.channels, (3, 3), strides, use_bias=False)(x)
        y = nn.relu(norm()(y))
        y = nn.Conv(self.channels, (3, 3), use_bias=False)(y)
        y = norm()(y)
        if x.shape != y.shape:
            x = nn.Conv(self.channels, (1, 1), strides, use_bias=False)(x)
        return nn.relu(x + y)


class ResNet(nn.Module):
    """Images (B, H, W, 1) -> logits (B, C)."""

    n_outputs: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = nn.relu(nn.Conv(8, (3, 3))(x))
        for channels, stride in ((8, 1), (16, 2), (32, 2)):
            x = Block(channels, stride)(x, train)
        return nn.Dense(self.n_outputs)(x.mean(axis=(1, 2)))


def make(input_shape: tuple[int, int, int], n_outputs: int, key: jax.Array) -> tuple[ResNet, Any]:
    """The network and its variables for images of this shape."""
    model = ResNet(n_outputs)
    return model, model.init(key, jnp.ones((1, *input_shape)))
