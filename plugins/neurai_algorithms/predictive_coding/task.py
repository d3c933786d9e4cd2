"""What every mode of predictive coding works on, and what it finds: one model, one batch, one set of settings."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from neurai_algorithms.differences import widened
from neurai_algorithms.predictive_coding.spec import PCConfig
from neurai_core.arrays import PyTree, Scalar, batch_size
from neurai_core.layered import Layered
from neurai_core.rule import Objective


class Task(NamedTuple):
    """One batch for one model.

    Attributes:
        model: the layers f_1..f_L.
        params: theta_1..theta_L.
        states: the collections of every layer, as they were before this batch.
        x: inputs v_0.
        y: targets.
        key: PRNG key of the batch, None for models that draw nothing.
        score: loss and accuracy.
        config: settings.
    """

    model: Layered
    params: PyTree
    states: tuple[PyTree, ...]
    x: PyTree
    y: PyTree
    key: Any
    score: Objective
    config: PCConfig

    def layer_key(self, index: int) -> Any:
        """The key of one layer, the same in every sweep."""
        return self.model.layer_key(self.key, index)

    def layer_function(self, index: int) -> Callable[[PyTree, PyTree], tuple[PyTree, PyTree]]:
        """``(theta, v) -> (f(v), updated collections)`` of one layer, its draws and collections held."""
        apply = partial(self.model.layers[index].apply, key=self.layer_key(index), train=True)

        def function(params: PyTree, v: PyTree) -> tuple[PyTree, PyTree]:
            return apply(params, self.states[index], v)

        return jax.checkpoint(function) if self.config.remat else function

    @property
    def scale(self) -> Any:
        """The factor on the loss while relaxing."""
        return scale_of(self.config, self.x)

    def unscaled(self, errors: PyTree) -> PyTree:
        """Errors, or gradients, in the scale of the user's loss."""
        return unscaled(errors, self.scale)

    def scaled_loss(self, outputs: PyTree) -> Scalar:
        """The loss as it enters the energy."""
        return self.scale * self.score.loss(outputs, self.y)[0]

    def tolerance(self, outputs: PyTree) -> Any:
        """What the change per element and sweep is held against."""
        return tolerance(self.config, self.scaled_loss, outputs)

    def first(self, rows: int, outputs: PyTree) -> Task:
        """The first examples of the batch, their loss what it is beside the outputs of all."""
        return self._replace(**first_rows(self, rows, outputs))


# ---------------------------------------------------------------------------- what chains and networks share


def scale_of(config: PCConfig, x: PyTree) -> Any:
    """The factor on the loss while relaxing.

    >>> scale_of(PCConfig(loss_scale="per_sample"), jnp.zeros((4, 3)))
    4.0
    """
    return float(batch_size(x)) if config.loss_scale == "per_sample" else config.loss_scale


def unscaled(errors: PyTree, scale: Any) -> PyTree:
    """Errors, or gradients, in the scale of the user's loss.

    >>> unscaled(jnp.asarray(8.0), 4.0)
    Array(2., dtype=float32)
    """
    if isinstance(scale, float) and scale == 1.0:
        return errors
    return jax.tree.map(lambda e: e / jnp.asarray(scale, e.dtype), errors)


def endless(config: PCConfig) -> bool:
    """Whether nothing but n ends the relaxation.

    >>> endless(PCConfig()), endless(PCConfig(tol=0.1))
    (True, False)
    """
    return isinstance(config.tol, int | float) and config.tol == 0


def tolerance(config: PCConfig, scaled_loss: Callable[[PyTree], Scalar], outputs: PyTree) -> Any:
    """``tol`` times the root mean square of the output error; the number 0 where nothing but n ends the relaxation.

    Args:
        config: settings.
        scaled_loss: the loss as it enters the energy.
        outputs: of the feed-forward pass.
    """
    if endless(config):
        return 0.0
    return config.tol * root_mean_square(jax.grad(scaled_loss)(widened(outputs)))


def first_rows(task: Any, rows: int, outputs: PyTree) -> dict[str, Any]:
    """What differs for the first examples of a batch, whose loss is what it is beside the outputs of all."""

    def loss(few: PyTree, y: PyTree) -> tuple[Scalar, PyTree]:
        found: tuple[Scalar, PyTree] = task.score.loss(
            jax.tree.map(lambda own, all: all.at[:rows].set(own), few, outputs), task.y
        )
        return found

    return {
        "x": jax.tree.map(lambda leaf: leaf[:rows], task.x),
        "score": task.score._replace(loss=loss),
        "config": task.config.model_copy(update={"loss_scale": task.scale}),
    }


class Solution(NamedTuple):
    """What a mode finds.

    Attributes:
        grads: in the structure of params and the scale of the user's loss.
        outputs: the feed-forward outputs.
        states: the collections of every layer after one feed-forward pass.
        errors: eps_1..eps_L, prediction minus activity, in the scale of the relaxation.
        activities: v_1..v_{L-1} after the last move; by name on a network.
        steps: sweeps taken.
        energy: where the errors were taken; None where nothing descends on one.
        energy_change: of all sweeps but the last; None where activities do not descend on the energy alone.
        step_scale: what the documented step was multiplied by; None where there is none.
        trace: energy and residual before every sweep and at the end; None unless asked for.
    """

    grads: PyTree
    outputs: PyTree
    states: tuple[PyTree, ...]
    errors: tuple[PyTree, ...]
    activities: PyTree
    steps: Any
    energy: Any = None
    energy_change: Any = None
    step_scale: Any = None
    trace: Any = None


def half_square(tree: PyTree) -> Scalar:
    """1/2 |tree|^2 over all entries, in float32 at least."""
    return sum((jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(widened(tree))), jnp.zeros(())) / 2


def root_mean_square(tree: PyTree) -> Scalar:
    """Root mean square over all entries."""
    return jnp.sqrt(2 * half_square(tree) / max(1, sum(leaf.size for leaf in jax.tree.leaves(tree))))
