r"""E-prop: $dE/dW_{ji} \approx \sum_t L_j^t \, e_{ji}^t$, with traces that run forward in time.

Bellec et al. 2020, doi:10.1038/s41467-020-17236-y, equation 1. Their equations 14, 13 and 4 are, with $s_j$ the state
of neuron j and $z_j$ its spike,

$$\epsilon_{ji}^t = \frac{\partial s_j^t}{\partial s_j^{t-1}} \epsilon_{ji}^{t-1}
  + \frac{\partial s_j^t}{\partial W_{ji}} \qquad e_{ji}^t = \frac{\partial z_j^t}{\partial s_j^t} \epsilon_{ji}^t
  \qquad L_j^t = \sum_k B_{jk}^t \delta_k^t$$

The derivatives are those of one neuron alone: what its spike does later to others, and through them to itself, is left
out. $\delta^t$ is the error of the current into the readout at step t. The readout is linear, so its filter turned
around on the few errors gives the same sum as the paper's filter on every trace.

B holds the readout's weights, or random ones. In a stage below others, it is what a spike does to the readout's input
in the same step, through the stages between. So with the readout's weights, this is the gradient of back-propagation
through time in which spikes reach other spiking neurons without a delay only.

Only the readout and its errors grow with time. They are computed first, for the whole sequence, because a readout such
as the largest value over time shows only at the end which step was wrong; a second forward pass combines them with the
traces.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from neurai_algorithms.eprop.spec import EPropConfig
from neurai_algorithms.spiking_stages import check_dense, check_stages
from neurai_core.arrays import PyTree, normal
from neurai_core.models.spiking import Leaky, SpikingNetwork, Stage
from neurai_core.rule import Estimate, Objective, Rule, State, feedforward_predict, loss_aux, objective, split_batch


def build(
    config: EPropConfig,
    *,
    loss: Callable[..., Any],
    accuracy: Callable[..., Any] | None = None,
    has_aux: bool = False,
    **context: Any,
) -> Rule:
    """The rule "e-prop".

    Args:
        config: the validated settings.
        loss: ``(outputs, targets) -> scalar``, or a pair when ``has_aux``.
        accuracy: ``(outputs, targets) -> scalar`` or None.
        has_aux: whether the loss returns a pair.
        **context: not used.
    """
    score = objective(loss, accuracy, has_aux)

    def init(model: Any, params: PyTree, *, key: Any = None, model_state: PyTree = ()) -> PyTree:
        _check(model)
        return State(model_state, _random_feedback(key, params)) if config.feedback == "random" else model_state

    def estimate(
        model: Any, params: PyTree, state: PyTree, batch: PyTree, *, key: Any = None
    ) -> tuple[Estimate, PyTree]:
        _check(model)
        feedback = state.own if config.feedback == "random" else None
        return _estimate(score, model, params, feedback, batch, key), state

    return Rule(init, estimate, feedforward_predict)


class _Traces(NamedTuple):
    """What a stage carries from step to step; P is the number of a neuron's incoming weights, including its bias.

    Attributes:
        rest: state of the neurons after the reset, entries (B, N).
        spikes: their spikes, (B, N).
        eligibility: derivative of ``rest`` by every incoming weight, entries (P, B, N).
        grads: sum so far, of the incoming weights (P, N).
    """

    rest: Any
    spikes: jax.Array
    eligibility: Any
    grads: jax.Array


class _Now(NamedTuple):
    """What a stage computes at a step.

    Attributes:
        rest: as in `_Traces`.
        spikes: as in `_Traces`.
        eligibility: as in `_Traces`.
        trace: the eligibility traces, (P, B, N).
        gain: derivative of the spikes by the current, (B, N).
    """

    rest: Any
    spikes: jax.Array
    eligibility: Any
    trace: jax.Array
    gain: jax.Array


_Carried = tuple[tuple[_Traces, ...], jax.Array]  # of the hidden stages, and the gradient of the readout (N + 1, C)
_Feedback = tuple[jax.Array, ...] | None


def _estimate(
    score: Objective, model: SpikingNetwork, params: PyTree, feedback: _Feedback, batch: PyTree, key: Any
) -> Estimate:
    x, y = split_batch(batch)
    sequence = model.sequence(params, x, key=key)
    traces = replace(model, encode=None, readout="all")(params, sequence)

    def loss_of(traces: jax.Array) -> Any:
        outputs = model.read(traces)
        value, aux = score.loss(outputs, y)
        return value, (outputs, aux)

    (loss, (outputs, aux)), errors = jax.value_and_grad(loss_of, has_aux=True)(traces)
    errors = _of_currents(model.stages[-1].cell, jnp.moveaxis(errors, 1, 0))
    grads = _second_pass(model, params, feedback, sequence, errors)
    return Estimate(grads, loss, score.accuracy(outputs, y), loss_aux(aux))


def _of_currents(leak: Any, errors: jax.Array) -> jax.Array:
    """The errors of the currents into the readout, from those of its potentials, both (T, B, C)."""
    assert isinstance(leak, Leaky)

    def potentials(currents: jax.Array) -> jax.Array:
        def step(rest: Any, current: jax.Array) -> tuple[Any, jax.Array]:
            state = leak.charge({}, rest, current)
            return leak.settle({}, state, current), state["v"]

        return jax.lax.scan(step, leak.rest(errors.shape[1:], errors.dtype), currents)[1]

    _, transposed = jax.vjp(potentials, jnp.zeros_like(errors))
    of_currents: jax.Array = transposed(errors)[0]
    return of_currents


def _second_pass(
    model: SpikingNetwork, params: PyTree, feedback: _Feedback, sequence: jax.Array, errors: jax.Array
) -> PyTree:
    """Run forward again, combining every step's errors (T, B, C) with the traces; gradients like ``params``."""

    def step(before: _Carried, at: tuple[jax.Array, jax.Array]) -> tuple[_Carried, None]:
        return _step(model, params, feedback, before, *at), None

    begin = _before_the_first(model, params, sequence)
    (traces, readout), _ = jax.lax.scan(step, begin, (jnp.moveaxis(sequence, 1, 0), errors))
    sums = *(one.grads for one in traces), readout
    return tuple(_as_params(own, total) for own, total in zip(params, sums, strict=True))


