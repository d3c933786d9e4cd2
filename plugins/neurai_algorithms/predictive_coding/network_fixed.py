r"""Predictive coding with predictions held at the feed-forward pass, and back-propagation, on any network.

    eps_ki = mu_ki - v_k ,   v_k <- v_k + eta (sum_i eps_ki - sum_j (d mu_j / d v_k)^T eps_j) ,   mu and d mu held

On a chain this is `fixed_prediction`. Its closed form holds path by path: with q_d the error propagated back along all
paths of d steps, q_1 that of the outputs and q_d = sum_j (d mu_j / d v)^T q_(d-1), errors after n sweeps are

    eps_k = sum_d c_d q_d,k ,   c_d = P[Binomial(n - 1, eta) >= d]

so one back-propagation per step of the longest path is enough. Where activities are predicted more than once, or in a
loop, paths may be endless, and the sweeps are run. In mode exact the errors are those of back-propagation,
``eps_k = d loss / d v_k``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from neurai_algorithms.differences import add, like, subtract, widened, zeros
from neurai_algorithms.predictive_coding.fixed_prediction import coefficients
from neurai_algorithms.predictive_coding.network_task import Errors, NetworkTask, errors_of
from neurai_algorithms.predictive_coding.task import Solution
from neurai_algorithms.stable_step import limited_steps
from neurai_core.arrays import PyTree, tree_scale
from neurai_core.network import ActivityFacts
from neurai_core.relaxation import relax

Deltas = dict[str, jax.Array]


def exact_on_network(task: NetworkTask) -> Solution:
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
    return Solution(task.gradients(at, *scaled), outputs, model_state, task.listed(errors, top_error), moved, 0)


def fixed_on_network(task: NetworkTask) -> Solution:
    """Gradients and errors after n sweeps with everything held at the feed-forward pass but the activities."""
    here, steps = _feedforward(task), longest_path(task.network.facts((task.params, task.model_state), task.x))
    top_error = jax.grad(lambda outputs: task.score.loss(outputs, task.y)[0])(widened(here.outputs))
    errors, deltas = swept(task, here, top_error) if steps is None else summed(task, here, top_error, steps)
    moved = {name: like(add(widened(here.at[name]), deltas[name]), here.at[name]) for name in here.at}
    grads = task.gradients(here.at, *tree_scale((errors, top_error), task.scale))
    return Solution(grads, here.outputs, here.model_state, task.listed(errors, top_error), moved, task.config.n)


def longest_path(facts: Sequence[ActivityFacts]) -> int | None:
    """Steps of the longest path from the outputs down to an activity; None where paths may be endless.

    Args:
        facts: of all activities, in order of computation.
    """
    above: dict[str, int] = {}
    for fact in facts:
        if fact.loops or len(fact.predictions) > 1 or not above.keys() >= set(fact.predictions[0].activities):
            return None
        above[fact.name] = 1 + max((above[name] for name in fact.predictions[0].activities), default=0)
    return max(above.values())


def summed(task: NetworkTask, here: FeedForward, top_error: PyTree, steps: int) -> tuple[Errors, Deltas]:
    """The errors and deltas of `swept`, path by path.

    Args:
        task: the batch; every activity has one prediction.
        here: its feed-forward pass.
        top_error: the derivative of the loss with respect to the outputs.
        steps: of the longest path.
    """
    config = task.config
    steps = min(steps, config.n)  # what is farther away has not been reached
    shares = (
        coefficients(config.eta, n, steps + 1)[1:] for n in (config.n if config.fresh else config.n - 1, config.n)
    )
    first = jnp.arange(steps) == 0

    def longer(carry: Any, at: Any) -> Any:
        path, last, after = carry
        of_last, of_after, is_first = at
        # One step farther from the outputs; only the first path begins with their error.
        path = here.pull({name: (e,) for name, e in path.items()}, tree_scale(top_error, is_first))
        return (path, add(last, tree_scale(path, of_last)), add(after, tree_scale(path, of_after))), None

    start = {name: zeros(at) for name, at in here.at.items()}
    (_, last, after), _ = jax.lax.scan(longer, (start, start, start), (*map(jnp.asarray, shares), first))
    return {name: (e,) for name, e in last.items()}, {name: -e for name, e in after.items()}


def swept(task: NetworkTask, here: FeedForward, top_error: PyTree) -> tuple[Errors, Deltas]:
    """Errors, and distances of activities from the feed-forward pass, after n sweeps.

    Args:
        task: the batch.
        here: its feed-forward pass.
        top_error: the derivative of the loss with respect to the outputs.
    """
    config, step = task.config, limited_steps(task.config.eta, None)

    def errors_at(deltas: Deltas) -> Errors:
        return {name: tuple(subtract(base, deltas[name]) for base in found) for name, found in here.base.items()}

    def sweep(t: Any, deltas: Deltas) -> Deltas:
        errors = errors_at(deltas)
        back = here.pull(errors, top_error)
        descent = {name: subtract(sum(found), back[name]) for name, found in errors.items()}
        return add(deltas, tree_scale(descent, step(t)))  # type: ignore[no-any-return]

    start = {name: zeros(at) for name, at in here.at.items()}
    last = relax(sweep, start, config.n - 1).state
    deltas = sweep(config.n - 1, last)
    return errors_at(deltas if config.fresh else last), deltas


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
