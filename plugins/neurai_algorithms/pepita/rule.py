r"""PEPITA, Dellaferrera and Kreiman 2022: the error, projected onto the inputs, drives a second forward pass.

    h_l      standard pass on x ,        e = h_L - target
    h_l^err  modulated pass on x + F e

    dW_l = h_{l-1}^err^T (h_l - h_l^err)   below the output ,     dW_L = h_{L-1}^err^T e      (algorithm 1)

F is fixed and random, (outputs, inputs): ``init`` draws it for the inputs that it is told of. The error is the
derivative of the loss per example, which is softmax minus target for a cross-entropy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from neurai_algorithms.pepita.spec import PEPITAConfig
from neurai_core.arrays import PyTree
from neurai_core.errors import ModelError, UsageError
from neurai_core.layered import Layered
from neurai_core.rule import Estimate, Problem, Rule, State, feedforward_predict, loss_aux, objective, split_batch


def build(
    config: PEPITAConfig,
    *,
    loss: Callable[..., Any],
    accuracy: Callable[..., Any] | None = None,
    has_aux: bool = False,
    **context: Any,
) -> Rule:
    """The rule "PEPITA", for chains of dense layers; its state holds F, (outputs, inputs).

    Args:
        config: its settings.
        loss: ``(outputs, targets) -> scalar``, or a pair when ``has_aux``.
        accuracy: ``(outputs, targets) -> scalar`` or None.
        has_aux: whether the loss returns a pair.
        **context: not used.
    """
    score = objective(loss, accuracy, has_aux)

    def init(
        model: Layered, params: PyTree, *, key: jax.Array, model_state: PyTree = (), problem: Problem | None = None
    ) -> State:
        if problem is None:
            raise UsageError(
                "PEPITA projects the error onto the inputs, and their number is not known.",
                "Pass init(..., problem=problem_of(batch)).",
            )
        x = problem.batch[0]
        _check(model, x)
        outputs = jax.eval_shape(lambda params, x: activities(model, params, x)[-1][1], params, x)
        spread = config.scale * (6 / x.shape[1]) ** 0.5  # the uniform of He, as in the paper
        shape = outputs.shape[1], x.shape[1]
        return State(model_state, spread * jax.random.uniform(key, shape, outputs.dtype, -1, 1))

    def estimate(
        model: Layered, params: PyTree, state: State, batch: PyTree, *, key: Any = None
    ) -> tuple[Estimate, State]:
        x, y = split_batch(batch)
        standard = activities(model, params, x)
        outputs = standard[-1][1]
        (value, aux), e = jax.value_and_grad(score.loss, has_aux=True)(outputs, y)  # of the batch: a mean, or a sum
        modulated = activities(model, params, x + e * len(x) @ state.own)
        missed = [(h - err) / len(x) for (_, h), (_, err) in zip(standard[:-1], modulated[:-1], strict=True)]
        grads = tuple(
            jax.vjp(lambda own, layer=layer, below=below: layer.linear(own, below), own)[1](signal)[0]
            for layer, own, (below, _), signal in zip(model.layers, params, modulated, [*missed, e], strict=True)
        )
        return Estimate(grads, value, score.accuracy(outputs, y), loss_aux(aux)), state

    return Rule(init, estimate, feedforward_predict)


def activities(model: Layered, params: PyTree, x: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
    """Input and output of every layer, in order."""
    found = []
    for layer, own in zip(model.layers, params, strict=True):
        below, x = x, layer.apply(own, (), x, train=True)[0]
        found.append((below, x))
    return found


def _check(model: Layered, x: Any) -> None:
    hint = "Use mlp(...); bp and forward-gradient train any network."
    if len(x.shape) != 2:
        raise ModelError(f"PEPITA takes networks of vectors, and a batch of inputs is {x.shape}.", hint)
    for index, layer in enumerate(model.layers):
        if layer.linear is None:
            raise ModelError(
                f"PEPITA takes chains of dense layers, and layer {index} ({layer.name}) is not dense.", hint
            )
