r"""Encoders from numbers to spikes in time, and readouts from traces in time to one number per class.

An encoder is called with a batch ``(B, ...)`` and returns ``(B, T, ...)``; `Delta` turns one sequence into
another. `READOUTS` do the reverse. Times and random draws are computed in at least 32 bits; spikes have the
dtype of a floating-point input, else the default one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp

from neurai_core.arrays import default_float, whole_number, wide_float
from neurai_core.errors import ModelError, UnknownName
from neurai_core.naming import canonical, did_you_mean


class Encoder(Protocol):
    """A function that adds a time axis to a batch."""

    def __call__(self, x: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        """``(B, ...) -> (B, T, ...)``."""


@dataclass(frozen=True)
class Constant:
    """The same input at every step, as a current.

    The synapses below the first neurons are then computed once, not at every step.

    Args:
        steps: number of steps T, at least 1.

    Raises:
        ModelError: ``steps`` is below 1.

    >>> Constant(3)(jnp.array([[0.5]])).tolist()
    [[[0.5], [0.5], [0.5]]]
    """

    steps: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", check_steps(self.steps))

    def __call__(self, x: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        """``(B, ...) -> (B, T, ...)``."""
        return jnp.repeat(x[:, None], self.steps, axis=1)


@dataclass(frozen=True)
class Rate:
    """A spike at each step with the probability given by the input.

    Args:
        steps: number of steps T, at least 1.
        gain: factor on the input, which is then clipped to [0, 1].
        seed: seed of the spikes if no key is given, so that an evaluation is reproducible.

    Raises:
        ModelError: ``steps`` is below 1.

    >>> spikes = Rate(1000)(jnp.array([[0.0, 0.25, 1.0]]), key=jax.random.key(1))
    >>> spikes.shape, bool(jnp.allclose(spikes.mean(axis=1), jnp.array([0.0, 0.25, 1.0]), atol=0.05))
    ((1, 1000, 3), True)
    """

    steps: int
    gain: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", check_steps(self.steps))

    def __call__(self, x: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        """``(B, ...) -> (B, T, ...)``."""
        key = jax.random.key(self.seed) if key is None else key
        shape = (x.shape[0], self.steps, *x.shape[1:])
        probability = jnp.clip(self.gain * _wide(x), 0, 1)[:, None]
        return _like(x, jax.random.bernoulli(key, probability, shape))


@dataclass(frozen=True)
class Latency:
    """One spike per input, earlier for larger inputs: 1 at the first step, the threshold at the last.

    Args:
        steps: number of steps T, at least 1.
        threshold: inputs below this value, in [0, 1), never spike.

    Raises:
        ModelError: ``steps`` is below 1, or ``threshold`` outside [0, 1).

    >>> Latency(4)(jnp.array([[1.0, 0.4, 0.0]]))[0].tolist()
    [[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    """

    steps: int
    threshold: float = 0.01

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", check_steps(self.steps))
        if not 0 <= self.threshold < 1:
            raise ModelError(
                f"A latency code got threshold={self.threshold}, expected a value in [0, 1).", "Latency(50, 0.01)"
            )

    def __call__(self, x: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        """``(B, ...) -> (B, T, ...)``."""
        value = _wide(x)
        early = (jnp.clip(value, 0, 1) - self.threshold) / (1 - self.threshold)
        at = jnp.round((1 - early) * (self.steps - 1))
        times = jnp.arange(self.steps).reshape(1, -1, *[1] * (x.ndim - 1))
        return _like(x, (times == at[:, None]) & (value >= self.threshold)[:, None])


@dataclass(frozen=True)
class Delta:
    """A spike where a sequence has risen by a threshold since the previous step; -1 where it has fallen.

    Args:
        threshold: the change that makes a spike, above 0.
        falling: whether a fall gives a spike of -1, rather than none.

    Raises:
        ModelError: ``threshold`` is not positive.

    >>> Delta(0.5)(jnp.array([[[0.0], [0.6], [0.7], [0.0]]]))[0, :, 0].tolist()
    [0.0, 1.0, 0.0, -1.0]
    """

    threshold: float = 0.1
    falling: bool = True

    def __post_init__(self) -> None:
        if not self.threshold > 0:
            raise ModelError(f"A delta code got threshold={self.threshold}, expected more than 0.", "Delta(0.1)")

    def __call__(self, x: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        """``(B, T, ...) -> (B, T, ...)``; the first step never spikes."""
        change = jnp.diff(_wide(x), axis=1, prepend=_wide(x[:, :1]))
        fallen = _like(x, change <= -self.threshold) if self.falling else 0
        return _like(x, change >= self.threshold) - fallen


def _wide(x: jax.Array) -> jax.Array:
    return x.astype(wide_float(x.dtype))


def _like(x: jax.Array, spikes: jax.Array) -> jax.Array:
    """Spikes in the dtype of the input."""
    return spikes.astype(x.dtype if jnp.issubdtype(x.dtype, jnp.floating) else default_float())


ENCODERS: dict[str, Callable[[int], Encoder]] = {"constant": Constant, "rate": Rate, "latency": Latency}


def _all(traces: jax.Array) -> jax.Array:
    return traces


READOUTS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "sum": lambda traces: traces.sum(axis=1),
    "mean": lambda traces: traces.mean(axis=1),
    "last": lambda traces: traces[:, -1],
    "max": lambda traces: traces.max(axis=1),
    "all": _all,
}


def read(readout: str, traces: jax.Array) -> jax.Array:
    """Reduce traces ``(B, T, C)`` to one row of numbers per example; ``"all"`` keeps them.

    For spikes, ``"sum"`` is their count and ``"mean"`` their rate; ``"last"`` is the last step, ``"max"`` the largest.

    Raises:
        UnknownName: no readout has that name.

    >>> read("max", jnp.array([[[0.0, 1.0], [2.0, 0.0]]])).tolist()
    [[2.0, 1.0]]
    """
    return READOUTS[check_readout(readout)](traces)


def check_readout(readout: str) -> str:
    """The canonical name of a readout."""
    return _known("readout", readout, READOUTS)


def encoder(name: str, steps: int) -> Encoder:
    """Make an encoder by name.

    Raises:
        UnknownName: no encoder has that name.
        ModelError: ``steps`` is below 1.

    >>> encoder("rate", 50)
    Rate(steps=50, gain=1.0, seed=0)
    """
    return ENCODERS[_known("encoder", name, ENCODERS)](steps)


def check_steps(steps: int) -> int:
    """Return the number of steps, or raise if it is invalid.

    Raises:
        ModelError: ``steps`` is below 1.
    """
    number = whole_number(steps)
    if number is None or number < 1:
        raise ModelError(f"steps={steps} is not a number of time steps, expected at least 1.", "For example steps=50.")
    return number


def _known(kind: str, given: str, table: Mapping[str, Callable[..., object]]) -> str:
    found = {canonical(name): name for name in table}.get(canonical(str(given)))
    if found is None:
        raise UnknownName(
            f"No {kind} is named {given!r}.{did_you_mean(str(given), table)}", f"Names: {', '.join(table)}."
        )
    return found
