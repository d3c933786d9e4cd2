"""Input and result of every mode of predictive coding: one model, one batch, one set of settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp

from neurai_algorithms.differences import Around, around, like, widened
from neurai_algorithms.predictive_coding.spec import PCConfig
from neurai_algorithms.residuals import residual_of, settle
from neurai_core.arrays import PyTree, Scalar, batch_size
from neurai_core.errors import ModelError
from neurai_core.layered import Layered, check_forward
from neurai_core.relaxation import never, relax
from neurai_core.rule import Objective, check_objective

Sweep = Callable[[Any, PyTree], tuple[PyTree, PyTree]]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One batch and how it relaxes, for any model.

    Attributes:
        params: parameters; theta_1..theta_L for layers.
        x: inputs v_0.
        y: targets.
        score: loss and accuracy.
        config: settings.
    """

    params: PyTree
    x: PyTree
    y: PyTree
    score: Objective
    config: PCConfig

    @property
    def scale(self) -> Any:
        """The factor on the loss while relaxing."""
        given = self.config.loss_scale
        return float(batch_size(self.x)) if given == "per_sample" else given

    def unscaled(self, errors: PyTree) -> PyTree:
        """Errors, or gradients, in the scale of the user's loss."""
        scale = self.scale
        if isinstance(scale, float) and scale == 1.0:
            return errors
        return jax.tree.map(lambda e: e / jnp.asarray(scale, e.dtype), errors)

    def scaled_loss(self, outputs: PyTree) -> Scalar:
        """The loss as it enters the energy."""
        return self.scale * self.score.loss(outputs, self.y)[0]

    def first(self, rows: int, outputs: PyTree) -> Self:
        """The first examples of the batch, with the loss that they have among the outputs of all."""

        def loss(few: PyTree, y: PyTree) -> tuple[Scalar, PyTree]:
            # A loss may compare examples, or be a mean over all of them: the others stay at the feed-forward pass.
            all_outputs = jax.tree.map(lambda own, every: every.at[:rows].set(own), few, outputs)
            found: tuple[Scalar, PyTree] = self.score.loss(all_outputs, self.y)
            return found

        x = jax.tree.map(lambda leaf: leaf[:rows], self.x)
        config = self.config.model_copy(update={"loss_scale": self.scale})
        return replace(self, x=x, score=self.score._replace(loss=loss), config=config)

    def residual(self, forces: PyTree) -> Scalar:
        """Residual of the activities."""
        return residual_of(forces)

    def seen(self, energy: Scalar, forces: PyTree) -> dict[str, Scalar]:
        """The entries of a trace for one sweep."""
        return {"energy": energy, "residual": self.residual(forces)}

    def relaxed(
        self, sweep: Sweep, state: PyTree, n: int, look: Callable[[PyTree], tuple[Scalar, PyTree]]
    ) -> tuple[PyTree, Scalar, Any]:
        """Run up to n sweeps and record a trace if requested.

        Args:
            sweep: ``(number of the sweep, state) -> (state, forces that moved it)``.
            state: where to start, activities first.
            n: greatest number of sweeps.
            look: state -> energy and forces.

        Returns:
            The state, the number of sweeps taken, and energy and residual before every sweep and at the end; None
            unless requested.
        """
        config = self.config
        if not never(config.tol):
            return *settle(sweep, self.residual, state, n, config.tol)[:2], None

        def plain(t: Any, state: PyTree) -> PyTree:
            return sweep(t, state)[0]

        observe = (lambda state: self.seen(*look(state))) if config.energy_trace else None
        plain = jax.checkpoint(plain) if config.remat else plain
        found = relax(plain, state, n, observe=observe, moving=activities_of)
        return found.state, found.steps, found.trace if config.energy_trace else None


def activities_of(state: PyTree) -> PyTree:
    """The moving part of a state, which comes first."""
    return state[0]


@dataclass(frozen=True, kw_only=True)
class Task(Batch):
    """One batch for a chain of layers.

    Attributes:
        model: the layers f_1..f_L.
        states: the collections of every layer, as they were before this batch.
        key: PRNG key of the batch; None for deterministic models.
    """

    model: Layered
    states: tuple[PyTree, ...]
    key: Any

    def layer_key(self, index: int) -> Any:
        """The key of one layer, the same in every sweep."""
        return self.model.layer_key(self.key, index)

    def layer_function(self, index: int) -> Callable[[PyTree, PyTree], tuple[PyTree, PyTree]]:
        """``(theta, v) -> (f(v), updated collections)`` of one layer, with its draws and collections held fixed."""
        apply = partial(self.model.layers[index].apply, key=self.layer_key(index), train=True)

        def function(params: PyTree, v: PyTree) -> tuple[PyTree, PyTree]:
            return apply(params, self.states[index], v)

        return jax.checkpoint(function) if self.config.remat else function

    def feedforward(self) -> tuple[tuple[PyTree, ...], tuple[PyTree, ...]]:
        """The predictions of all layers in a feed-forward pass, and their collections after it."""
        predictions, states, below = [], [], self.x
        for index, params in enumerate(self.params):
            below, state = self.layer_function(index)(params, below)
            predictions.append(below)
            states.append(state)
        return tuple(predictions), tuple(states)

    def expanded(self, below: PyTree, *, first: int = 0) -> tuple[Around, ...]:
        """The layers from a given one on, each expanded around the prediction of the layer below.

        Args:
            below: input of the first of them.
            first: its number.
        """
        sites = []
        layers = list(enumerate(zip(self.model.layers, self.params, self.states, strict=True)))
        for index, (layer, params, state) in layers[first:]:
            sites.append(around(layer, params, state, below, key=self.layer_key(index), remat=self.config.remat))
            below = sites[-1].output
        return tuple(sites)

    def own_gradient(self, index: int, v: PyTree, output: PyTree, error: PyTree) -> PyTree:
        """What a layer learns from its own error: (df_l/dtheta_l at v_{l-1})^T eps_l.

        Args:
            index: number of the layer.
            v: its input.
            output: output of the feed-forward pass, whose dtype the errors take.
            error: error of the layer; None for an exact zero.
        """
        if error is None:
            return jax.tree.map(jnp.zeros_like, self.params[index])
        function = self.layer_function(index)
        pull = jax.vjp(lambda params: function(params, v)[0], self.params[index])[1]
        return pull(like(self.unscaled(error), output))[0]


def layered_task(
    config: PCConfig,
    score: Objective,
    layered: Layered,
    params: PyTree,
    model_state: PyTree,
    batch: tuple[PyTree, PyTree],
    key: Any,
) -> Task:
    """A batch for a chain of layers, its errors found without computing.

    Args:
        config: settings.
        score: loss and accuracy.
        layered: the model.
        params: its parameters.
        model_state: its collections.
        batch: inputs and targets.
        key: PRNG key of the batch.

    Raises:
        ModelError: the model does not fit the inputs or the loss, or draws at random without a key.
    """
    x, y = batch
    outputs = check_forward(layered, params, x, model_state=model_state)
    check_objective(score, outputs, y)
    for index, layer in enumerate(layered.layers):
        if layer.stochastic and key is None:
            raise ModelError(
                f"Layer {index} ({layer.name}) draws from a key and none was given.",
                hint="Pass one per batch, key=jax.random.key(0); the draw is held during the relaxation.",
            )
    x = layered.inputs(params, x)
    states = layered.layer_states(model_state)
    return Task(model=layered, params=tuple(params), states=states, x=x, y=y, key=key, score=score, config=config)


class Solution(NamedTuple):
    """Result of a mode.

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
        trace: energy and residual before every sweep and at the end; None unless requested.
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
