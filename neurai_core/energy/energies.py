"""Energies of the activities of a chain. A new one has to define only its value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from neurai_core.arrays import PyTree, Scalar
from neurai_core.curvature import largest_eigenvalue
from neurai_core.energy.blocks import Activities, Chain

EXAMPLES = 4  # examples of a batch for estimating a curvature that the weights do not bound


class Energy:
    """An energy E(u) of the activities of a chain, one scalar per example.

    Subclass it and define ``value``; define ``force`` and ``contrast`` too if closed forms are faster. Make it a
    frozen dataclass, or keep it without state, so that equal energies share one compiled step.

    Attributes:
        default_init: default start of a free phase: ``zeros`` or ``feedforward``.
        settled_by_feedforward: whether the feed-forward activities are an exact minimum of E, so that a free phase
            that starts there is skipped.
        activation_last: whether an activation given by the user also replaces the output block's own.
        readout: whether ``outputs`` uses parameters; their share of the cost's gradient is then added.
        any_layout: whether all methods also support activities ``(D, B)``, which is faster: they may use only the
            chain's ``drive`` and ``dot``, the maps of later blocks and elementwise operations.

    Example:
        >>> from neurai_core.energy import chain_of, half_squares
        >>> class Quadratic(Energy):
        ...     def value(self, chain, params, u):
        ...         return half_squares(u[0] - chain.drive(params))
        >>> from neurai_core.models import mlp
        >>> model = mlp((2, 1))
        >>> params, _ = model.init(jax.random.key(0), (2,))
        >>> chain = chain_of(model, params, jnp.ones((3, 2)))
        >>> u = chain.feedforward(params)
        >>> [float(f.sum()) for f in Quadratic().force(chain, params, chain.drive(params), u, None)]
        [0.0]
    """

    default_init: ClassVar[str] = "zeros"
    settled_by_feedforward: ClassVar[bool] = False
    activation_last: ClassVar[bool] = False
    readout: ClassVar[bool] = False
    any_layout: ClassVar[bool] = False

    def laid_out(self, chain: Chain, states: Sequence[Activities]) -> tuple[Chain, Sequence[Activities]]:
        """Chain and states in the faster layout, or unchanged if this energy, a map or a shape requires that."""
        plain = all(v.ndim == 2 for u in states for v in u)
        columns = chain.on_columns() if self.any_layout and plain else None
        return (chain, states) if columns is None else (columns, [on_columns(u) for u in states])

    def check(self, chain: Chain) -> None:
        """Raise ModelError if the energy does not support the chain, naming the layer and what to do instead."""

    def feedforward(self, chain: Chain, params: PyTree) -> Activities:
        """Activities of one forward pass; their number and shapes are those of all activities of this energy."""
        return chain.feedforward(params)

    def value(self, chain: Chain, params: PyTree, u: Activities) -> jax.Array:
        """E of every example, ``(B,)``."""
        raise NotImplementedError

    def outputs(self, chain: Chain, params: PyTree, top: jax.Array) -> jax.Array:
        """The last activities, as the cost takes them."""
        return top

    def force(
        self, chain: Chain, params: PyTree, drive: jax.Array, u: Activities, nudge: jax.Array | None
    ) -> Activities:
        """dF/du of every example, F = E + beta C; activities move against it.

        Args:
            chain: the network.
            params: its parameters.
            drive: ``chain.drive(params)``.
            u: activities.
            nudge: ``beta dC/du_L``, of the shape of ``u_L``; None in a free phase.
        """
        holomorphic = jnp.iscomplexobj(u[-1])
        forces = jax.grad(lambda u: jnp.sum(self.value(chain, params, u)), holomorphic=holomorphic)(u)
        return nudged(forces, nudge)

    def curvature(self, chain: Chain, params: PyTree, nudge: Any = 0.0, in_turn: bool = False) -> Scalar:
        """The largest curvature of F in the activities, which limits the step of a stable relaxation.

        Estimated from products with the Hessian at the feed-forward activities of a few examples; override it if
        the weights give a bound.

        Args:
            chain: the network, activities ``(B, ...)``.
            params: its parameters.
            nudge: curvature of the cost times beta, which is added at the outputs.
            in_turn: whether even and odd layers move in turn, so that only a layer's own curvature matters.
        """
        few = replace(chain, x=chain.x[:EXAMPLES])  # steps keep a margin for the others
        u = self.feedforward(few, params)
        _, back = jax.vjp(jax.grad(lambda u: jnp.sum(self.value(few, params, u))), u)

        def product(v: Activities) -> Activities:
            return nudged(back(v)[0], nudge * v[-1])

        return largest_eigenvalue(product, u)

    def project(self, chain: Chain, u: Activities) -> Activities:
        """Project activities back into their allowed range; the identity for most energies."""
        return u

    def contrast(self, chain: Chain, params: PyTree, states: Sequence[Activities], weights: jax.Array) -> PyTree:
        """``sum_k Re(w_k dE/dparams(u_k))``, mean over the batch.

        Args:
            chain: the network.
            params: its parameters.
            states: K activities.
            weights: ``(K,)``; their sum is 0 unless K is 1.
        """

        def total(params: PyTree) -> Scalar:
            values = jax.vmap(lambda u: jnp.mean(self.value(chain, params, u)))(stacked)
            return jnp.real(jnp.sum(weights * values))

        stacked = jax.tree.map(lambda *layers: jnp.stack(layers), *states)
        return jax.grad(total)(params)


def on_columns(u: Activities) -> Activities:
    """Activities ``(B, D)`` as ``(D, B)``, or back.

    >>> [v.shape for v in on_columns((jnp.zeros((2, 3)),))]
    [(3, 2)]
    """
    return tuple(v.T for v in u)


def nudged(forces: Activities, nudge: jax.Array | None) -> Activities:
    """Add the nudge to the last force.

    >>> nudged((jnp.zeros(1), jnp.ones(1)), jnp.ones(1))[1].tolist()
    [2.0]
    """
    return forces if nudge is None else (*forces[:-1], forces[-1] + nudge)
