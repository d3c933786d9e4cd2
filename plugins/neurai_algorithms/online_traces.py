r"""Learning at every step of a spiking network, from presynaptic traces, in memory that does not grow with time.

With resets and spikes of other steps held fixed, the membrane $u_j^t$ is linear in the weights of its synapses:

$$\frac{\partial u_j^t}{\partial W_{ij}} = \hat a_i^t = \sum_{\tau \le t} \kappa^{t-\tau} s_i^\tau \qquad
  \frac{dE}{dW_{ij}} \approx \sum_t \frac{\partial L^t}{\partial u_j^t} \hat a_i^t$$

where $\kappa$ is the response of the membrane to one spike over a weight of 1, and $L^t$ a loss of step t alone, whose
derivative goes through the stages within the step. A bias has the trace of an input that is always 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from neurai_algorithms.spiking_stages import check_stages, is_linear
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

    def step(at: tuple[_Carried, jax.Array], _: None) -> tuple[tuple[_Carried, jax.Array], None]:
        carried, t = at  # counted, because a list of all steps would grow with time
        below = drive if constant else jax.lax.dynamic_index_in_dim(drive, t, 1, keepdims=False)
        return (_step(model, params, carried, below, current, step_loss(y), through_stages), t + 1), None

    (ended, _), _ = jax.lax.scan(step, (begin, jnp.zeros((), int)), length=steps, unroll=model.unroll)
    outputs = ended.outputs / steps if model.readout == "mean" else ended.outputs
    loss, aux = score.loss(outputs, y)
    grads = tuple(
        _as_params(stage, own, one, drive if constant and index == 0 else None, steps)
        for index, (stage, own, one) in enumerate(zip(model.stages, params, ended.stages, strict=True))
    )
    return Estimate(grads, loss, score.accuracy(outputs, y), {"step_loss": ended.loss / steps, **loss_aux(aux)})


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


# ---------------------------------------------------------------------------- one step


def _step(
    model: SpikingNetwork, params: PyTree, carried: _Carried, x: jax.Array, current: Any, loss: StepLoss, through: bool
) -> _Carried:
    def loss_of(pushes: tuple[jax.Array, ...]) -> Any:
        """The loss of this step, if its membranes were pushed."""
        below, inputs, spikes, after = x, [], [], []
        for index, (stage, own, one, push) in enumerate(zip(model.stages, params, carried.stages, pushes, strict=True)):
            inputs.append(below)
            if current is not None and index == 0:
                charged = stage.charge(own, one.past, current)
            else:
                below = below if through else jax.lax.stop_gradient(below)
                charged = stage.charge(own, one.past, stage.project(own, below))
            below, past = stage.fire(own, model.surrogate, charged | {"v": charged["v"] + push})
            spikes.append(below)
            after.append(past)
        return loss(below, tuple(spikes[:-1])), (below, inputs, after)

    pushes = tuple(jnp.zeros_like(one.past.rest["v"]) for one in carried.stages)
    (value, (outputs, inputs, after)), signals = jax.value_and_grad(loss_of, has_aux=True)(pushes)
    stages = tuple(
        _learned(stage, own, one, *now)
        for stage, own, one, now in zip(
            model.stages, params, carried.stages, zip(inputs, signals, after, strict=True), strict=True
        )
    )
    return _Carried(stages, _read(model.readout, carried.outputs, outputs), carried.loss + value)


def _learned(stage: Stage, own: PyTree, before: _Followed, below: jax.Array, signal: jax.Array, past: Any) -> _Followed:
    """A stage after a step: its traces with what has just arrived, and its sums with signal times trace."""
    leak = _leak(stage)
    one, unit = _follow(leak, before.one, jnp.ones((), signal.dtype))
    grads, recurrent, trace, of_own = before.grads, before.recurrent, before.below, before.own
    if trace == ():
        grads = grads + unit * signal
    else:
        trace, a = _follow(leak, trace, below)
        found = _of_weights(stage, own, a / unit, unit * signal)
        grads = jax.tree.map(jnp.add, grads, found)
    if stage.recurrent:
        of_own, a = _follow(leak, of_own, before.past.spikes)
        recurrent = recurrent + a.T @ signal
    return _Followed(past, trace, of_own, one, grads, recurrent)


def _leak(stage: Stage) -> Leaky:
    """The membrane without its resets."""
    cell: Any = stage.cell
    return Leaky(cell.decay, cell.input_gain, cell.synapse)


def _follow(leak: Leaky, trace: Any, arriving: jax.Array) -> tuple[Any, jax.Array]:
    """The next trace, and its value."""
    charged = leak.charge({}, trace, arriving)
    return leak.settle({}, charged, arriving), charged["v"]


def _of_weights(stage: Stage, own: PyTree, a: jax.Array, signal: jax.Array) -> PyTree:
    """The synapses' gradient, of currents from the input a with these errors."""
    return jax.linear_transpose(lambda given: stage.project({"input": given}, a), own["input"])(signal)[0]


def _read(readout: str, so_far: jax.Array, outputs: jax.Array) -> jax.Array:
    if readout == "last":
        return outputs
    return jnp.maximum(so_far, outputs) if readout == "max" else so_far + outputs


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
