r"""Nudged targets: outputs are pulled a fraction beta of the way to their targets, or pushed away from them.

With mu_0 the outputs of the feed-forward pass, the loss in the energy becomes

    L_beta(mu) = L(mu, y) - (1 - beta) <dL/dmu(mu_0), mu> ,

whose derivative at mu_0 is beta dL/dmu. For a squared error this is, up to a constant, the squared error to the target
mu_0 + beta (y - mu_0), the nudged target of Pinchetti et al. 2025, arXiv:2407.01163; for cross entropy it is the cross
entropy to a mixture of labels and predicted probabilities. Gradients are divided by beta.

    positive   beta          negative   -beta          centered   the mean of both: no term of first order in beta

As beta goes to 0 all three tend to one gradient, the linear response of the equilibrium, and not to back-propagation:
the loss keeps its curvature.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from neurai_algorithms.differences import widened
from neurai_algorithms.predictive_coding.network_task import NetworkTask
from neurai_algorithms.predictive_coding.task import Solution, Task
from neurai_core.arrays import PyTree, Scalar
from neurai_core.rule import Objective

SIGNS = {"positive": (1,), "negative": (-1,), "centered": (1, -1)}


def nudged(task: Any, solve: Callable[[Any], Solution]) -> Solution:
    """Run a mode with the targets of the setting ``nudge``.

    Args:
        task: the batch, a `Task` or a `NetworkTask`.
        solve: the mode.
    """
    config = task.config
    if config.nudge == "clamped":
        return solve(task)
    outputs = widened(_outputs(task))
    found = [
        _per_beta(solve(replace(task, score=tilted(task.score, outputs, task.y, beta))), beta)
        for beta in (sign * config.beta for sign in SIGNS[config.nudge])
    ]
    grads = jax.tree.map(lambda *phases: sum(phases) / len(phases), *(one.grads for one in found))
    changes = [one.energy_change for one in found]
    return found[0]._replace(
        grads=grads,
        energy_change=jnp.max(jnp.stack(changes)),
        step_scale=jnp.min(jnp.stack([one.step_scale for one in found])),
    )


def tilted(score: Objective, outputs: PyTree, y: PyTree, beta: Any) -> Objective:
    """The objective with the loss L_beta.

    Args:
        score: the objective.
        outputs: of the feed-forward pass.
        y: targets.
        beta: fraction of the way to the targets.

    >>> from neurai_core.rule import objective
    >>> squares = objective(lambda outputs, y: jnp.sum((outputs - y) ** 2) / 2, None)
    >>> half = tilted(squares, jnp.zeros(1), jnp.ones(1), 0.5)
    >>> float(jax.grad(lambda mu: half.loss(mu, jnp.ones(1))[0])(jnp.full(1, 0.5))[0])
    0.0
    """
    slope = jax.grad(lambda outputs: score.loss(outputs, y)[0])(outputs)

    def loss(outputs: PyTree, y: PyTree) -> tuple[Scalar, PyTree]:
        value, extra = score.loss(outputs, y)
        tilt = sum(jnp.vdot(g, mu) for g, mu in zip(jax.tree.leaves(slope), jax.tree.leaves(outputs), strict=True))
        return value - (1 - beta) * tilt, extra

    return score._replace(loss=loss)


def _per_beta(found: Solution, beta: Any) -> Solution:
    return found._replace(grads=jax.tree.map(lambda g: g / jnp.asarray(beta, g.dtype), found.grads))


def _outputs(task: Any) -> PyTree:
    """Outputs of the feed-forward pass; the mode computes it too, but compiled together it runs once."""
    if isinstance(task, NetworkTask):
        return task.network.function(*task.arguments)[0]
    assert isinstance(task, Task)
    return task.feedforward()[0][-1]
