r"""Predictive coding with predictions held at the feed-forward pass, and back-propagation, on any network.

    eps_ki = mu_ki - v_k ,   v_k <- v_k + eta (sum_i eps_ki - sum_j (d mu_j / d v_k)^T eps_j) ,   mu and d mu held

On a chain this is `fixed_prediction`, whose closed form needs that all paths to the output are of one length. In mode
exact the errors are those of back-propagation, ``eps_k = d loss / d v_k``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from neurai_algorithms.differences import add, like, subtract, widened, zeros
from neurai_algorithms.predictive_coding.network_task import Errors, NetworkTask, errors_of, listed
from neurai_algorithms.predictive_coding.task import Found
from neurai_algorithms.stable_step import limited_steps
from neurai_core.arrays import PyTree, tree_scale
from neurai_core.relaxation import relax


def exact_on_network(task: NetworkTask) -> Found:
    """The errors and gradients of back-propagation."""

    def loss(errors: PyTree) -> tuple[Any, Any]:
        (outputs, model_state), predictions, activities = task.displaced(errors)
        return task.score.loss(outputs, task.y)[0], (outputs, model_state, predictions, activities)

    (_, (outputs, model_state, predictions, at)), adjoints = jax.value_and_grad(loss, has_aux=True)(task.at_rest())
    errors = {
        name: (adjoints[name], *(jnp.zeros_like(adjoints[name]) for _ in found[1:]))
        for name, found in predictions.items()
    }
    top_error = jax.grad(lambda outputs: task.score.loss(outputs, task.y)[0])(widened(outputs))
    scaled = tree_scale((errors, top_error), task.scale)
    moved = {name: like(subtract(widened(at[name]), adjoints[name]), at[name]) for name in at}
    return Found(task.gradients(at, *scaled), outputs, model_state, listed(errors, top_error), moved, 0)


def fixed_on_network(task: NetworkTask) -> Found:
    """Gradients and errors after n sweeps with everything held at the feed-forward pass but the activities."""
    config, here = task.config, _feedforward(task)
    step = limited_steps(config.eta, None)
    top_error = jax.grad(lambda outputs: task.score.loss(outputs, task.y)[0])(widened(here.outputs))

    def errors_at(deltas: PyTree) -> Errors:
        return {name: tuple(subtract(base, deltas[name]) for base in found) for name, found in here.base.items()}

    def sweep(t: Any, deltas: PyTree) -> PyTree:
        errors = errors_at(deltas)
        back = here.pull(errors, top_error)
        descent = {name: subtract(sum(found), back[name]) for name, found in errors.items()}
        return add(deltas, tree_scale(descent, step(t)))

    start = {name: zeros(at) for name, at in here.at.items()}
    last = relax(sweep, start, config.n - 1).state
    deltas = sweep(config.n - 1, last)
    errors = errors_at(deltas if config.fresh else last)
    moved = {name: like(add(widened(here.at[name]), deltas[name]), here.at[name]) for name in here.at}
    grads = task.gradients(here.at, *tree_scale((errors, top_error), task.scale))
    return Found(grads, here.outputs, here.model_state, listed(errors, top_error), moved, config.n)


class FeedForward(NamedTuple):
    """A feed-forward pass.

    Attributes:
        outputs: the outputs.
        model_state: the collections after it.
        at: activities by name.
        base: every prediction minus its activity.
        pull: ``(errors, error of the outputs) -> sum over predictions of their transposed derivatives by activities``.
    """

    outputs: PyTree
    model_state: PyTree
    at: dict[str, jax.Array]
    base: Errors
    pull: Callable[[Errors, PyTree], dict[str, jax.Array]]


def _feedforward(task: NetworkTask) -> FeedForward:
    arguments = (task.params, task.model_state), task.x
    at = {name: found[0] for name, found in task.network(*arguments)[1].items()}

    def predicted(activities: PyTree) -> Any:
        (outputs, model_state), predictions = task.network(*arguments, activities)
        return (outputs, predictions), model_state

    (outputs, predictions), pull, model_state = jax.vjp(predicted, at, has_aux=True)

    def back(errors: Errors, top_error: PyTree) -> dict[str, jax.Array]:
        return widened(pull(like((top_error, errors), (outputs, predictions)))[0])  # type: ignore[no-any-return]

    return FeedForward(outputs, model_state, at, errors_of(predictions, at), back)
