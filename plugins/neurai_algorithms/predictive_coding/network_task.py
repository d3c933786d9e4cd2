"""A batch for a network of named values, shared by the modes of predictive coding on networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from neurai_algorithms.differences import like, subtract, widened, zeros
from neurai_algorithms.predictive_coding.network_bounds import slopes_are_bounded
from neurai_algorithms.predictive_coding.spec import PCConfig
from neurai_algorithms.predictive_coding.task import Batch, half_square
from neurai_algorithms.residuals import mean_norm
from neurai_algorithms.stable_step import Curvature, curvature_of_activities, looked_at
from neurai_core.adapting import adapt
from neurai_core.arrays import PyTree, Scalar, batch_size
from neurai_core.automatic_names import named
from neurai_core.changes import Around
from neurai_core.layered import Layered
from neurai_core.network import Activities, Network, PredictedFrom, learning_network
from neurai_core.programs import primitives_of
from neurai_core.rule import Objective, check_objective

Errors = dict[str, tuple[PyTree, ...]]


@dataclass(frozen=True, kw_only=True)
class NetworkTask(Batch):
    """One batch for one network.

    Attributes:
        network: ``((params, model_state), x) -> (outputs, model_state)``, with its named values free.
        model_state: collections, as they were before this batch.
    """

    network: Network
    model_state: PyTree

    def displaced(self, errors: Activities) -> tuple[tuple[PyTree, PyTree], Any, Any]:
        """``((outputs, model_state), predictions, activities)``, every activity its prediction plus an error."""
        return self.network.displaced((self.params, self.model_state), self.x, errors)

    @property
    def arguments(self) -> tuple[PyTree, PyTree, PyTree]:
        """Arguments of the network's function."""
        return self.params, self.model_state, self.x

    def residual(self, forces: Activities) -> Scalar:
        """Residual of the activities; those in loops count in every iteration."""
        loops = self.network.loops
        return sum((mean_norm(force, loops[name]) for name, force in forces.items()), jnp.zeros(()))

    def energy(self, outputs: PyTree, errors: Errors) -> Scalar:
        """F = loss + 1/2 sum over predictions of |eps|^2."""
        return self.scaled_loss(outputs) + sum(half_square(e) for found in errors.values() for e in found)

    def at_rest(self) -> dict[str, jax.Array]:
        """Zeros for every activity, in the dtype of distances and errors."""
        _, predictions = jax.eval_shape(self.network, (self.params, self.model_state), self.x)
        return {name: zeros(found[0]) for name, found in predictions.items()}

    @property
    def steps_are_watched(self) -> bool:
        """Whether curvature may change as activities move, and the moves of each example can be told apart."""
        rows = batch_size(self.x)
        if any(self.network.loops.values()) or any(shape[:1] != (rows,) for shape in self.network.shapes.values()):
            return False
        return not slopes_are_bounded(self.network, *self.arguments)

    def curvature(
        self, outputs: PyTree, energy_of: Callable[[NetworkTask], tuple[Callable[[PyTree], Scalar], PyTree]]
    ) -> Curvature | None:
        """Curvature of an energy at the feed-forward pass, for a few examples; None if it is not needed.

        Args:
            outputs: outputs of the feed-forward pass.
            energy_of: a batch -> its energy, and the coordinates of the feed-forward pass.
        """
        if not self.config.stable or self.config.corrector is not None:
            return None
        rows = looked_at(batch_size(self.x))
        few = self.first(rows, widened(outputs))
        reverse = in_reverse_only(few.network, few.params, few.model_state, few.x)
        energy, at = energy_of(few)
        config = self.config
        return curvature_of_activities(jax.grad(energy), at, config.eta, config.n, rows, reverse=reverse)

    def listed(self, errors: Errors, top_error: PyTree) -> tuple[PyTree, ...]:
        """The errors of all predictions in order of computation, that of the outputs last.

        JAX transformations sort the keys of a dictionary, so the order of computation is restored here.
        """
        return (*(e for name in self.network.names for e in errors[name]), top_error)

    def unreached(self, sweeps: int) -> tuple[str, ...]:
        """The activities at which no error has arrived after some sweeps; none where an activity lies in a loop."""
        if sweeps >= len(self.network.names) or any(self.network.loops.values()):
            return ()
        facts = self.network.facts((self.params, self.model_state), self.x)
        outputs, _ = self.network.outputs_from((self.params, self.model_state), self.x)
        below = jax.tree.leaves(outputs, is_leaf=_is_source) if sweeps > 0 else ()
        reached = {name for one in below for name in one.activities}
        reached |= {fact.name for fact in facts if len(fact.predictions) > 1}
        for _ in range(sweeps - 1):
            feeling = [one.activities for fact in facts if fact.name in reached for one in fact.predictions]
            reached = reached.union(*feeling)
        return tuple(name for name in self.network.names if name not in reached)

    def gradients(self, activities: Activities, errors: Errors, top_error: PyTree) -> PyTree:
        """Gradients of all parameters from the predictions they enter: ``sum_k (d mu_k / d theta)^T eps_k``.

        Args:
            activities: by name.
            errors: of every prediction, prediction minus activity, in the scale of the relaxation.
            top_error: the derivative of the scaled loss with respect to the outputs.
        """
        scaled = self.unscaled((widened(top_error), errors))
        return gradients_at(self.network, *self.arguments, activities, *scaled[::-1])