def _step(
    model: SpikingNetwork, params: PyTree, feedback: _Feedback, before: _Carried, x: jax.Array, error: jax.Array
) -> _Carried:
    below, now = x, []
    for stage, own, one in zip(model.stages[:-1], params[:-1], before[0], strict=True):
        now.append(_forward(stage, model.surrogate, own, one, below))
        below = now[-1].spikes
    signals = _signals(params, feedback, error, [one.gain for one in now])
    traces = tuple(
        _Traces(found.rest, found.spikes, found.eligibility, one.grads + jnp.einsum("bj,pbj->pj", signal, found.trace))
        for one, found, signal in zip(before[0], now, signals, strict=True)
    )
    return traces, before[1] + _with_one(below).T @ error


def _forward(stage: Stage, surrogate: Any, own: PyTree, before: _Traces, below: jax.Array) -> _Now:
    """One step of a stage and of its traces."""

    def neuron(rest: Any, current: jax.Array) -> tuple[jax.Array, Any]:
        state = stage.cell.charge(own["cell"], rest, current)
        spikes = stage.cell.output(own["cell"], surrogate, state)
        return spikes, stage.cell.settle(own["cell"], state, spikes)

    incoming = _incoming(own, below, before.spikes)
    (spikes, rest), derivative = jax.linearize(neuron, before.rest, incoming @ _weights(own))
    by_weight = jnp.broadcast_to(incoming.T[..., None], (*incoming.T.shape, spikes.shape[1]))
    trace, eligibility = jax.vmap(derivative)(before.eligibility, by_weight)
    gain, _ = derivative(jax.tree.map(jnp.zeros_like, before.rest), jnp.ones_like(spikes))
    return _Now(rest, spikes, eligibility, trace, gain)


def _signals(params: PyTree, feedback: _Feedback, error: jax.Array, gains: list[jax.Array]) -> list[jax.Array]:
    """The learning signals of all hidden stages, (B, N) each."""
    if feedback is not None:
        return [error @ weights.T for weights in feedback]
    signals = [error @ params[-1]["input"]["w"].T]
    for own, gain in zip(params[-2:0:-1], gains[:0:-1], strict=True):
        signals.insert(0, (signals[0] * gain) @ own["input"]["w"].T)
    return signals


def _before_the_first(model: SpikingNetwork, params: PyTree, sequence: jax.Array) -> _Carried:
    batch, dtype, below, carried = sequence.shape[0], sequence.dtype, sequence[:, 0], []
    for stage, own in zip(model.stages[:-1], params[:-1], strict=True):
        spikes = jnp.zeros((batch, own["input"]["w"].shape[1]), dtype)
        rest = stage.cell.rest(spikes.shape, dtype)
        count = _incoming(own, below, spikes).shape[1]
        eligibility = jax.tree.map(lambda one, count=count: jnp.zeros((count, *one.shape), dtype), rest)
        carried.append(_Traces(rest, spikes, eligibility, jnp.zeros((count, spikes.shape[1]), dtype)))
        below = spikes
    width, outputs = params[-1]["input"]["w"].shape
    return tuple(carried), jnp.zeros((width + 1, outputs), dtype)


def _incoming(own: PyTree, x: jax.Array, spikes: jax.Array) -> jax.Array:
    """Inputs of a neuron, (B, P): the input, 1 for the bias, and the spikes of the stage in the previous step."""
    return jnp.concatenate([_with_one(x), spikes], axis=1) if "recurrent" in own else _with_one(x)


def _weights(own: PyTree) -> jax.Array:
    """The incoming weights, (P, N)."""
    w = own["input"]["w"]
    bias = own["input"].get("b", jnp.zeros(w.shape[1], w.dtype))
    recurrent = [own["recurrent"]] if "recurrent" in own else []
    return jnp.concatenate([w, bias[None], *recurrent])


def _with_one(x: jax.Array) -> jax.Array:
    return jnp.concatenate([x, jnp.ones((x.shape[0], 1), x.dtype)], axis=1)


def _as_params(own: PyTree, total: jax.Array) -> PyTree:
    """The sums of a stage in the structure of its parameters."""
    n = own["input"]["w"].shape[0]
    parts = {"w": total[:n], "b": total[n]}
    made = {"input": {name: parts[name] for name in own["input"]}, "cell": own["cell"]}
    return made | {"recurrent": total[n + 1 :]} if "recurrent" in own else made


def _random_feedback(key: Any, params: PyTree) -> tuple[jax.Array, ...]:
    """Draw fixed feedback weights (N, C) for every stage below the readout, at the scale of a new readout's."""
    _, outputs = params[-1]["input"]["w"].shape
    widths = [own["input"]["w"].shape[0] for own in params[1:]]
    keys = [*(jax.random.fold_in(key, index) for index in range(len(widths) - 1)), key]
    dtype = params[-1]["input"]["w"].dtype
    return tuple(normal(k, (width, outputs), dtype) / jnp.sqrt(width) for k, width in zip(keys, widths, strict=True))


def _check(model: Any) -> None:
    check_stages("E-prop", model)
    check_dense("E-prop", model)
