r"""Losses of spiking networks: ordinary losses on traces over time, and an activity penalty.

A network whose readout is ``"all"`` gives traces $(B, T, C)$; one with ``record=True`` gives `Recorded`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from neurai_core.arrays import Scalar, shape_text
from neurai_core.errors import ModelError
from neurai_core.losses import loss_function, score_function
from neurai_core.models.spiking.encoders import check_readout, read
from neurai_core.models.spiking.network import Recorded


@dataclass(frozen=True)
class OverTime:
    """See `over_time`."""

    score: Callable[..., Any]
    readout: str

    def __call__(self, traces: jax.Array, targets: jax.Array) -> Any:
        """The score of the traces' readout."""
        if len(getattr(traces, "shape", ())) < 3:
            raise ModelError(
                f"over_time got outputs {shape_text(traces)}, expected traces (B, T, ..., C).",
                "Give the network readout='all'; of_outputs(over_time(...)) is for one with record=True as well.",
            )
        return self.score(read(self.readout, traces), targets)


def over_time(loss: str | Callable[..., Any], readout: str = "max") -> Callable[..., Any]:
    """A loss or accuracy of traces over time.

    Args:
        loss: name of a loss or an accuracy, or a callable ``(outputs, targets) -> scalar``.
        readout: ``"sum"`` (of spikes: their count), ``"mean"`` (their rate), ``"last"`` or ``"max"``.

    Raises:
        UnknownName: no loss, accuracy or readout has that name.
        ModelError: on use, if the outputs are not traces.

    Example:
        >>> traces = jnp.array([[[0.0, 3.0], [1.0, 0.0]]])
        >>> round(float(over_time("cross_entropy", "last")(traces, jnp.array([0]))), 4)
        0.3133
    """
    return OverTime(score_function(loss), check_readout(readout))


@dataclass(frozen=True)
class WithActivity:
    """See `with_activity`."""

    loss: Callable[..., Any]
    lower: float
    upper: float
    strength: float

    def __call__(self, recorded: Recorded, targets: jax.Array) -> Scalar:
        """The loss of the outputs plus the penalty on hidden spikes."""
        _check_recorded("with_activity", recorded)
        price = sum(activity_price(spikes, self.lower, self.upper) for spikes in recorded.spikes[:-1])
        return self.loss(recorded.outputs, targets) + self.strength * price


def with_activity(
    loss: str | Callable[..., Any], *, lower: float = 0.0, upper: float = float("inf"), strength: float = 1e-3
) -> Callable[..., Scalar]:
    """A loss with a penalty on hidden neurons that fire too little or too much, for a network with ``record=True``.

    Args:
        loss: a name or a callable ``(outputs, targets) -> scalar``.
        lower: spikes per example, averaged over the batch, below which a neuron is penalized.
        upper: spikes per example above which it is penalized.
        strength: factor on the penalty.

    Raises:
        UnknownName: no loss has that name.
        ModelError: ``lower`` is above ``upper``, or a number is negative.

    Example:
        >>> outputs, spikes = jnp.zeros((1, 2)), (jnp.ones((1, 5, 3)), jnp.zeros((1, 5, 2)))
        >>> loss = with_activity("mse", upper=3.0, strength=0.5)
        >>> float(loss(Recorded(outputs, spikes), jnp.zeros((1, 2))))
        2.0
    """
    if not 0 <= lower <= upper or not strength >= 0:
        raise ModelError(
            f"with_activity got lower={lower}, upper={upper} and strength={strength}, expected 0 <= lower <= "
            "upper and a strength of at least 0.",
            "Both bounds are spikes per neuron and example.",
        )
    return WithActivity(loss_function(loss), lower, upper, strength)


def activity_price(spikes: jax.Array, lower: float = 0.0, upper: float = float("inf")) -> Scalar:
    r"""Mean over neurons of $\max(0, l - n)^2 + \max(0, n - u)^2$, n the neuron's mean count per example.

    Args:
        spikes: ``(B, T, ...)``.
        lower: l.
        upper: u.

    >>> float(activity_price(jnp.ones((1, 5, 3)), lower=7.0))
    4.0
    """
    counts = spikes.sum(axis=1).mean(axis=0)
    return jnp.mean(jnp.maximum(lower - counts, 0) ** 2 + jnp.maximum(counts - upper, 0) ** 2)


@dataclass(frozen=True)
class OfOutputs:
    """See `of_outputs`."""

    score: Callable[..., Any]

    def __call__(self, recorded: Recorded, targets: jax.Array) -> Any:
        """The score of the outputs."""
        _check_recorded("of_outputs", recorded)
        return self.score(recorded.outputs, targets)


def of_outputs(score: str | Callable[..., Any]) -> Callable[..., Any]:
    """A loss or accuracy of the outputs alone, for a network with ``record=True``.

    Args:
        score: a name or a callable ``(outputs, targets) -> scalar``.

    Raises:
        UnknownName: no loss or accuracy has that name.

    Example:
        >>> from neurai_core.losses import accuracy
        >>> float(of_outputs(accuracy)(Recorded(jnp.eye(2), ()), jnp.array([0, 1])))
        1.0
    """
    return OfOutputs(score_function(score))


def _check_recorded(name: str, outputs: Any) -> None:
    if not isinstance(outputs, Recorded):
        raise ModelError(
            f"{name} got outputs {shape_text(outputs)}, expected those of a network with record=True.",
            "Give the network record=True, or use the loss itself.",
        )
