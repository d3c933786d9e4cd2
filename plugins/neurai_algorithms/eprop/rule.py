r"""E-prop: $dE/dW_{ji} \approx \sum_t L_j^t \, \bar e_{ji}^t$, forward in time.

Bellec et al. 2020, doi:10.1038/s41467-020-17236-y. With $s_j$ the state of neuron j and $z_j$ its spike,

$$\epsilon_{ji}^t = \frac{\partial s_j^t}{\partial s_j^{t-1}} \epsilon_{ji}^{t-1}
  + \frac{\partial s_j^t}{\partial W_{ji}} \qquad e_{ji}^t = \frac{\partial z_j^t}{\partial s_j^t} \epsilon_{ji}^t
  \qquad L_j^t = \sum_k B_{jk} \frac{\partial E}{\partial y_k^t}$$

and $\bar e$ the eligibility trace filtered as the readout y filters spikes. The derivatives are those of one
neuron alone: what its spike does to the others, and through them to itself, is left out. So if B holds the readout's
weights, this is the gradient of back-propagation through time with the path through recurrent spikes cut.

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
from neurai_core.arrays import PyTree, normal
from neurai_core.errors import ModelError
from neurai_core.layered import activation_function, dense_linear
from neurai_core.models.spiking import LIF, Leaky, SpikingNetwork
from neurai_core.rule import Estimate, Objective, Rule, State, feedforward_predict, loss_aux, objective, split_batch

_HINT = "snn((64, 128, 10), surrogate=..., recurrent=True) is such a network; BP takes any other."


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
        weights = params[1]["input"]["w"]
        return State(model_state, _random_feedback(key, weights)) if config.feedback == "random" else model_state

    def estimate(
        model: Any, params: PyTree, state: PyTree, batch: PyTree, *, key: Any = None
    ) -> tuple[Estimate, PyTree]:
        _check(model)
        feedback = state.own if config.feedback == "random" else params[1]["input"]["w"]
        return _estimate(score, model, params, feedback, batch, key), state

    return Rule(init, estimate, feedforward_predict)


class _Traces(NamedTuple):
    """State carried from step to step; P is the number of a neuron's incoming weights, including its bias.

    Attributes:
        rest: state of the hidden neurons after the reset, entries (B, N).
        spikes: their spikes, (B, N).
        eligibility: derivative of ``rest`` by every incoming weight, entries (P, B, N).
        filtered: the readout's filter of the eligibility traces, entries (P, B, N).
        shown: the readout's filter of its inputs, the spikes and a constant 1, entries (B, N + 1).
        grads: sums so far, of the hidden neurons' incoming weights (P, N) and of the readout's (N + 1, C).
    """

    rest: Any
    spikes: jax.Array
    eligibility: Any
    filtered: Any
    shown: Any
    grads: tuple[jax.Array, jax.Array]


def _estimate(
    score: Objective, model: SpikingNetwork, params: PyTree, feedback: jax.Array, batch: PyTree, key: Any
) -> Estimate:
    x, y = split_batch(batch)
    sequence = model.sequence(params, x, key=key)
    traces = replace(model, encode=None, readout="all")(params, sequence)

    def loss_of(traces: jax.Array) -> Any:
        outputs = model.read(traces)
        value, aux = score.loss(outputs, y)
        return value, (outputs, aux)

    (loss, (outputs, aux)), errors = jax.value_and_grad(loss_of, has_aux=True)(traces)
    sums = _second_pass(model, params, feedback, sequence, errors)
    return Estimate(_as_params(params, *sums), loss, score.accuracy(outputs, y), loss_aux(aux))


def _second_pass(
    model: SpikingNetwork, params: PyTree, feedback: jax.Array, sequence: jax.Array, errors: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Run forward again, combining every step's errors ``(B, T, C)`` with the traces."""

    def step(before: _Traces, at: tuple[jax.Array, jax.Array]) -> tuple[_Traces, None]:
        return _step(model, params[0], feedback, before, *at), None

    steps = jnp.moveaxis(sequence, 1, 0), jnp.moveaxis(errors, 1, 0)
    ended, _ = jax.lax.scan(step, _before_the_first(model, params, sequence), steps)
    return ended.grads


