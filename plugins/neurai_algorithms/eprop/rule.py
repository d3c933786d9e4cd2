r"""E-prop: $dE/dW_{ji} \approx \sum_t L_j^t \, e_{ji}^t$, learning signals times eligibility traces.

Bellec et al. 2020, doi:10.1038/s41467-020-17236-y, equation 1. Their equations 14, 13 and 4 are, with $s_j$ the state
of neuron j and $z_j$ its spike,

$$\epsilon_{ji}^t = \frac{\partial s_j^t}{\partial s_j^{t-1}} \epsilon_{ji}^{t-1}
  + \frac{\partial s_j^t}{\partial W_{ji}} \qquad e_{ji}^t = \frac{\partial z_j^t}{\partial s_j^t} \epsilon_{ji}^t
  \qquad L_j^t = \sum_k B_{jk}^t \delta_k^t$$

The derivatives are those of one neuron alone: what its spike does later to others, and through them to itself, is left
out. $\delta^t$ is the error of the current into the readout at step t. The readout is linear, so
filtering its few errors backward in time gives the same sum as the paper's filter on every trace.

B holds the readout's weights, or random ones. In a stage below others, it is what a spike does to the readout's input
in the same step, through the stages between. So with the readout's weights, this is the gradient of back-propagation
through time in which spikes reach other spiking neurons without a delay only.

The readout is computed first, for the whole sequence, because one such as the largest value over time shows only at
the end which step was wrong. The sum is then taken `backward` or `forward` in time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from neurai_algorithms.eprop.backward import run_backward
from neurai_algorithms.eprop.forward import run_forward
from neurai_algorithms.eprop.signals import Feedback, errors_of_currents
from neurai_algorithms.eprop.spec import EPropConfig
from neurai_algorithms.spiking_stages import check_dense, check_stages
from neurai_core.arrays import PyTree, normal
from neurai_core.models.spiking import SpikingNetwork
from neurai_core.rule import Estimate, Objective, Rule, State, feedforward_predict, loss_aux, objective, split_batch

_RUN = {"backward": run_backward, "forward": run_forward}


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
    score, run = objective(loss, accuracy, has_aux), _RUN[config.direction]

    def init(model: Any, params: PyTree, *, key: Any = None, model_state: PyTree = ()) -> PyTree:
        _check(model)
        return State(model_state, _random_feedback(key, params)) if config.feedback == "random" else model_state

    def estimate(
        model: Any, params: PyTree, state: PyTree, batch: PyTree, *, key: Any = None
    ) -> tuple[Estimate, PyTree]:
        _check(model)
        feedback = state.own if config.feedback == "random" else None
        return _estimate(run, score, model, params, feedback, batch, key), state

    return Rule(init, estimate, feedforward_predict)


def _estimate(
    run: Any, score: Objective, model: SpikingNetwork, params: PyTree, feedback: Feedback, batch: PyTree, key: Any
) -> Estimate:
    x, y = split_batch(batch)
    sequence = jnp.moveaxis(model.sequence(params, x, key=key), 1, 0)
    traces, grads_of = run(model, params, feedback, sequence)

    def loss_of(traces: jax.Array) -> Any:
        outputs = model.read(jnp.moveaxis(traces, 0, 1))
        value, aux = score.loss(outputs, y)
        return value, (outputs, aux)

    (loss, (outputs, aux)), errors = jax.value_and_grad(loss_of, has_aux=True)(traces)
    grads = grads_of(errors_of_currents(model.stages[-1].cell, errors))
    return Estimate(grads, loss, score.accuracy(outputs, y), loss_aux(aux))


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
