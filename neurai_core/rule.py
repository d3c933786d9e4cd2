"""Learning rules: three pure functions, their results, and the objective.

Just as an optax optimizer is a pair ``(init, update)``, a learning rule is a triple ``(init, estimate, predict)``.
The state is carried from step to step; ``aux`` is only reported.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from neurai_core.arrays import PyTree, Scalar, shape_text
from neurai_core.errors import DataError, ModelError, NeurAIError
from neurai_core.layered import forward


class Estimate(NamedTuple):
    """The result of a learning rule for one batch.

    Attributes:
        grads: gradients for optax, with the structure, shapes and dtypes of ``params``.
        loss: the feed-forward loss of the batch, a scalar.
        accuracy: a scalar; -1.0 if the rule was built without an accuracy.
        aux: further reported values: energy, residual, steps used, per-layer errors; ``aux["loss_aux"]`` holds
            the second part of a loss that returns a pair.
    """

    grads: PyTree
    loss: Scalar
    accuracy: Scalar
    aux: dict[str, Any]


class State(NamedTuple):
    """The state of a rule that carries something of its own.

    Attributes:
        model_state: the collections that the model's forward pass updates, ``()`` for most models.
        own: the rule's own state: feedback weights, an optimizer's state, persistent activities.
    """

    model_state: PyTree
    own: PyTree


def model_state_of(state: PyTree) -> PyTree:
    """The model's part of a rule's state.

    >>> model_state_of(State(model_state=(), own=1.0)), model_state_of(())
    ((), ())
    """
    return state.model_state if isinstance(state, State) else state


class Problem(NamedTuple):
    """What a rule will be trained on, without the data.

    Attributes:
        batch: ``(x, y)``: shapes and dtypes of a batch, as ``jax.ShapeDtypeStruct``.
        classes: number of classes; None for a regression, or where it is not known.
    """

    batch: tuple[PyTree, PyTree]
    classes: int | None = None


def problem_of(batch: PyTree, classes: int | None = None) -> Problem:
    """The problem that a batch is one of.

    Args:
        batch: ``(x, y)``, arrays or ``jax.ShapeDtypeStruct``; only shapes and dtypes are kept.
        classes: number of classes, if there are any.

    >>> problem_of((np.zeros((7, 5), np.float32), np.zeros(7, np.int32)), classes=3).batch[0].shape
    (7, 5)
    """
    x, y = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), jnp.result_type(leaf)), tuple(batch))
    return Problem((x, y), classes)


class Rule(NamedTuple):
    """A learning rule: turns a model and a batch into gradients.

    Attributes:
        init: ``(model, params, *, key, model_state=()) -> state``; the state carried from step to step. For most
            rules it is the model's own collections (batch statistics), ``()`` for most models; a rule with more
            state returns a `State`. An ``init`` with an argument ``problem=None`` also gets the `Problem`: shapes and
            dtypes of a batch, and the number of classes.
        estimate: ``(model, params, state, batch, *, key=None) -> (Estimate, state)``; pure, so it can be jitted,
            vmapped and sharded. ``batch`` is ``(x, y)``, batch axis first.
        predict: ``(model, params, x, state=()) -> outputs`` of the trained network.
        origin: name, distribution, version and settings it was built from; None for a rule made by hand.

    Example:
        >>> import jax, jax.numpy as jnp, neurai_core as neurai
        >>> rule = neurai.algorithm("bp", loss="squared_error")
        >>> model = lambda params, x: x @ params
        >>> params, batch = jnp.ones((2, 1)), (jnp.ones((4, 2)), jnp.zeros((4, 1)))
        >>> state = rule.init(model, params, key=jax.random.key(0))
        >>> estimate, state = rule.estimate(model, params, state, batch)
        >>> float(estimate.loss), estimate.grads.tolist()
        (2.0, [[2.0], [2.0]])
    """

    init: Callable[..., PyTree]
    estimate: Callable[..., tuple[Estimate, PyTree]]
    predict: Callable[..., PyTree]
    origin: Any = None


def takes_problem(function: Callable[..., Any]) -> bool:
    """Whether a function of a rule asks for the `Problem`.

    >>> takes_problem(feedforward_init), takes_problem(lambda model, params, *, key, problem=None: ())
    (False, True)
    """
    try:
        return "problem" in inspect.signature(function).parameters
    except (TypeError, ValueError):  # it has no signature
        return False


def initial_state(
    rule: Any, model: Any, params: PyTree, *, key: Any, model_state: PyTree = (), problem: Problem | None = None
) -> PyTree:
    """The state from the ``init`` of a rule, which gets the problem if it asks for it.

    >>> initial_state(Rule(feedforward_init, true_gradient, feedforward_predict), None, (), key=None, model_state=1.0)
    1.0
    """
    asked = {"problem": problem} if takes_problem(rule.init) else {}
    return rule.init(model, params, key=key, model_state=model_state, **asked)


class Inferred(Protocol):
    """The result of `GenerativeRule.infer`."""

    @property
    def x(self) -> jax.Array:
        """Inputs, with missing parts filled in."""
        ...


@runtime_checkable
class GenerativeRule(Protocol):
    """The functions that a rule has in addition to those of a `Rule` if its spec claims ``generative``.

    Its model is a `Layered`, and inputs have the shape that the model takes.
    """

    predict: Callable[..., PyTree]

    def generate(self, model: Any, params: PyTree, y: jax.Array) -> jax.Array:
        """Generate inputs, one for each of the labels y."""
        ...

    def reconstruct(self, model: Any, params: PyTree, x: jax.Array, layer: int) -> jax.Array:
        """Reconstruct inputs x from layer 1, 2, ... of the model; ``layer`` is static."""
        ...

    def infer(self, model: Any, params: PyTree, x: Any = None, y: Any = None, mask: Any = None) -> Inferred:
        """Fill in the parts of inputs that the mask does not mark as known.

        ``mask`` has the shape of one example or broadcasts to x, True where x is known; labels y are optional.
        """
        ...


class Objective(NamedTuple):
    """Loss and accuracy of a batch in the form that rules use.

    Attributes:
        loss: ``(outputs, targets) -> (scalar, aux)``, whether or not the user's loss returns a pair.
        accuracy: ``(outputs, targets) -> scalar``; -1.0 without an accuracy function.
    """

    loss: Callable[[PyTree, PyTree], tuple[Scalar, PyTree]]
    accuracy: Callable[[PyTree, PyTree], Scalar]


def objective(loss: Callable[..., Any], accuracy: Callable[..., Any] | None, has_aux: bool = False) -> Objective:
    """Bring a loss and an optional accuracy into the form rules use.

    Args:
        loss: ``(outputs, targets) -> scalar``, or ``-> (scalar, aux)`` when ``has_aux``.
        accuracy: ``(outputs, targets) -> scalar`` or None.
        has_aux: whether ``loss`` returns a pair.

    Raises:
        ModelError: on use, if one of them does not return one scalar, or a pair when ``has_aux``.

    Example:
        >>> from neurai_core.rule import objective
        >>> score = objective(lambda outputs, targets: (outputs - targets).sum(), None)
        >>> value, aux = score.loss(jnp.ones(3), jnp.zeros(3))
        >>> float(value), aux, float(score.accuracy(None, None))
        (3.0, (), -1.0)
    """

    def with_aux(outputs: PyTree, targets: PyTree) -> tuple[Scalar, PyTree]:
        found = loss(outputs, targets)
        if has_aux and not (isinstance(found, tuple | list) and len(found) == 2):
            raise ModelError(
                f"The loss returned {shape_text(found)}, expected the pair (scalar, aux).",
                hint="Leave out has_aux if the loss returns a scalar.",
            )
        value, aux = found if has_aux else (found, ())
        _check_scalar("loss", value, outputs, targets)
        return value, aux

    def accuracy_or_unknown(outputs: PyTree, targets: PyTree) -> Scalar:
        if accuracy is None:
            return jnp.asarray(-1.0)
        value = accuracy(outputs, targets)
        _check_scalar("accuracy", value, outputs, targets)
        return jnp.asarray(value)

    return Objective(with_aux, accuracy_or_unknown)


def _check_scalar(name: str, value: Any, outputs: PyTree, targets: PyTree) -> None:
    number = isinstance(value, jax.Array | np.ndarray | np.generic | float | int) and np.shape(value) == ()
    if number and (name == "accuracy" or jnp.issubdtype(jnp.result_type(value), jnp.inexact)):
        return
    what = shape_text(value) if jax.tree.leaves(value) else str(value)
    raise ModelError(
        f"The {name} returned {what} for outputs {shape_text(outputs)} and targets {shape_text(targets)}, "
        "expected one scalar per batch, in floating point.",
        hint="Reduce it over the batch, for instance with jnp.mean; a loss that returns a pair needs has_aux.",
    )


def split_batch(batch: PyTree) -> tuple[PyTree, PyTree]:
    """Split a batch into inputs and targets; checks only shapes, so it costs nothing inside ``jax.jit``.

    Raises:
        DataError: the batch is not a pair, has no examples, or has different numbers of inputs and targets.

    >>> split_batch((jnp.zeros((0, 4)), jnp.zeros(0, int)))
    Traceback (most recent call last):
        ...
    neurai_core.errors.DataError: The batch is empty: x is float32[0,4].
    At least one example is needed.
    """
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        count = f" of {len(batch)}" if isinstance(batch, tuple | list) else ""
        raise DataError(
            f"The batch is of type {type(batch).__name__}{count}, expected the pair (x, y).",
            hint="Inputs x and targets y, as in get_grads(model, params, (x, y)).",
        )
    x, y = batch
    if any(0 in np.shape(leaf) for leaf in jax.tree.leaves(x)[:1]):
        raise DataError(f"The batch is empty: x is {shape_text(x)}.", "At least one example is needed.")
    lengths = [np.shape(tree)[0] for tree in batch if jax.tree_util.all_leaves([tree]) and np.shape(tree)]
    if len(set(lengths)) > 1:
        raise DataError(
            f"x has {lengths[0]} rows and y has {lengths[1]}, expected as many targets as inputs.",
            hint=f"x is {shape_text(x)} and y is {shape_text(y)}; the first axis of both counts the examples.",
        )
    return x, y


def true_gradient(
    score: Objective, model: Any, params: PyTree, model_state: PyTree, batch: PyTree, *, key: Any = None
) -> tuple[Estimate, PyTree]:
    """The gradient of the feed-forward loss by reverse-mode differentiation: the reference for every rule.

    Args:
        score: loss and accuracy, from `objective`.
        model: a `Layered`, an adapted model or a callable ``model(params, x)``.
        params: its parameters.
        model_state: collections that the forward pass updates (batch statistics), ``()`` for none.
        batch: ``(x, y)``, batch axis first.
        key: PRNG key for stochastic layers.

    Returns:
        ``(Estimate, model_state)``.

    Raises:
        DataError: the batch is empty, or inputs and targets do not match.
        ModelError: the loss does not return a scalar.

    Example:
        >>> score = objective(lambda outputs, targets: jnp.mean((outputs - targets) ** 2), None)
        >>> batch = (jnp.ones((4, 1)), jnp.zeros((4, 1)))
        >>> estimate, _ = true_gradient(score, lambda params, x: params * x, 3.0, (), batch)
        >>> float(estimate.loss), float(estimate.grads)
        (9.0, 6.0)
    """
    x, y = split_batch(batch)

    def loss_of(params: PyTree) -> tuple[Scalar, tuple[PyTree, PyTree, PyTree]]:
        outputs, updated = forward(model, params, x, model_state=model_state, key=key, train=True)
        value, aux = score.loss(outputs, y)
        return value, (outputs, updated, aux)

    (loss, (outputs, updated, aux)), grads = jax.value_and_grad(loss_of, has_aux=True)(params)
    return Estimate(grads, loss, score.accuracy(outputs, y), loss_aux(aux)), updated


def loss_aux(aux: PyTree) -> dict[str, Any]:
    """The second part of a loss, as an entry of ``Estimate.aux``; empty if there is none."""
    return {"loss_aux": aux} if jax.tree.leaves(aux) else {}


def feedforward_init(model: Any, params: PyTree, *, key: Any = None, model_state: PyTree = ()) -> PyTree:
    """The ``init`` of rules without a state of their own: the state is the model's."""
    return model_state


