"""Networks: any JAX function, with its named values free.

``activity(x, "h1")`` names a value as ``jax.ad_checkpoint.checkpoint_name`` does, so a model that names values for
rematerialization already is a network. The function's program gives the names in order of computation, and evaluating
the program with given activities yields the function's prediction of each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from neurai_core.adapting import Undivided, adapt
from neurai_core.arrays import PyTree, Shape, shape_text
from neurai_core.errors import DataError, ModelError, UsageError
from neurai_core.layered import check_forward, forward
from neurai_core.named_values import Named, check_named_values, displace, evaluate, named_values, output_names, unnamed
from neurai_core.naming import did_you_mean
from neurai_core.programs import Program, read_program
from neurai_core.sources import INPUT, Labels, argument_labels, parameters_among, sources_of

Activities = Mapping[str, jax.Array]
Predictions = dict[str, tuple[jax.Array, ...]]


def activity(x: jax.Array, name: str) -> jax.Array:
    """Name a value of a model, making it an activity of the network. The value is unchanged.

    The name is that of ``jax.ad_checkpoint.checkpoint_name``. Under `jax.vmap` the batch axis of the activity is the
    first one.

    Args:
        x: one array of floats, batch axis first.
        name: a name; if it occurs again, that is another prediction of the same activity.

    Raises:
        UsageError: the name is not a string, or x is not a single array.

    Example:
        >>> activity(jnp.ones(2), "h1").tolist()
        [1.0, 1.0]
    """
    if not isinstance(name, str):
        raise UsageError(f"The name of an activity is {name!r}, expected text, such as activity(x, 'h1').")
    if not jax.tree_util.all_leaves([x]):
        raise UsageError(
            f"The activity {name!r} is {shape_text(x)}, expected one array.", "Give each array a name of its own."
        )
    # Under vmap JAX may put the batch axis anywhere; an axis added in front brings it there.
    x = jax.lax.squeeze(jax.lax.expand_dims(x, (0,)), (0,))
    return checkpoint_name(x, name)  # type: ignore[no-any-return]


# ---------------------------------------------------------------------------- a network


class PredictedFrom(NamedTuple):
    """The direct inputs of a prediction, those that do not pass through a named value.

    Attributes:
        parameters: paths of the parameters, which learn from this prediction.
        activities: names of the activities.
        inputs: whether the model's input enters.
    """

    parameters: tuple[str, ...]
    activities: tuple[str, ...]
    inputs: bool


class ActivityFacts(NamedTuple):
    """Facts about an activity, known without computing.

    Attributes:
        name: its name.
        shape: its shape, with the axes of the loops around it in front.
        dtype: its dtype.
        loops: number of loops around it.
        predictions: what enters each of its predictions.
    """

    name: str
    shape: Shape
    dtype: Any
    loops: int
    predictions: tuple[PredictedFrom, ...]


@dataclass(frozen=True, eq=False)
class Network:
    """A function ``(params, x) -> outputs`` and its activities; made by `network_of`.

    Attributes:
        function: ``(params, model_state, x) -> outputs``.
        split: ``params -> (params, model_state)``, from the user's structure to the function's.
        names: names of the activities, in order of computation.
        shapes: shapes of the activities, by name, for the batch with which it was made.
        loops: number of loops around each, whose axes are in front of its shape.

    Example:
        >>> def model(params, x):
        ...     h = activity(jnp.tanh(x @ params["w1"]), "h")
        ...     return activity(h @ params["w2"], "y")
        >>> params, x = {"w1": jnp.ones((2, 3)), "w2": jnp.ones((3, 1))}, jnp.zeros((4, 2))
        >>> network = network_of(model, params, x)
        >>> network.names, network.shapes["h"]
        (('h', 'y'), (4, 3))
        >>> outputs, predictions = network(params, x, {"h": jnp.ones((4, 3))})
        >>> predictions["h"][0].tolist()[0], predictions["y"][0].tolist()[0]
        ([0.0, 0.0, 0.0], [3.0])
    """

    function: Callable[[PyTree, PyTree, PyTree], PyTree]
    split: Callable[[PyTree], tuple[PyTree, PyTree]]
    names: tuple[str, ...]
    shapes: Mapping[str, Shape]
    loops: Mapping[str, int]

    def __call__(self, params: PyTree, x: PyTree, activities: Activities | None = None) -> tuple[PyTree, Predictions]:
        """Evaluate the function with some of its activities given.

        Args:
            params: parameters, in the structure that the model's own library gives them.
            x: inputs ``(B, ...)``.
            activities: by name; each replaces the value that the function computes. Activities that are not given
                keep that value.

        Returns:
            ``(outputs, predictions)``: a tuple of predictions for each activity, one per occurrence of its name.

        Raises:
            DataError: an activity has an unknown name, the wrong shape, or is not a float.
        """
        program, arguments = self._read(params, x)
        places = list(named_values(program))
        _check_given(activities or {}, {named.name: named.shape for named in places})
        outputs, found = evaluate(program, arguments, activities or {})
        return jax.tree.unflatten(program.structure, outputs), _by_name(places, found)

    def displaced(
        self, params: PyTree, x: PyTree, errors: Activities
    ) -> tuple[PyTree, Predictions, dict[str, jax.Array]]:
        """Evaluate the function with errors added to its predictions: every activity is ``prediction + error``.

        Args:
            params: as for a call.
            x: inputs ``(B, ...)``.
            errors: errors of first predictions, by name; missing names have none.

        Returns:
            ``(outputs, predictions, activities)``.

        Example:
            >>> network = network_of(lambda w, x: 3 * activity(w * x, "h"), jnp.ones(()), jnp.ones((4, 1)))
            >>> outputs, _, activities = network.displaced(jnp.ones(()), jnp.ones((4, 1)), {"h": jnp.ones((4, 1))})
            >>> float(outputs[0, 0]), float(activities["h"][0, 0])
            (6.0, 2.0)
        """
        program, arguments = self._read(params, x)
        places = list(named_values(program))
        _check_given(errors, {named.name: named.shape for named in places})
        outputs, (found, values) = displace(program, arguments, errors)
        at = {named.name: value for named, value in zip(places, values, strict=True)}
        return jax.tree.unflatten(program.structure, outputs), _by_name(places, found), at

    def facts(self, params: PyTree, x: PyTree) -> tuple[ActivityFacts, ...]:
        """Describe the activities, their shapes, and which parameters learn from which prediction.

        Args:
            params: parameters; only their shapes are used.
            x: inputs, likewise.

        Example:
            >>> def model(params, x):
            ...     return activity(activity(x @ params["w1"], "h") @ params["w2"], "y")
            >>> params, x = {"w1": jnp.ones((2, 3)), "w2": jnp.ones((3, 1))}, jnp.ones((4, 2))
            >>> for fact in network_of(model, params, x).facts(params, x):
            ...     print(fact.name, fact.shape, *fact.predictions)
            h (4, 3) PredictedFrom(parameters=('w1',), activities=(), inputs=True)
            y (4, 1) PredictedFrom(parameters=('w2',), activities=('h',), inputs=False)
        """
        program, _ = self._read(params, x)
        found = sources_of(program, argument_labels(*self.split(params), x)).names
        facts: dict[str, ActivityFacts] = {}
        for named, labels in zip(named_values(program), found, strict=True):
            known = facts.get(named.name, ActivityFacts(*named, ()))
            facts[named.name] = known._replace(predictions=(*known.predictions, predicted_from(labels)))
        return tuple(facts.values())

    def outputs_from(self, params: PyTree, x: PyTree) -> PyTree:
        """The direct inputs of the outputs: a `PredictedFrom` for every array that the function returns.

        Args:
            params: parameters; only their shapes are used.
            x: inputs, likewise.

        Example:
            >>> def model(params, x):
            ...     return jnp.tanh(activity(x @ params["w"], "h"))
            >>> params, x = {"w": jnp.ones((2, 3))}, jnp.ones((4, 2))
            >>> network_of(model, params, x).outputs_from(params, x)
            PredictedFrom(parameters=(), activities=('h',), inputs=False)
        """
        program, _ = self._read(params, x)
        found = sources_of(program, argument_labels(*self.split(params), x)).outputs
        return jax.tree.unflatten(program.structure, [predicted_from(labels) for labels in found])

    def _read(self, params: PyTree, x: PyTree) -> tuple[Program, list[Any]]:
        arguments = (*self.split(params), x)
        return read_program(self.function, *arguments), jax.tree.leaves(arguments)


def _undivided(function: Any) -> str:
    """Why a model without names cannot be split into layers either; empty if layers were not tried."""
    model = getattr(function, "model", None)
    return f"{model.reason} " if isinstance(model, Undivided) else ""


def _by_name(places: Iterable[Named], found: Iterable[jax.Array]) -> Predictions:
    predictions: Predictions = {}
    for named, prediction in zip(places, found, strict=True):
        predictions[named.name] = (*predictions.get(named.name, ()), prediction)
    return predictions


@dataclass(frozen=True, eq=False)
class Forward:
    """A model as ``(params, model_state, x) -> outputs``, with the draws of stochastic layers held fixed."""

    model: Any
    key: Any = None
    train: bool = False
    outputs_only: bool = True

    def __call__(self, params: PyTree, model_state: PyTree, x: PyTree) -> PyTree:
        """The outputs for inputs x, or the outputs and the updated collections."""
        found = forward(self.model, params, x, model_state=model_state, key=self.key, train=self.train)
        return found[0] if self.outputs_only else found


def network_of(model: Any, params: PyTree, x: PyTree, *, key: Any = None, train: bool = False) -> Network:
    """Convert a model to a network of its named values.

    The model is traced, as by `jax.jit`, and not computed; only shapes of the parameters and inputs are used.

    Args:
        model: a callable ``model(params, x)``, a `Layered`, or a model of a library with an adapter.
        params: its parameters.
        x: a batch of inputs, batch axis first, or of ``jax.ShapeDtypeStruct``.
        key: PRNG key of stochastic layers; the draw is held fixed, so that a relaxation sees one function.
        train: whether layers are in training mode.

    Raises:
        ModelError: no value has a name; a name is inside ``while`` or ``cond``, or is used for two shapes; an activity
            is not a float, has no batch axis or depends on nothing; or the model cannot be traced.

    Example:
        >>> network_of(lambda params, x: activity(x @ params, "y"), jnp.ones((2, 1)), jnp.ones((4, 2))).names
        ('y',)
    """
    adapted = adapt(model, needs="callable")
    return _network(Forward(adapted.model, key, train), adapted.split, params, x)


def learning_network(
    model: Any, params: PyTree, x: PyTree, *, model_state: PyTree = (), key: Any = None, train: bool = True
) -> Network:
    """Convert an adapted model to a network for a learning rule, whose outputs are scored by a loss.

    Like `network_of`, in training mode by default, but the function returns the pair ``(outputs, model_state)``, with
    the collections updated once, and takes ``(params, model_state)`` as parameters. A named output is not an activity,
    because it is scored by the loss.

    Args:
        model: a `Layered`, an adapted model or a callable, as passed to rules.
        params: its parameters.
        x: a batch of inputs.
        model_state: its collections.
        key: PRNG key of stochastic layers.
        train: whether layers are in training mode.

    Raises:
        ModelError: as for `network_of`; or only outputs are named.

    Example:
        >>> def model(params, x):
        ...     return activity(activity(x @ params["w1"], "h") @ params["w2"], "y")
        >>> params, x = {"w1": jnp.ones((2, 3)), "w2": jnp.ones((3, 1))}, jnp.ones((4, 2))
        >>> learning_network(model, params, x).names
        ('h',)
    """
    function = Forward(model, key, train, outputs_only=False)
    outputs = output_names(_traced(function, params, model_state, x))
    return _network(unnamed(function, outputs) if outputs else function, tuple, (params, model_state), x, outputs)


def _network(
    function: Callable[..., PyTree],
    split: Callable[[PyTree], tuple[PyTree, PyTree]],
    params: PyTree,
    x: PyTree,
    outputs: Collection[str] = (),
) -> Network:
    arguments = (*split(params), x)
    program = _traced(function, *arguments)
    places = tuple(named_values(program))
    if not places:
        named = "nothing but its outputs" if outputs else "no value"
        raise ModelError(
            f"{_undivided(function)}The model names {named}, so nothing in it can be an activity.",
            hint='Name values where they are computed, h = neurai.activity(h, "h1"), or let every matrix product and '
            'convolution be named: neurai.named(model, "auto"), on the command line --activities auto.',
        )
    check_named_values(places, sources_of(program, argument_labels(*arguments)).names, x)
    shapes = {named.name: named.shape for named in places}
    return Network(function, split, tuple(shapes), shapes, {named.name: named.loops for named in places})


def _traced(function: Callable[..., PyTree], params: PyTree, model_state: PyTree, x: PyTree) -> Program:
    """The program of a model; a model that cannot be traced gives one clear error."""
    try:
        return read_program(function, params, model_state, x)
    except ModelError:
        raise
    except _DATA_DEPENDENT as error:
        raise ModelError(
            "The model cannot be traced: a shape or a branch in it depends on the values of arrays.",
            hint="Keep shapes fixed: jnp.where(mask, x, 0) instead of x[mask], jnp.where or jax.lax.select "
            "instead of if.",
        ) from error
    except (TypeError, ValueError, KeyError, IndexError, AttributeError):
        if isinstance(function, Forward):
            check_forward(function.model, params, x, model_state=model_state)
        raise


_DATA_DEPENDENT = (
    jax.errors.ConcretizationTypeError,
    jax.errors.NonConcreteBooleanIndexError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)


def check_names(given: Iterable[str], known: Collection[str], what: str) -> None:
    """Raise DataError if something is given for a name that a network does not have."""
    for name in given:
        if name not in known:
            raise DataError(
                f"{what} name {name!r}, which the network does not have.{did_you_mean(name, known)}",
                hint=f"Its activities: {', '.join(known)}.",
            )


def _check_given(activities: Activities, shapes: Mapping[str, Shape]) -> None:
    check_names(activities, shapes, "The activities given")
    for name, value in activities.items():
        dtype = jnp.result_type(value)
        if not jnp.issubdtype(dtype, jnp.floating):
            raise DataError(
                f"The activity {name!r} was given as {dtype}, expected floats.",
                hint="For labels: jax.nn.one_hot(labels, classes).",
            )
        if jnp.shape(value) != shapes[name]:
            raise DataError(f"The activity {name!r} was given with shape {jnp.shape(value)}, expected {shapes[name]}.")


def predicted_from(labels: Labels) -> PredictedFrom:
    """The direct inputs of a value, from its labels.

    >>> predicted_from(frozenset({"h", INPUT}))
    PredictedFrom(parameters=(), activities=('h',), inputs=True)
    """
    activities = sorted(one for one in labels if isinstance(one, str))
    return PredictedFrom(parameters_among(labels), tuple(activities), INPUT in labels)
