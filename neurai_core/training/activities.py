"""The activities of a run's model: how a rule sees the model, and which values relax."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from neurai_core.adapting import Adapted, adapt
from neurai_core.arrays import PyTree, Shape
from neurai_core.automatic_names import named
from neurai_core.errors import ModelError
from neurai_core.layered import Layered
from neurai_core.network import ActivityFacts, PredictedFrom, learning_network, predicted_from
from neurai_core.programs import read_program
from neurai_core.sources import argument_labels, sources_of


def seen(model: Any, activities: str | None, *, needs: str, input_shape: Shape | None = None) -> Adapted:
    """Return a user's model as a rule sees it.

    Args:
        model: a `Layered`, any callable ``model(params, x)``, or a model of a library with an adapter.
        activities: what relaxes, as in `neurai_core.training.settings.RunSettings`. The names that a `Layered` gives
            are those of its layers.
        needs: from the rule's spec; unless it is ``"network"``, the rule decides.
        input_shape: shape of one example, for libraries that infer shapes late.

    Raises:
        ModelError: layers or modules were requested, and the model cannot be split into them.

    Example:
        >>> from neurai_core.models import mlp
        >>> isinstance(seen(mlp((4, 3, 2)), "auto", needs="network").model, Layered)
        False
    """
    if needs != "network" or activities is None:
        return adapt(model, needs=needs, input_shape=input_shape)
    if activities == "layers":
        return _in_layers(model, input_shape)
    if activities == "named":
        return adapt(_naming_layers(model), input_shape=input_shape)
    return adapt(named(model, activities), input_shape=input_shape)


def _in_layers(model: Any, input_shape: Shape | None) -> Adapted:
    try:
        return adapt(model, needs="layered", input_shape=input_shape)
    except ModelError as error:
        raise ModelError(
            error.message, f"{error.hint} Or use --activities auto, which works with any model."
        ) from error


def _naming_layers(model: Any) -> Any:
    return named(model, "modules") if isinstance(model, Layered) else model


class ActivityList(NamedTuple):
    """The activities of a model.

    Attributes:
        activities: in order of computation, without the outputs.
        output_shapes: the shape of every array that the model returns.
        outputs: what enters the outputs directly, and so learns from the loss.
    """

    activities: tuple[ActivityFacts, ...]
    output_shapes: tuple[Shape, ...]
    outputs: PredictedFrom


def listed(model: Any, params: PyTree, x: PyTree, *, model_state: PyTree = ()) -> ActivityList:
    """List the activities that a rule finds in a model, without computing.

    Args:
        model: a `Layered`, whose layers are its activities, or a callable with named values.
        params: its parameters; only their shapes are used.
        x: a batch of inputs, or of ``jax.ShapeDtypeStruct``.
        model_state: its collections.

    Raises:
        ModelError: only outputs are named.

    Example:
        >>> from neurai_core.models import mlp
        >>> model = mlp((4, 3, 2))
        >>> params, _ = model.init(jax.random.key(0), (4,))
        >>> found = listed(model, params, jax.ShapeDtypeStruct((8, 4), "float32"))
        >>> [(one.name, one.shape) for one in found.activities], found.output_shapes
        ([('layers.0', (8, 3))], ((8, 2),))
        >>> found.outputs
        PredictedFrom(parameters=('1.b', '1.w'), activities=('layers.0',), inputs=False)
    """
    function = adapt(_naming_layers(model)).model
    network = learning_network(function, params, x, model_state=model_state, key=jax.random.key(0))

    def outputs(params: PyTree, model_state: PyTree, x: PyTree) -> PyTree:
        return network.function(params, model_state, x)[0]

    program = read_program(outputs, params, model_state, x)
    sources = sources_of(program, argument_labels(params, model_state, x)).outputs
    shapes = tuple(leaf.shape for leaf in jax.tree.leaves(jax.eval_shape(outputs, params, model_state, x)))
    return ActivityList(network.facts((params, model_state), x), shapes, predicted_from(frozenset().union(*sources)))
