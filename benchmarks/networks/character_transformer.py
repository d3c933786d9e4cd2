"""A small causal transformer over characters in Flax NNX: two pre-norm blocks of attention and an MLP.

neurai train --model benchmarks/networks/character_transformer.py:make --activities auto --data text
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

BLOCKS, WIDTH, HEADS = 2, 32, 4


class Block(nnx.Module):
    """Causal attention, then an MLP, each after a normalization and beside its input; (B, T, D) -> (B, T, D)."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.norm1 = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(HEADS, WIDTH, decode=False, rngs=rngs)
        self.norm2 = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.up = nnx.Linear(WIDTH, 4 * WIDTH, rngs=rngs)
        self.down = nnx.Linear(4 * WIDTH, WIDTH, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        mask = jnp.tril(jnp.ones((x.shape[1], x.shape[1]), bool))
        x = x + self.attention(self.norm1(x), mask=mask)
        return x + self.down(nnx.gelu(self.up(self.norm2(x))))


class Transformer(nnx.Module):
    """Codes of characters (B, T) -> logits of the next ones (B, T, C)."""

    def __init__(self, length: int, characters: int, rngs: nnx.Rngs) -> None:
        self.embed = nnx.Embed(characters, WIDTH, rngs=rngs)
        self.place = nnx.Param(0.02 * jax.random.normal(rngs.params(), (length, WIDTH)))
        self.blocks = nnx.List([Block(rngs) for _ in range(BLOCKS)])
        self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.head = nnx.Linear(WIDTH, characters, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.embed(x) + self.place[...]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def make(input_shape: tuple[int], n_outputs: int, key: jax.Array) -> Transformer:
    """The network for windows of this length."""
    return Transformer(*input_shape, n_outputs, nnx.Rngs(key))
