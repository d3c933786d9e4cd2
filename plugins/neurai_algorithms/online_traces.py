r"""Learning at every step of a spiking network, from presynaptic traces, in memory that does not grow with time.

With resets and spikes of other steps held fixed, the membrane $u_j^t$ is linear in the weights of its synapses:

$$\frac{\partial u_j^t}{\partial W_{ij}} = \hat a_i^t = \sum_{\tau \le t} \kappa^{t-\tau} s_i^\tau \qquad
  \frac{dE}{dW_{ij}} \approx \sum_t \frac{\partial L^t}{\partial u_j^t} \hat a_i^t$$

where $\kappa$ is the response of the membrane to one spike over a weight of 1, and $L^t$ a loss of step t alone, whose
derivative goes through the stages within the step. A bias has the trace of an input that is always 1.

A few steps make a chunk, whose matrix products are taken at once, see `time_chunks`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from neurai_algorithms.spiking_stages import check_stages, is_linear
from neurai_algorithms.time_chunks import chunk_length, chunk_of, flat, folded, over_chunks
from neurai_core.arrays import PyTree
from neurai_core.errors import ModelError
from neurai_core.models.spiking import Constant, Leaky, SpikingNetwork, Stage
from neurai_core.rule import Estimate, Objective, loss_aux, split_batch

# The loss of a step, from the outputs (B, C) and the spikes (B, ...) of every stage below the readout.
StepLoss = Callable[[jax.Array, tuple[jax.Array, ...]], jax.Array]


class _Followed(NamedTuple):
    """What a stage carries from step to step.

    Attributes:
        past: its own state.
        below: trace of what reaches its synapses, entries (B, ...); () if that is the same at every step.
        own: trace of its own spikes, entries (B, N); () if it is not recurrent.
        one: trace of an input that is always 1, scalar entries.
        grads: sum so far, like its parameters; of a constant input, of its currents (B, N).
        recurrent: sum so far, of its recurrent weights (N, N) or ().
    """

    past: Any
    below: Any
    own: Any
    one: Any
    grads: PyTree
    recurrent: Any


class _Carried(NamedTuple):
    """The stages, the outputs as read out so far (B, C), and the sum of the losses of all steps."""

    stages: tuple[_Followed, ...]
    outputs: jax.Array
    loss: jax.Array


def learn_online(
    score: Objective,
    model: SpikingNetwork,
    params: PyTree,
    batch: PyTree,
    key: Any,
    step_loss: Callable[[jax.Array], StepLoss],
    *,
    through_stages: bool,
) -> Estimate:
    """The sums over all steps, and the loss and accuracy of the forward pass.

    Args:
        score: loss and accuracy of the network's outputs.
        model: a network that `check_online` accepts.
        params: its parameters.
        batch: ``(x, y)``.
        key: for a rate code.
        step_loss: makes the loss of a step from the targets.
        through_stages: whether its derivative goes on to the stages below.
    """
    x, y = split_batch(batch)
    constant = isinstance(model.encode, Constant)
    drive = (
        jnp.asarray(x, jnp.result_type(*jax.tree.leaves(params))) if constant else model.sequence(params, x, key=key)
    )
    steps = model.encode.steps if isinstance(model.encode, Constant) else drive.shape[1]
    first = drive if constant else drive[:, 0]
    begin = _begin(model, params, first, constant)
    current = model.stages[0].project(params[0], first) if constant else None
    length = chunk_length(steps)
    loss = step_loss(y)

    def chunk(carried: _Carried, index: jax.Array) -> _Carried:
        below = jnp.broadcast_to(drive, (length, *drive.shape)) if constant else chunk_of(drive, index, length)
        return _chunk(model, params, carried, below, current, loss, through_stages)

    ended: _Carried = over_chunks(chunk, begin, steps // length, model.unroll)
    outputs = ended.outputs / steps if model.readout == "mean" else ended.outputs
    value, aux = score.loss(outputs, y)
    grads = tuple(
        _as_params(stage, own, one, drive if constant and index == 0 else None, steps)
        for index, (stage, own, one) in enumerate(zip(model.stages, params, ended.stages, strict=True))
    )
    return Estimate(grads, value, score.accuracy(outputs, y), {"step_loss": ended.loss / steps, **loss_aux(aux)})


def check_online(rule: str, model: Any) -> None:
    """Check that a network can learn online from presynaptic traces.

    Raises:
        ModelError: it cannot; names the part that does not fit.
    """
    check_stages(rule, model)
    for index, stage in enumerate(model.stages):
        if not is_linear(stage):
            raise ModelError(
                f"{rule} needs linear synapses in one layer, and stage {index} has {stage.synapse.name}.",
                "Give that stage dense(...), or conv(...) with avg_pool, or train with BP.",
            )
        if getattr(stage.cell, "reset", "") == "hard":
            raise ModelError(
                f"{rule} follows membranes through soft resets, and stage {index} resets hard.",
                "Give the cell reset='soft', or train with e-prop or BP.",
            )
    if model.readout == "all":
        raise ModelError(
            f"{rule} reads its outputs out while it learns, and readout='all' keeps those of every step.",
            "Give the network readout='mean', 'sum', 'max' or 'last'.",
        )


# ---------------------------------------------------------------------------- a chunk of steps


class _Ran(NamedTuple):
    """A stage in the steps of a chunk; all arrays have the axis of steps first.

    Attributes:
        below: what reached its synapses.
        spikes: its output.
        slope: derivative of the output by the membrane.
        back: from errors of the currents to those of what reached the synapses.
        past: its own state after the last step.
    """

    below: jax.Array
    spikes: jax.Array
    slope: jax.Array
    back: Callable[[jax.Array], tuple[jax.Array]]
    past: Any


def _chunk(
    model: SpikingNetwork, params: PyTree, carried: _Carried, x: jax.Array, current: Any, loss: StepLoss, through: bool
) -> _Carried:
    """Steps whose synapses are multiplied at once: of every stage forward, for errors, and for weights."""
    below, ran = x, []
    for index, (stage, own, one) in enumerate(zip(model.stages, params, carried.stages, strict=True)):
        ran.append(_run(stage, model.surrogate, own, one.past, below, current if index == 0 else None))
        below = ran[-1].spikes
    value, errors = jax.value_and_grad(lambda all_spikes: _losses(loss, all_spikes))([one.spikes for one in ran])
    signals = [errors[-1] * ran[-1].slope]
    for index in reversed(range(len(ran) - 1)):
        error = errors[index]
        if through:
            above = _gain(model.stages[index + 1], signals[0].dtype) * signals[0]
            error = error + ran[index + 1].back(above)[0]
        signals.insert(0, error * ran[index].slope)
    stages = tuple(
        _learned(stage, own, one, found, signal)
        for stage, own, one, found, signal in zip(model.stages, params, carried.stages, ran, signals, strict=True)
    )
    return _Carried(stages, _read(model.readout, carried.outputs, below), carried.loss + value)


def _losses(loss: StepLoss, spikes: list[jax.Array]) -> jax.Array:
    """The sum of the losses of all steps."""
    return jnp.sum(jax.vmap(lambda each: loss(each[-1], tuple(each[:-1])))(spikes))


def _run(stage: Stage, surrogate: Any, own: PyTree, past: Any, below: jax.Array, current: Any) -> _Ran:
    """The neurons of a stage, from its input or from a current that is the same at every step."""
    if current is None:
        currents, back = jax.vjp(lambda below: folded(partial(stage.project, own), below), below)
    else:
        currents, back = jnp.broadcast_to(current, (len(below), *current.shape)), lambda errors: (errors,)

    def step(past: Any, current: jax.Array) -> tuple[Any, tuple[jax.Array, jax.Array]]:
        before = stage.charge(own, past, current)
        v, ones = before["v"], jnp.ones_like(before["v"])
        spikes, slope = jax.jvp(lambda v: stage.output(own, surrogate, before | {"v": v}), (v,), (ones,))
        return stage.fire(own, surrogate, before)[1], (spikes, slope)

    past, (spikes, slope) = jax.lax.scan(step, past, currents)
    return _Ran(below, spikes, slope, back, past)


def _learned(stage: Stage, own: PyTree, before: _Followed, ran: _Ran, signal: jax.Array) -> _Followed:
    """A stage after a chunk: its traces with what has arrived, and its sums with signal times trace."""
    leak, ones = _leak(stage), jnp.ones(len(signal), signal.dtype)
    one, unit = _follow(leak, before.one, ones, ones)
    signal = unit.reshape(-1, *[1] * (signal.ndim - 1)) * signal  # traces are relative to that of a 1
    grads, recurrent, trace, of_own = before.grads, before.recurrent, before.below, before.own
    if trace == ():
        grads = grads + signal.sum(axis=0)
    else:
        trace, a = _follow(leak, trace, ran.below, unit)
        grads = jax.tree.map(jnp.add, grads, _of_weights(stage, own, flat(a), flat(signal)))
    if stage.recurrent:
        arrived = jnp.concatenate([before.past.spikes[None], ran.spikes[:-1]])
        of_own, a = _follow(leak, of_own, arrived, unit)
        recurrent = recurrent + flat(a).T @ flat(signal)
    return _Followed(ran.past, trace, of_own, one, grads, recurrent)


def _leak(stage: Stage) -> Leaky:
    """The membrane without its resets."""
    cell: Any = stage.cell
    return Leaky(cell.decay, cell.input_gain, cell.synapse)


def _gain(stage: Stage, dtype: Any) -> jax.Array:
    """What a current of 1 does to the membrane in the same step."""
    leak = _leak(stage)
    return leak.charge({}, leak.rest((), dtype), jnp.ones((), dtype))["v"]


def _follow(leak: Leaky, trace: Any, arriving: jax.Array, unit: jax.Array) -> tuple[Any, jax.Array]:
    """The trace after the last step, and its value at every step relative to a unit."""

    def step(trace: Any, now: tuple[jax.Array, jax.Array]) -> tuple[Any, jax.Array]:
        arriving, unit = now
        charged = leak.charge({}, trace, arriving)
        return leak.settle({}, charged, arriving), charged["v"] / unit

    return jax.lax.scan(step, trace, (arriving, unit))


def _of_weights(stage: Stage, own: PyTree, a: jax.Array, signal: jax.Array) -> PyTree:
    """The synapses' gradient, of currents from the input a with these errors."""
    return jax.linear_transpose(lambda given: stage.project({"input": given}, a), own["input"])(signal)[0]


