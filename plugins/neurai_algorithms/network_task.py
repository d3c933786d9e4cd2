"""One batch for one network of named values: what the modes of predictive coding on networks work on."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from neurai_algorithms.differences import like, state_dtype, widened
from neurai_algorithms.pc_task import half_square
from neurai_algorithms.predictive_coding_spec import PCConfig
from neurai_core.arrays import PyTree, Scalar, batch_size
from neurai_core.network import Activities, Network, learning_network
from neurai_core.rule import Objective, check_objective

Errors = dict[str, tuple[PyTree, ...]]


class NetworkTask(NamedTuple):
    """One batch for one network.

    Attributes:
        network: ``((params, model_state), x) -> (outputs, model_state)``, its named values free.
        params: parameters.
        model_state: collections, as they were before this batch.
        x: inputs.
        y: targets.
        score: loss and accuracy.
        config: settings.
        dtypes: of the distances and errors of every activity.
    """

    network: Network
    params: PyTree
    model_state: PyTree
    x: PyTree
    y: PyTree
    score: Objective
    config: PCConfig
    dtypes: dict[str, Any]

    def displaced(self, errors: Activities) -> tuple[tuple[PyTree, PyTree], Any, Any]:
        """``((outputs, model_state), predictions, activities)``, every activity its prediction plus an error."""
        return self.network.displaced((self.params, self.model_state), self.x, errors)

    @property
    def arguments(self) -> tuple[PyTree, PyTree, PyTree]:
        """What the function of the network takes."""
        return self.params, self.model_state, self.x

    @property
    def scale(self) -> Any:
        """The factor on the loss while relaxing."""
        given = self.config.loss_scale
        return float(batch_size(self.x)) if given == "per_sample" else given

    def scaled_loss(self, outputs: PyTree) -> Scalar:
        """The loss as it enters the energy."""
        return self.scale * self.score.loss(outputs, self.y)[0]

    def energy(self, outputs: PyTree, errors: Errors) -> Scalar:
        """F = loss + 1/2 sum over predictions of |eps|^2."""
        return self.scaled_loss(outputs) + sum(half_square(e) for found in errors.values() for e in found)

    def few(self, rows: int, outputs: PyTree) -> NetworkTask:
        """The first examples of the batch, their loss what it is beside the outputs of all."""

        def loss(few: PyTree, y: PyTree) -> tuple[Scalar, PyTree]:
            return self.score.loss(jax.tree.map(lambda own, all: all.at[:rows].set(own), few, outputs), self.y)

        config = self.config.model_copy(update={"loss_scale": self.scale})
        x = jax.tree.map(lambda leaf: leaf[:rows], self.x)
        return self._replace(x=x, score=self.score._replace(loss=loss), config=config)

    def gradients(self, activities: Activities, errors: Errors, top_error: PyTree) -> PyTree:
        """Every parameter's from the predictions that it enters: ``sum_k (d mu_k / d theta)^T eps_k`` at activities.

        Args:
            activities: by name.
            errors: of every prediction, prediction minus activity, in the scale of the relaxation.
            top_error: the derivative of the scaled loss by the outputs.
        """

        def predicted(params: PyTree) -> tuple[PyTree, PyTree]:
            (outputs, _), predictions = self.network((params, self.model_state), self.x, activities)
            return outputs, predictions

        said, pull = jax.vjp(predicted, self.params)
        unscaled = jax.tree.map(lambda e: e / self.scale, (widened(top_error), errors))
        return pull(like(unscaled, said))[0]


def network_task(
    config: PCConfig,
    score: Objective,
    model: Any,
    params: PyTree,
    model_state: PyTree,
    batch: tuple[PyTree, PyTree],
    key: Any,
) -> NetworkTask:
    """The batch as the solvers see it; what can be wrong with it is found without computing."""
    x, y = batch
    network = learning_network(model, params, x, model_state=model_state, key=key)
    (outputs, _), predictions = jax.eval_shape(network, (params, model_state), x)
    check_objective(score, outputs, y)
    dtypes = {name: state_dtype(found[0].dtype) for name, found in predictions.items()}
    return NetworkTask(network, params, model_state, x, y, score, config, dtypes)
