"""Energies that are sums over the couplings of neighboring layers, whose contrast needs one product per block."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from neurai_core.arrays import PyTree
from neurai_core.energy.blocks import Activities, Block, Chain
from neurai_core.energy.energies import Energy


class Coupled(Energy):
    """An energy whose parameters enter only through ``- sum_l < map_l(params, below_l), above_l >``.

    Then dE/dparams of block l is minus the adjoint of ``map_l`` in its parameters, at ``below_l``, applied to
    ``above_l``. A subclass gives the two in ``couplings``; differences are taken before the outer product, which saves
    one large product and keeps digits that subtracting two gradients would lose.
    """

    def couplings(
        self, chain: Chain, params: PyTree, drive: jax.Array, u: Activities
    ) -> list[tuple[jax.Array, jax.Array]]:
        """``(below_l, above_l)`` of every block, or of the first ones if not all couple."""
        raise NotImplementedError

    def contrast(self, chain: Chain, params: PyTree, states: Sequence[Activities], weights: jax.Array) -> PyTree:
        """As for `Energy.contrast`, by one product with the inputs, whatever K is."""
        chain, states = self.laid_out(chain, states)
        drive, batch = chain.drive(params), -1 if chain.batch_last else 0
        pairs = [self.couplings(chain, params, drive, u) for u in states]
        scales = -weights / len(chain.x)
        total = jax.tree.map(jnp.zeros_like, params)
        for block, *of_block in zip(chain.blocks, *pairs, strict=False):
            below, above = zip(*of_block, strict=True)
            # Inputs are the same in all states: one product with the weighted sum of what is above.
            if block is chain.blocks[0]:
                pull = _weighted(scales, above).real
                parts = adjoint(block, params, chain.x, pull.T if chain.batch_last else pull)
            elif block.affine:
                parts = _bilinear(block, params, below, above, scales, batch)
            else:
                scaled = [scale * a for scale, a in zip(scales, above, strict=True)]
                parts = adjoint(block, params, jnp.concatenate(below, batch), jnp.concatenate(scaled, batch))
            total = jax.tree.map(jnp.add, total, parts)
        return total


def _bilinear(
    block: Block,
    params: PyTree,
    below: Sequence[jax.Array],
    above: Sequence[jax.Array],
    weights: jax.Array,
    batch: int,
) -> PyTree:
    """``sum_k w_k A(below_k)' above_k`` as ``A(b_0)' sum_k w_k (a_k - a_0) + sum_k A(b_k - b_0)' w_k a_k``.

    ``batch`` is the number of the batch axis.
    """
    parts = adjoint(block, params, below[0], _weighted(weights, above))
    if len(below) == 1:
        return parts
    change = jnp.concatenate([b - below[0] for b in below[1:]], batch)
    pull = jnp.concatenate([w * a for w, a in zip(weights[1:], above[1:], strict=True)], batch)

    # The jvp of an affine map is its linear part: the bias, which does not multiply b_k - b_0, drops out.
    def without_bias(params: PyTree) -> jax.Array:
        return jax.jvp(lambda b: block.map(params, b), (jnp.zeros_like(change),), (change,))[1]

    return jax.tree.map(jnp.add, parts, jax.vjp(without_bias, params)[1](pull)[0])


def _weighted(weights: jax.Array, terms: Sequence[jax.Array]) -> jax.Array:
    """``sum_k w_k a_k`` by differences from the first, as the weights sum to 0; ``w_0 a_0`` if it is the only one."""
    if len(terms) == 1:
        return weights[0] * terms[0]
    parts = [w * (a - terms[0]) for w, a in zip(weights[1:], terms[1:], strict=True)]
    return sum(parts[1:], start=parts[0])


def adjoint(block: Block, params: PyTree, below: jax.Array, above: jax.Array) -> PyTree:
    """Gradient of ``< map(params, below), above >`` with respect to the parameters, real part."""
    return jax.vjp(lambda p: block.map(p, below), params)[1](above)[0]