def _read(readout: str, so_far: jax.Array, outputs: jax.Array) -> jax.Array:
    if readout == "last":
        return outputs[-1]
    return jnp.maximum(so_far, outputs.max(axis=0)) if readout == "max" else so_far + outputs.sum(axis=0)


# ---------------------------------------------------------------------------- before and after all steps


def _begin(model: SpikingNetwork, params: PyTree, x: jax.Array, constant: bool) -> _Carried:
    below, stages, dtype = x, [], x.dtype
    for index, (stage, own, past) in enumerate(zip(model.stages, params, model.start(params, x), strict=True)):
        leak, held, neurons = _leak(stage), constant and index == 0, past.rest["v"]
        grads = jnp.zeros_like(neurons) if held else jax.tree.map(jnp.zeros_like, own["input"])
        trace = () if held else leak.rest(below.shape, dtype)
        of_own = leak.rest(neurons.shape, dtype) if stage.recurrent else ()
        recurrent = jnp.zeros_like(own["recurrent"]) if stage.recurrent else ()
        stages.append(_Followed(past, trace, of_own, leak.rest((), dtype), grads, recurrent))
        below = neurons
    outputs = jnp.full_like(below, -jnp.inf) if model.readout == "max" else jnp.zeros_like(below)
    return _Carried(tuple(stages), outputs, jnp.zeros((), dtype))


def _as_params(stage: Stage, own: PyTree, sums: _Followed, held: Any, steps: int) -> PyTree:
    """The mean over steps of a stage's sums, in the structure of its parameters."""
    grads = sums.grads if held is None else _of_weights(stage, own, held, sums.grads)
    made = {"input": grads, "cell": own["cell"]} | ({"recurrent": sums.recurrent} if stage.recurrent else {})
    return jax.tree.map(lambda total: total / steps, made)
