r"""Spiking neurons: charging of the membrane, firing, and reset.

Time is counted in steps. With input current I and spike s,

$$h_t = d\,v_{t-1} + (1-d)\,v_{rest} + \gamma I_t \qquad s_t = H(h_t - \theta) \qquad
  v_t = \begin{cases} h_t - \theta s_t & \text{soft} \\ (1-s_t) h_t + s_t v_{reset} & \text{hard} \\
  h_t & \text{none}\end{cases}$$

Every cell is three elementwise functions. ``charge`` computes the state before the reset, ``output`` reads the
spikes from it, and ``settle`` computes the state after the reset; so a network that stores only h can recover
the spikes and v by a comparison.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

import jax
import jax.numpy as jnp

from neurai_core.arrays import PyTree, Shape, default_float
from neurai_core.errors import ModelError

State: TypeAlias = dict[str, jax.Array]
Reset: TypeAlias = Literal["soft", "hard", "none"]
RESETS = ("soft", "hard", "none")


class Cell(Protocol):
    """The interface of a neuron; all functions are elementwise over ``(..., N)``.

    Attributes:
        seen: the entries of the state before the reset that ``output`` reads.
        stored: those that the backward pass needs, including ``seen``.
        spikes: whether its output is spikes rather than a membrane potential.
    """

    @property
    def seen(self) -> tuple[str, ...]:
        """Entries of the state that ``output`` reads."""

    @property
    def stored(self) -> tuple[str, ...]:
        """Entries of the state that the backward pass needs."""

    @property
    def spikes(self) -> bool:
        """Whether the output is spikes."""

    def init(self, shape: Shape) -> dict[str, jax.Array]:
        """Learned parameters, one value per neuron; an empty dict if there are none."""

    def rest(self, shape: Shape, dtype: Any) -> State:
        """The state after the reset before the first step."""

    def charge(self, params: PyTree, rest: State, current: jax.Array) -> State:
        """The state before the reset."""

    def output(self, params: PyTree, surrogate: Any, before: State) -> jax.Array:
        """Spikes, or the membrane potential of a readout."""

    def settle(self, params: PyTree, before: State, spikes: jax.Array) -> State:
        """The state after the reset."""

    def recall(self, stored: State) -> State:
        """The state before the reset from its stored entries; the others, unused in the backward pass, are zero."""


def exact_decay(tau: float, dt: float = 1.0) -> float:
    """The decay ``exp(-dt/tau)`` of the exact solution over one step.

    Args:
        tau: time constant, in the unit of ``dt``.
        dt: length of a step.

    >>> round(exact_decay(20.0), 4)
    0.9512
    """
    return math.exp(-_positive("dt", dt) / _positive("tau", tau))


def euler_decay(tau: float, dt: float = 1.0) -> float:
    """The decay ``1 - dt/tau`` of one Euler step.

    Args:
        tau: time constant, in the unit of ``dt``, at least ``dt``.
        dt: length of a step.

    >>> euler_decay(5.0)
    0.8
    """
    return 1 - _positive("dt", dt) / _positive("tau", tau)


@dataclass(frozen=True)
class Leaky:
    r"""A leaky integrator that never fires: the usual readout. Its output is the membrane potential.

    Args:
        decay: d, the fraction of the potential that is left after one step, in [0, 1]; see `exact_decay`.
        input_gain: the factor of the input; ``"complement"`` is ``1 - decay``.
        synapse: decay of a synaptic current $i_t = \alpha i_{t-1} + I_t$ that then charges the membrane; None
            lets the input charge it directly.
        v_rest: resting potential.
        learn: which of ``"decay"`` and ``"synapse"`` are learned, one value per neuron, starting from the
            values given here; the parameter is the logit of the decay.

    Raises:
        ModelError: a number is out of range, or nothing of that name can be learned.

    Example:
        >>> cell = Leaky(decay=0.5)
        >>> state = cell.charge({}, {"v": jnp.ones(2)}, jnp.array([0.0, 1.0]))
        >>> cell.output({}, None, state).tolist()
        [0.5, 1.5]
    """

    decay: float = 0.95
    input_gain: float | Literal["complement"] = 1.0
    synapse: float | None = None
    v_rest: float = 0.0
    learn: tuple[str, ...] = ()
    spikes: ClassVar[bool] = False
    decays: ClassVar[tuple[str, ...]] = ("decay", "synapse")

    def __post_init__(self) -> None:
        object.__setattr__(self, "learn", tuple(self.learn))
        for name in self.decays:
            self._check_decay(name)
        known = self._learnable()
        for name in self.learn:
            if name not in known:
                raise ModelError(f"{type(self).__name__} cannot learn {name!r}.", f"It can learn {', '.join(known)}.")

    @property
    def seen(self) -> tuple[str, ...]:
        """The membrane potential."""
        return ("v",)

    @property
    def stored(self) -> tuple[str, ...]:
        """The membrane, and the synaptic current if a learned parameter multiplies it."""
        return (*self.seen, "i") if self.synapse is not None and self._needs_current() else self.seen

    def init(self, shape: Shape) -> dict[str, jax.Array]:
        """The learned parameters at their given values, one per neuron."""
        return {name: jnp.full(shape, self._start(name), default_float()) for name in self.learn}

    def rest(self, shape: Shape, dtype: Any) -> State:
        """Potential at v_rest, no current."""
        state = {"v": jnp.full(shape, self.v_rest, dtype)}
        return state if self.synapse is None else state | {"i": jnp.zeros(shape, dtype)}

    def charge(self, params: PyTree, rest: State, current: jax.Array) -> State:
        """One step of current and potential."""
        before = {}
        if self.synapse is not None:
            current = before["i"] = self._number(params, "synapse") * rest["i"] + current
        before["v"] = self._leak(params, rest["v"]) + self._gain(params) * current
        return before

    def output(self, params: PyTree, surrogate: Any, before: State) -> jax.Array:
        """The membrane potential."""
        return before["v"]

    def settle(self, params: PyTree, before: State, spikes: jax.Array) -> State:
        """The same state: a readout has no reset."""
        return {name: before[name] for name in before if name in ("v", "i")}

    def recall(self, stored: State) -> State:
        """The stored entries; a current that was not stored is zero."""
        hidden = {} if self.synapse is None else {"i": jnp.zeros_like(stored["v"])}
        return hidden | stored

    def _leak(self, params: PyTree, v: jax.Array) -> jax.Array:
        decay = self._number(params, "decay")
        return decay * v + (1 - decay) * self.v_rest if self.v_rest else decay * v

    def _gain(self, params: PyTree) -> Any:
        return 1 - self._number(params, "decay") if self.input_gain == "complement" else self.input_gain

    def _number(self, params: PyTree, name: str) -> Any:
        if name not in self.learn:
            return getattr(self, name)
        return jax.nn.sigmoid(params[name]) if name in self.decays else params[name]

    def _start(self, name: str) -> float:
        value = getattr(self, name)
        return math.log(value / (1 - value)) if name in self.decays else value

    def _learnable(self) -> tuple[str, ...]:
        return tuple(name for name in self.decays if getattr(self, name) is not None)

    def _needs_current(self) -> bool:
        return bool({"decay", "synapse"} & set(self.learn))

    def _check_decay(self, name: str) -> None:
        value = getattr(self, name)
        if value is None:
            return
        if not 0 <= value <= 1:
            raise ModelError(
                f"{type(self).__name__} got {name}={value}, expected a decay in [0, 1].",
                "A time constant tau, in steps, becomes a decay with exact_decay(tau) or euler_decay(tau).",
            )
        if name in self.learn and value in (0, 1):
            raise ModelError(
                f"{type(self).__name__} cannot learn {name} from {value}, where its logit is infinite.",
                "Start strictly between 0 and 1.",
            )


@dataclass(frozen=True)
class LIF(Leaky):
    r"""The leaky integrate-and-fire neuron.

    Args:
        decay: d, the fraction of the potential that is left after one step; see `exact_decay`.
        input_gain: gamma, the factor of the input; ``"complement"`` is ``1 - decay``.
        synapse: decay of the synaptic current (CuBa-LIF); None lets the input charge the membrane directly.
        v_rest: resting potential.
        learn: which of ``"decay"``, ``"synapse"`` and ``"threshold"`` are learned, one value per neuron.
        threshold: theta, the potential at which it fires.
        reset: what a spike does to the potential: ``"soft"`` subtracts the threshold, ``"hard"`` sets
            ``v_reset``, ``"none"`` does nothing.
        v_reset: potential after a hard reset.
        detach_reset: whether the gradient ignores the spike in the reset.
        delay_reset: whether the reset takes place in the next step, after the leak: ``h_t = d h_{t-1} +
            gamma I_t - theta s_{t-1}`` when soft.

    Raises:
        ModelError: a number is out of range, or nothing of that name can be learned.

    Equivalents in other libraries: spikingjelly's neuron is ``decay=1 - 1/tau, detach_reset=False``, with
    ``input_gain="complement"`` if it decays the input; snntorch's Leaky is ``decay=beta``, with
    ``delay_reset=True`` for its soft reset only; spyx's is ``decay=beta, delay_reset=True, detach_reset=False``, but
    its spikes come one step later; jaxpike's is ``input_gain="complement"``.

    Example:
        >>> import neurai_core as neurai
        >>> cell, spike = LIF(decay=0.5), neurai.surrogate("superspike")
        >>> before = cell.charge({}, {"v": jnp.array([0.5, 1.0])}, jnp.array([0.5, 0.75]))
        >>> spikes = cell.output({}, spike, before)
        >>> spikes.tolist(), cell.settle({}, before, spikes)["v"].tolist()
        ([0.0, 1.0], [0.75, 0.25])
    """

    threshold: float = 1.0
    reset: Reset = "soft"
    v_reset: float = 0.0
    detach_reset: bool = True
    delay_reset: bool = False
    spikes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reset not in RESETS:
            raise ModelError(
                f"{type(self).__name__} got reset={self.reset!r}, which is not a reset.",
                f"Resets: {', '.join(RESETS)}.",
            )

    def rest(self, shape: Shape, dtype: Any) -> State:
        """Potential at v_rest, no current, no spike to reset."""
        state = super().rest(shape, dtype)
        return state | {"s": jnp.zeros(shape, dtype)} if self.delay_reset else state

    def charge(self, params: PyTree, rest: State, current: jax.Array) -> State:
        """One step of current and potential, and the reset where it is delayed."""
        before = super().charge(params, rest, current)
        if self.delay_reset:
            before["v"] = self._after_reset(before["v"], rest["s"], self._subtracted(params, rest))
        return before

    def output(self, params: PyTree, surrogate: Any, before: State) -> jax.Array:
        """1 where the potential reaches the threshold."""
        spikes: jax.Array = surrogate(before["v"] - self._number(params, "threshold"))
        return spikes

    def settle(self, params: PyTree, before: State, spikes: jax.Array) -> State:
        """The potential after the reset."""
        state = super().settle(params, before, spikes)
        spikes = jax.lax.stop_gradient(spikes) if self.detach_reset else spikes
        if self.delay_reset:
            return state | {"s": spikes}
        return state | {"v": self._after_reset(before["v"], spikes, self._subtracted(params, before))}

    def _subtracted(self, params: PyTree, state: State) -> Any:
        """What a soft reset subtracts."""
        return self._number(params, "threshold")

    def _after_reset(self, v: jax.Array, spikes: jax.Array, subtracted: Any) -> jax.Array:
        if self.reset == "soft":
            return v - subtracted * spikes
        if self.reset == "hard":
            v = (1 - spikes) * v
            return v + self.v_reset * spikes if self.v_reset else v
        return v

    def _learnable(self) -> tuple[str, ...]:
        return (*super()._learnable(), "threshold")

    def _needs_current(self) -> bool:
        # A delayed hard reset multiplies what the current has just charged.
        return super()._needs_current() or (self.delay_reset and self.reset == "hard" and not self.detach_reset)


@dataclass(frozen=True)
class ALIF(LIF):
    r"""The adaptive LIF neuron: every spike raises the threshold, which then decays back.

    $$u_t = h_t - (\theta + \beta a_t) \qquad a_{t+1} = \rho a_t + s_t$$

    Bellec et al. 2020, doi:10.1038/s41467-020-17236-y, where the reset is ``delay_reset=True``. Yin et al. 2021
    write $(1-\rho) s_t$ for the last term, which is the same with ``adaptation`` times $1-\rho$.

    Args:
        decay: as in `LIF`.
        input_gain: as in `LIF`.
        synapse: as in `LIF`.
        v_rest: as in `LIF`.
        learn: as in `LIF`, and ``"adaptation"`` and ``"adaptation_decay"``.
        threshold: as in `LIF`; a soft reset subtracts it, without the adaptation unless ``raised_reset``.
        reset: as in `LIF`.
        v_reset: as in `LIF`.
        detach_reset: as in `LIF`.
        delay_reset: as in `LIF`.
        adaptation: beta, how much one spike raises the threshold.
        adaptation_decay: rho, the fraction of the adaptation that is left after one step, in [0, 1].
        raised_reset: whether a soft reset subtracts the raised threshold, $\theta + \beta a_t$, with the a_t of the
            step in which it takes place; if it is delayed, as in the code of Yin et al., a_t includes the spike.

    Example:
        >>> import neurai_core as neurai
        >>> cell, spike = ALIF(adaptation=0.5), neurai.surrogate("superspike")
        >>> before = {"v": jnp.array([1.2, 1.2]), "a": jnp.array([0.0, 1.0])}
        >>> cell.output({}, spike, before).tolist()
        [1.0, 0.0]
    """

    adaptation: float = 0.2
    adaptation_decay: float = 0.99
    raised_reset: bool = False
    decays: ClassVar[tuple[str, ...]] = ("decay", "synapse", "adaptation_decay")

    @property
    def seen(self) -> tuple[str, ...]:
        """The membrane potential and the adaptation."""
        return ("v", "a")

    def rest(self, shape: Shape, dtype: Any) -> State:
        """At rest, not adapted."""
        return super().rest(shape, dtype) | {"a": jnp.zeros(shape, dtype)}

    def charge(self, params: PyTree, rest: State, current: jax.Array) -> State:
        """One step of the LIF neuron; the adaptation waits for the spike."""
        return super().charge(params, rest, current) | {"a": rest["a"]}

    def output(self, params: PyTree, surrogate: Any, before: State) -> jax.Array:
        """1 where the potential reaches the raised threshold."""
        spikes: jax.Array = surrogate(before["v"] - self._raised(params, before))
        return spikes

    def settle(self, params: PyTree, before: State, spikes: jax.Array) -> State:
        """The potential after the reset, and the adaptation with this spike."""
        adapted = self._number(params, "adaptation_decay") * before["a"] + spikes
        return super().settle(params, before, spikes) | {"a": adapted}

    def _raised(self, params: PyTree, state: State) -> jax.Array:
        raised: jax.Array = self._number(params, "threshold") + self._number(params, "adaptation") * state["a"]
        return raised

    def _subtracted(self, params: PyTree, state: State) -> Any:
        return self._raised(params, state) if self.raised_reset else super()._subtracted(params, state)

    def _learnable(self) -> tuple[str, ...]:
        return (*super()._learnable(), "adaptation")


def _positive(name: str, value: float) -> float:
    if not value > 0:
        raise ModelError(
            f"{name}={value} is not a duration, expected more than 0.", "exact_decay(20.0), dt in the same unit."
        )
    return value