def _step(
    model: SpikingNetwork, own: PyTree, feedback: jax.Array, before: _Traces, x: jax.Array, error: jax.Array
) -> _Traces:
    hidden, leak = model.stages[0], model.stages[1].cell

    def neuron(rest: Any, current: jax.Array) -> tuple[jax.Array, Any]:
        state = hidden.cell.charge(own["cell"], rest, current)
        spikes = hidden.cell.output(own["cell"], model.surrogate, state)
        return spikes, hidden.cell.settle(own["cell"], state, spikes)

    incoming = _incoming(own, x, before.spikes)
    (spikes, rest), derivative = jax.linearize(neuron, before.rest, incoming @ _weights(own))
    by_weight = jnp.broadcast_to(incoming.T[..., None], (*incoming.T.shape, spikes.shape[1]))
    trace, eligibility = jax.vmap(derivative)(before.eligibility, by_weight)
    filtered = leak.charge({}, before.filtered, trace)
    shown = leak.charge({}, before.shown, _with_one(spikes))
    found = (
        jnp.einsum("bj,pbj->pj", error @ feedback.T, filtered["v"]),
        jnp.einsum("bj,bk->jk", shown["v"], error),
    )
    grads = jax.tree.map(jnp.add, before.grads, found)
    return _Traces(rest, spikes, eligibility, leak.settle({}, filtered, trace), leak.settle({}, shown, spikes), grads)


def _before_the_first(model: SpikingNetwork, params: PyTree, sequence: jax.Array) -> _Traces:
    own, out = params[0], params[1]["input"]["w"]
    batch, width, dtype = sequence.shape[0], out.shape[0], sequence.dtype
    spikes = jnp.zeros((batch, width), dtype)
    rest = model.stages[0].cell.rest(spikes.shape, dtype)
    count = _incoming(own, sequence[:, 0], spikes).shape[1]
    leak = model.stages[1].cell
    return _Traces(
        rest,
        spikes,
        jax.tree.map(lambda one: jnp.zeros((count, *one.shape), dtype), rest),
        leak.rest((count, batch, width), dtype),
        leak.rest((batch, width + 1), dtype),
        (jnp.zeros((count, width), dtype), jnp.zeros((width + 1, out.shape[1]), dtype)),
    )


def _incoming(own: PyTree, x: jax.Array, spikes: jax.Array) -> jax.Array:
    """Inputs of a hidden neuron, (B, P): the input, 1 for the bias, and the spikes of the previous step."""
    return jnp.concatenate([_with_one(x), spikes], axis=1) if "recurrent" in own else _with_one(x)


def _weights(own: PyTree) -> jax.Array:
    """The incoming weights, (P, N)."""
    w = own["input"]["w"]
    bias = own["input"].get("b", jnp.zeros(w.shape[1], w.dtype))
    recurrent = [own["recurrent"]] if "recurrent" in own else []
    return jnp.concatenate([w, bias[None], *recurrent])


def _with_one(x: jax.Array) -> jax.Array:
    return jnp.concatenate([x, jnp.ones((x.shape[0], 1), x.dtype)], axis=1)


def _as_params(params: PyTree, incoming: jax.Array, shown: jax.Array) -> PyTree:
    """The sums in the structure of the parameters."""

    def stage(own: PyTree, total: jax.Array) -> PyTree:
        n = own["input"]["w"].shape[0]
        parts = {"w": total[:n], "b": total[n]}
        made = {"input": {name: parts[name] for name in own["input"]}, "cell": own["cell"]}
        return made | {"recurrent": total[n + 1 :]} if "recurrent" in own else made

    return stage(params[0], incoming), stage(params[1], shown)


def _random_feedback(key: Any, weights: jax.Array) -> jax.Array:
    """Draw fixed feedback weights at the scale of a new readout's."""
    return normal(key, weights.shape, weights.dtype) / jnp.sqrt(weights.shape[0])


def _check(model: Any) -> None:
    """Check that e-prop can train a model.

    Raises:
        ModelError: it cannot; names the part that does not fit.
    """
    if not isinstance(model, SpikingNetwork):
        raise ModelError(f"E-prop trains a SpikingNetwork, got a {type(model).__name__}.", _HINT)
    cells: list[Any] = [stage.cell for stage in model.stages]
    if len(cells) != 2 or not isinstance(cells[0], LIF) or type(cells[1]) is not Leaky or model.stages[1].recurrent:
        made = ", ".join(type(cell).__name__ for cell in cells)
        raise ModelError(f"E-prop trains one stage of LIF or ALIF and a Leaky readout, got {made}.", _HINT)
    for index, (stage, cell) in enumerate(zip(model.stages, cells, strict=True)):
        linear = stage.synapse.linear is dense_linear and stage.synapse.activation is activation_function("identity")
        if not linear:
            raise ModelError(f"E-prop needs dense synapses, and stage {index} has {stage.synapse.name}.", _HINT)
        if cell.learn:
            raise ModelError(
                f"E-prop trains weights, and stage {index} learns {', '.join(cell.learn)} too.",
                "Give the cell learn=(), or train with BP.",
            )
    if cells[1].v_rest or model.record:
        what = "a readout that leaks to another potential than 0" if cells[1].v_rest else "a network that records"
        raise ModelError(f"E-prop cannot train {what}.", _HINT)
