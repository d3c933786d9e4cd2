r"""Exact differences of activations: phi(a + u) - phi(a) without subtracting two nearly equal numbers.

A relaxation that starts at the feed-forward point moves activities by tiny amounts u. In float32 the plain
difference of two activations loses them; the forms here keep the relative precision of u, however small:

    relu, leaky relu   four cases by the signs of a and a + u
    tanh               (1 - t^2) s / (1 + t s)            t = tanh a, s = tanh u, 1 - t^2 = sech^2 a
    sigmoid            half of tanh's at a/2, u/2
    softplus           log(1 + sigmoid(a) (e^u - 1))
    gelu, silu         product rule for differences on the above
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from neurai_core.arrays import Elementwise
from neurai_core.layered import hard_sigmoid, identity

Change = Callable[[jax.Array], jax.Array]

_GELU_SCALE = math.sqrt(2 / math.pi)
_GELU_CUBIC = 0.044715
_LEAK = 0.01


def difference(activation: Elementwise, at: jax.Array) -> Change:
    """The change of an activation around a point, as a function of the change of its argument.

    Its derivative in u is that of the activation at ``at + u``. What depends on ``at`` alone is computed here,
    once. A custom activation may define a method ``difference(a, u)``; an unknown one without it gets the plain
    difference.

    Args:
        activation: elementwise callable.
        at: the point a, any shape.

    Returns:
        ``u -> activation(a + u) - activation(a)``, exactly 0 where u is 0.

    Example:
        >>> a, u = jnp.float32(0.5), jnp.float32(1e-12)
        >>> float(jnp.tanh(a + u) - jnp.tanh(a)), round(float(difference(jnp.tanh, a)(u)) * 1e12, 5)
        (0.0, 0.78645)
    """
    own = getattr(activation, "difference", None)
    if own is not None:
        return lambda u: own(at, u)
    return _DIFFERENCES.get(activation, _plain(activation))(at)


def is_exact(activation: Elementwise) -> bool:
    """Whether `difference` has a form without cancellation for an activation.

    >>> is_exact(jax.nn.relu), is_exact(jnp.sin)
    (True, False)
    """
    return activation in _DIFFERENCES or hasattr(activation, "difference")


def _plain(activation: Elementwise) -> Callable[[jax.Array], Change]:
    def at(a: jax.Array) -> Change:
        y = activation(a)
        return lambda u: activation(a + u) - y

    return at


def _near_or_plain(activation: Elementwise, near: Callable[[jax.Array], Change]) -> Callable[[jax.Array], Change]:
    """``near`` for |u| < 1; for larger changes the plain difference, which is then accurate."""

    def at(a: jax.Array) -> Change:
        close, far = near(a), _plain(activation)(a)

        def change(u: jax.Array) -> jax.Array:
            small = jnp.abs(u) < 1
            return jnp.where(small, close(jnp.where(small, u, 0)), far(u))

        return change

    return at


def _identity(a: jax.Array) -> Change:
    return identity


def _relu(a: jax.Array) -> Change:
    was_on = a > 0

    def change(u: jax.Array) -> jax.Array:
        s = a + u
        return jnp.where(s > 0, jnp.where(was_on, u, s), jnp.where(was_on, -a, 0))

    return change


def _leaky_relu(a: jax.Array) -> Change:
    was_on = a >= 0

    def change(u: jax.Array) -> jax.Array:
        s = a + u
        return jnp.where(s >= 0, jnp.where(was_on, u, s - _LEAK * a), jnp.where(was_on, _LEAK * s - a, _LEAK * u))

    return change


def _hard_sigmoid(a: jax.Array) -> Change:
    inside = (a >= 0) & (a <= 1)

    def change(u: jax.Array) -> jax.Array:
        jump = jnp.clip(a + u, 0, 1) - jnp.clip(a, 0, 1)
        return jnp.where(inside, jnp.clip(u, -a, 1 - a), jump)

    return change


def _elu(a: jax.Array) -> Change:
    was_on, slope = a > 0, jnp.exp(jnp.minimum(a, 0))

    def change(u: jax.Array) -> jax.Array:
        s = a + u
        is_on = s > 0
        below = slope * jnp.expm1(jnp.where(was_on | is_on, 0, u))
        crossing = jax.nn.elu(s) - jax.nn.elu(a)
        return jnp.where(was_on & is_on, u, jnp.where(was_on | is_on, crossing, below))

    return change


def _tanh(a: jax.Array) -> Change:
    """(1 - t^2) s / (1 + t s) with s = tanh(u); the plain difference where u leads far back and 1 + t s cancels."""
    t = jnp.tanh(a)
    slope = 4 * jax.nn.sigmoid(2 * a) * jax.nn.sigmoid(-2 * a)  # 1 - t^2, accurate where t saturates too
    out, least = jnp.where(jnp.abs(a) > 2, a, jnp.inf), jnp.finfo(a.dtype).eps  # it cancels only far from 0

    def change(u: jax.Array) -> jax.Array:
        back = (out * u < 0) & (2 * jnp.abs(u) > jnp.abs(out))
        s = jnp.tanh(jnp.where(back, out + u, u))  # only one of them, because the hyperbolic tangent is expensive
        return jnp.where(back, s - t, slope * s / jnp.maximum(1 + t * s, least))

    return change


def _sigmoid(a: jax.Array) -> Change:
    half = _tanh(a / 2)
    return lambda u: half(u / 2) / 2


def _softplus_near(a: jax.Array) -> Change:
    slope = jax.nn.sigmoid(a)
    return lambda u: jnp.log1p(slope * jnp.expm1(u))


def _silu_near(a: jax.Array) -> Change:
    gate, gate_change = jax.nn.sigmoid(a), _sigmoid(a)

    def change(u: jax.Array) -> jax.Array:
        opened = gate_change(u)
        return u * (gate + opened) + a * opened

    return change


def _gelu_near(a: jax.Array) -> Change:
    inner = _GELU_SCALE * (a + _GELU_CUBIC * a**3)
    gate, gate_change = 1 + jnp.tanh(inner), _tanh(inner)

    def change(u: jax.Array) -> jax.Array:
        moved = _GELU_SCALE * u * (1 + _GELU_CUBIC * (3 * a * a + 3 * a * u + u * u))
        opened = gate_change(moved)
        return (u * (gate + opened) + a * opened) / 2

    return change


_DIFFERENCES: dict[Elementwise, Callable[[jax.Array], Change]] = {
    identity: _identity,
    jax.nn.identity: _identity,
    jax.nn.relu: _relu,
    jax.nn.leaky_relu: _leaky_relu,
    hard_sigmoid: _hard_sigmoid,
    jax.nn.elu: _elu,
    jnp.tanh: _tanh,
    jax.nn.tanh: _tanh,
    jax.nn.sigmoid: _sigmoid,
    jax.nn.softplus: _near_or_plain(jax.nn.softplus, _softplus_near),
    jax.nn.silu: _near_or_plain(jax.nn.silu, _silu_near),
    jax.nn.gelu: _near_or_plain(jax.nn.gelu, _gelu_near),
}
