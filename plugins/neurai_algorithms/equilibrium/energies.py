"""The two built-in energies of equilibrium propagation: conditional Gaussian and layered Hopfield.

Activities u_1 .. u_L are pre-activations, u_0 = x is clamped, rho is the identity on it.

    gaussian   E = sum_l | u_{l+1} - map_l(rho(u_l)) |^2                             (no factor 1/2)
    hopfield   E = sum_l 1/2 |u_l|^2 - sum_l < rho(u_{l+1}), map_l(rho(u_l)) >       (1)

(1) is equation 1 of Scellier and Bengio 2017, doi:10.3389/fncom.2017.00024. Part of the literature writes the primitive
function Phi instead of E: with s = rho(u), Phi(s) = sum_l < s_{l+1}, map_l(s_l) >, so hopfield is
E = 1/2 |u|^2 - Phi(rho(u)); where rho is the identity inside an interval, a step of dt = 1 of the projected descent
of E is s <- clip(dPhi/ds).
"""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from neurai_algorithms.equilibrium.skips import skips_of
from neurai_core.arrays import Elementwise, PyTree, Scalar
from neurai_core.curvature import bend, eigenvalue_bound, spectral_norm, steepest
from neurai_core.energy import Activities, Block, Chain, Coupled, Energy, half_squares, nudged
from neurai_core.errors import ModelError, SettingsError, UnknownName
from neurai_core.layered import hard_sigmoid, identity
from neurai_core.naming import did_you_mean
from neurai_core.plugin import resolve

FREE = 0.5  # fraction of a coupling that acts where activities are clipped: those at a bound do not move


class Gaussian(Coupled):
    """Conditional Gaussian: E = sum_l |u_{l+1} - map_l(rho(u_l))|^2, the energy of predictive coding times 2.

    The feed-forward activities have E = 0, so the free phase is skipped. Any layer works; where a block's map is
    not affine, its gradients come from the layer's own derivative.
    """

    default_init: ClassVar[str] = "feedforward"
    settled_by_feedforward: ClassVar[bool] = True
    any_layout: ClassVar[bool] = True

    def value(self, chain: Chain, params: PyTree, u: Activities) -> jax.Array:
        """E of every example, ``(B,)``."""
        errors = [v - p for v, p in zip(u, self._predictions(chain, params, chain.drive(params), u), strict=True)]
        return sum((chain.dot(e, e) for e in errors), start=jnp.zeros(()))

    def outputs(self, chain: Chain, params: PyTree, top: jax.Array) -> jax.Array:
        """The output block's own activation, usually the identity, of the last activities."""
        return chain.blocks[-1].rho(top)

    def force(
        self, chain: Chain, params: PyTree, drive: jax.Array, u: Activities, nudge: jax.Array | None
    ) -> Activities:
        """2 (e_{l-1} - (d prediction_l / du_l)' e_l), e_l = u_{l+1} - prediction_l."""
        seen = [
            jax.vjp(lambda v, f=block.map, rho=lower.rho: f(params, rho(v)), v)
            for lower, block, v in zip(chain.blocks, chain.blocks[1:], u, strict=False)
        ]
        errors = [v - p for v, p in zip(u, [drive, *(prediction for prediction, _ in seen)], strict=True)]
        pulls = [back(e)[0] for (_, back), e in zip(seen, errors[1:], strict=True)]
        forces = [2 * (e - pull) for e, pull in zip(errors, pulls, strict=False)]
        return nudged((*forces, 2 * errors[-1]), nudge)

    def curvature(self, chain: Chain, params: PyTree, nudge: Any = 0.0, in_turn: bool = False) -> Scalar:
        """Of 2 M'M, M = 1 - d prediction / du, each block of it by |map_l| and the steepest slope of rho."""
        if not all(block.affine for block in chain.blocks[1:]):
            return super().curvature(chain, params, nudge, in_turn)
        gains = jnp.array([*_gains(chain, params), 0.0])  # nothing is predicted from the outputs
        return _largest((2 + 2 * gains**2).at[-1].add(nudge), 2 * gains[:-1], in_turn)

    def couplings(
        self, chain: Chain, params: PyTree, drive: jax.Array, u: Activities
    ) -> list[tuple[jax.Array, jax.Array]]:
        """``(rho(u_l), 2 e_l)``."""
        predictions = self._predictions(chain, params, drive, u)
        return [(below, 2 * (v - p)) for below, v, p in zip(chain.below(u), u, predictions, strict=True)]

    def _predictions(self, chain: Chain, params: PyTree, drive: jax.Array, u: Activities) -> list[jax.Array]:
        """map_l(rho(u_l)) of every block."""
        later = zip(chain.blocks[1:], chain.below(u)[1:], strict=True)
        return [drive, *(block.map(params, below) for block, below in later)]