def gradients_at(
    network: Network,
    params: PyTree,
    model_state: PyTree,
    x: PyTree,
    activities: Activities,
    errors: Errors,
    top_error: PyTree,
) -> PyTree:
    """Gradients of all parameters from the predictions they enter: ``sum_k (d mu_k / d theta)^T eps_k``.

    Args:
        network: from `learning_network`.
        params: its parameters.
        model_state: its collections.
        x: inputs.
        activities: by name.
        errors: of every prediction.
        top_error: of the outputs.
    """

    def predicted(params: PyTree) -> tuple[PyTree, PyTree]:
        (outputs, _), predictions = network((params, model_state), x, activities)
        return outputs, predictions

    said, pull = jax.vjp(predicted, params)
    return pull(like((top_error, errors), said))[0]


def in_reverse_only(network: Network, params: PyTree, model_state: PyTree, x: PyTree) -> bool:
    """Whether something in the network has no forward-mode derivative."""
    return "custom_vjp_call" in primitives_of(jax.make_jaxpr(network)((params, model_state), x))


def errors_around(here: Around, predictions: Mapping[str, Sequence[Any]], deltas: Mapping[str, Any]) -> Errors:
    """Every prediction minus its activity, computed from changes: no cancellation, however small they are.

    Args:
        here: the network around the feed-forward pass.
        predictions: their changes, from ``here.changes(deltas)``.
        deltas: changes of activities; names that have not moved may be left out.
    """
    return {
        name: tuple(
            _error(base, mu, deltas.get(name), here.at[name]) for base, mu in zip(here.base[name], found, strict=True)
        )
        for name, found in predictions.items()
    }


def _error(base: Any, change: Any, delta: Any, at: jax.Array) -> Any:
    """eps = prediction at the start - activity at the start + change of the prediction - change of the activity."""
    parts = [part for part in (base, change, None if delta is None else -delta) if part is not None]
    return sum(parts[1:], start=parts[0]) if parts else zeros(at)


def _is_source(leaf: Any) -> bool:
    return isinstance(leaf, PredictedFrom)


def errors_of(predictions: Mapping[str, Sequence[PyTree]], activities: Activities) -> Errors:
    """Every prediction minus its activity."""
    return {
        name: tuple(subtract(widened(mu), widened(activities[name])) for mu in found)
        for name, found in predictions.items()
    }


def as_network(model: Any) -> Any:
    """A network of named values; the layers of a `Layered` are its names."""
    return adapt(named(model, "modules")).model if isinstance(model, Layered) else model


def network_task(
    config: PCConfig,
    score: Objective,
    model: Any,
    params: PyTree,
    model_state: PyTree,
    batch: tuple[PyTree, PyTree],
    key: Any,
) -> NetworkTask:
    """Prepare a batch for the solvers; errors in it are found without computing."""
    x, y = batch
    network = learning_network(model, params, x, model_state=model_state, key=key)
    outputs, _ = jax.eval_shape(network.function, params, model_state, x)
    check_objective(score, outputs, y)
    return NetworkTask(network=network, params=params, model_state=model_state, x=x, y=y, score=score, config=config)