def feedforward_predict(model: Any, params: PyTree, x: PyTree, state: PyTree = ()) -> PyTree:
    """The ``predict`` of rules that predict by one forward pass, in evaluation mode."""
    return forward(model, params, x, model_state=model_state_of(state))[0]


def check_objective(score: Objective, outputs: PyTree, targets: PyTree) -> None:
    """Check, without computing, that the loss takes the model's outputs and returns a scalar.

    Args:
        score: loss and accuracy.
        outputs: arrays or ``jax.ShapeDtypeStruct``.
        targets: likewise; a named score checks the values of arrays, see `neurai_core.losses`.

    Raises:
        DataError: a named loss or accuracy does not take these targets.
        ModelError: a custom one fails on these shapes, or does not return one scalar.

    >>> check_objective(objective(lambda outputs, targets: outputs.sum(), None), jnp.ones(3), jnp.ones(3))
    """
    for name, function in (("loss", lambda o, y: score.loss(o, y)[0]), ("accuracy", score.accuracy)):
        try:
            _evaluate_shape(function, outputs, targets)
        except NeurAIError:
            raise
        except (TypeError, ValueError, AttributeError, IndexError, KeyError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ModelError(
                f"The {name} cannot take outputs {shape_text(outputs)} and targets {shape_text(targets)}: {reason}",
                hint="It is called as loss(outputs, targets), batch axis first.",
            ) from error


def _evaluate_shape(function: Callable[..., Any], outputs: PyTree, targets: PyTree) -> None:
    """Trace only the outputs if the values of the targets are concrete."""
    if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(targets)):
        jax.eval_shape(function, outputs, targets)
    else:
        values = jax.tree.map(lambda leaf: leaf if _is_text(leaf) else jnp.asarray(leaf), targets)
        jax.eval_shape(lambda outputs: function(outputs, values), outputs)


def _is_text(leaf: Any) -> bool:
    return isinstance(leaf, np.ndarray) and leaf.dtype.kind in "OSU"