class Hopfield(Coupled):
    """Layered Hopfield: E = sum_l 1/2 |u_l|^2 - sum_l <rho(u_{l+1}), map_l(rho(u_l))>, rho on the output too.

    A map may pool by maxima behind its weights: what a layer sends back then goes to where the maximum is, as in
    Laborieux et al. 2021. With rho >= 0, every kink of E points upward, so activities do not come to rest in it. A skip
    of a residual layer, from u_l to u_m, adds -<rho(u_m), skip(rho(u_l))>, and so acts both ways like a weight.

    Where rho is the library's ``hard_sigmoid``, the dynamics is projected: rho acts as the identity and every step
    ends with a clip to [0, 1]. (With rho' = 0 outside the interval the activities chatter and never settle.)
    """

    activation_last: ClassVar[bool] = True
    any_layout: ClassVar[bool] = True

    def check(self, chain: Chain) -> None:
        """Check that every block is linear, or a maximum of what is.

        Maxima before weights would be multiplied by numbers of either sign. E then has kinks that point downward, in
        which several activities come to rest as the maximum at once, and is not differentiable there.
        """
        for block in chain.blocks:
            if block.obstacle:
                raise ModelError(
                    f"The energy 'hopfield' takes layers that are linear, then elementwise; {block.obstacle} is not.",
                    hint="Use energy='gaussian', which takes any layer, or dense, conv, pooling, flatten and residual "
                    "layers. With fuse=True, activations come after pooling: conv(8, 3), max_pool(2), "
                    "elementwise('sigmoid').",
                )

    def value(self, chain: Chain, params: PyTree, u: Activities) -> jax.Array:
        """E of every example, ``(B,)``, the constant 1/2 |x|^2 included."""
        energy = sum((0.5 * chain.dot(v, v) for v in u), start=half_squares(chain.x))
        fired = [_rho(block)(v) for block, v in zip(chain.blocks, u, strict=True)]
        later = zip(chain.blocks[1:], fired, strict=False)
        inputs = [chain.drive(params), *(block.map(params, below) for block, below in later)]
        energy -= sum(chain.dot(s, i) for s, i in zip(fired, inputs, strict=True))
        sent = [chain.x, *fired]
        return energy - sum(chain.dot(fired[skip.target], skip.map(sent[skip.source + 1])) for skip in skips_of(chain))

    def force(
        self, chain: Chain, params: PyTree, drive: jax.Array, u: Activities, nudge: jax.Array | None
    ) -> Activities:
        """u_l - rho'(u_l) (map_{l-1}(rho(u_{l-1})) + map_l' rho(u_{l+1}))."""
        fired = [jax.vjp(_rho(block), v) for block, v in zip(chain.blocks, u, strict=True)]
        forward = [
            jax.vjp(lambda s, f=block.map: f(params, s), s)
            for block, (s, _) in zip(chain.blocks[1:], fired, strict=False)
        ]
        inputs = [drive, *(prediction for prediction, _ in forward)]
        # Coupling is symmetric: a layer also feels what it sends, by the transpose of the map above it.
        for l, (_, back) in enumerate(forward):
            inputs[l] = inputs[l] + back(fired[l + 1][0])[0]
        for skip in skips_of(chain):
            sent, pull = jax.vjp(skip.map, chain.x if skip.source < 0 else fired[skip.source][0])
            inputs[skip.target] = inputs[skip.target] + sent
            if skip.source >= 0:
                inputs[skip.source] = inputs[skip.source] + pull(fired[skip.target][0])[0]
        forces = (v - slope(i)[0] for v, (_, slope), i in zip(u, fired, inputs, strict=True))
        return nudged(tuple(forces), nudge)

    def curvature(self, chain: Chain, params: PyTree, nudge: Any = 0.0, in_turn: bool = False) -> Scalar:
        """1 + rho' |W| rho' over neighbors, and over skips, + rho'' times the largest input, in a forward pass."""
        u = chain.feedforward(params)
        bends = [bend(_rho(block), v) * jnp.max(jnp.abs(v)) for block, v in zip(chain.blocks, u, strict=True)]
        free = [FREE if _projected(block) else 1 for block in chain.blocks[:-1]]
        slopes = [steepest(_rho(block), v) for block, v in zip(chain.blocks, u, strict=True)]
        beside = [f * gain * s for f, gain, s in zip(free, _gains(chain, params), slopes[1:], strict=True)]
        own, over = (1 + jnp.stack(bends)).at[-1].add(nudge), _over(chain, u, slopes)
        return _largest(own, jnp.asarray(beside), in_turn and over is None, over)

    def project(self, chain: Chain, u: Activities) -> Activities:
        """Clip the activities of hard-sigmoid blocks to [0, 1]."""
        return tuple(hard_sigmoid(v) if _projected(block) else v for block, v in zip(chain.blocks, u, strict=True))

    def couplings(
        self, chain: Chain, params: PyTree, drive: jax.Array, u: Activities
    ) -> list[tuple[jax.Array, jax.Array]]:
        """``(rho(u_l), rho(u_{l+1}))``."""
        fired = [_rho(block)(v) for block, v in zip(chain.blocks, u, strict=True)]
        return list(zip([chain.x, *fired[:-1]], fired, strict=True))


def _gains(chain: Chain, params: PyTree) -> list[Scalar]:
    """|map_l| times the steepest slope of the layer below, for all blocks but the first."""
    below = jax.eval_shape(chain.feedforward, params)
    parts = zip(chain.blocks, below, chain.norms(params), strict=False)
    return [steepest(_rho(block), v) * norm for block, v, norm in parts]


def _over(chain: Chain, u: Activities, slopes: list[Scalar]) -> jax.Array | None:
    """What skips add to the norms of the blocks of a Hessian; None if there are none between activities."""
    skips = [skip for skip in skips_of(chain) if skip.source >= 0]
    over = jnp.zeros((len(u), len(u)), slopes[0].dtype)
    for skip in skips:
        norm = spectral_norm(skip.map, jnp.zeros_like(u[skip.source][:1]))
        size = slopes[skip.source] * norm * slopes[skip.target]
        over = over.at[skip.source, skip.target].add(size).at[skip.target, skip.source].add(size)
    return over if skips else None


def _largest(own: jax.Array, beside: jax.Array, in_turn: bool, over: jax.Array | None = None) -> Scalar:
    """The largest eigenvalue of the norms of a block tridiagonal Hessian and skips, or of its diagonal alone."""
    if in_turn:
        return jnp.max(own)
    norms = jnp.diag(own) + jnp.diag(beside, 1) + jnp.diag(beside, -1)
    return eigenvalue_bound(norms if over is None else norms + over)


def _projected(block: Block) -> bool:
    return block.rho is hard_sigmoid


def _rho(block: Block) -> Elementwise:
    return identity if _projected(block) else block.rho


ENERGIES: dict[str, Energy] = {"gaussian": Gaussian(), "hopfield": Hopfield()}


def energy_of(energy: Any) -> Energy:
    """The energy given by name, as a ``"module:attribute"`` string, or as an object.

    Raises:
        UnknownName: no energy has that name.
        SettingsError: the named object is not an `Energy`.

    >>> type(energy_of("hopfield")).__name__
    'Hopfield'
    """
    if isinstance(energy, str) and energy not in ENERGIES and ":" not in energy:
        raise UnknownName(
            f"No energy is named {energy!r}.{did_you_mean(energy, ENERGIES)}",
            hint=f"Names: {', '.join(ENERGIES)}; or 'module:attribute' of an Energy of your own.",
        )
    found = ENERGIES[energy] if isinstance(energy, str) and energy in ENERGIES else resolve(energy)
    found = found() if isinstance(found, type) else found
    if not isinstance(found, Energy):
        raise SettingsError(f"energy is {energy!r}, expected an Energy.", "Subclass neurai_core.energy.Energy.")
    return found
