"""The contract of a learning rule: checks of its arguments and results, and of who caused a failure.

All checks use only shapes and dtypes, so under `jax.jit` they cost time while tracing and none afterwards. Errors in
the caller's model, parameters or loss are reported as such, regardless of how the rule failed on them.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp

from neurai_core.arrays import PyTree, shape_text
from neurai_core.errors import ModelError, NeurAIError, PluginError, UsageError
from neurai_core.explicit_axes import estimated, predicted
from neurai_core.layered import check_forward, forward
from neurai_core.registry.entries import Entry
from neurai_core.registry.failures import place
from neurai_core.rising import unwatched, watched
from neurai_core.rule import (
    Estimate,
    State,
    check_objective,
    initial_state,
    model_state_of,
    objective,
    problem_of,
    takes_problem,
)

FORMS = {
    "init": "init(model, params, *, key, model_state=(), problem=None), the last one if it is needed",
    "estimate": "estimate(model, params, state, batch, *, key=None)",
    "predict": "predict(model, params, x, state=())",
    "extended": "extended(model, params, *, key, input_shape)",
}
_REQUIRED = ("init", "estimate", "predict")
PAGE = "'Writing a rule', docs/writing-a-rule.md, says what a rule is."
# Errors that a rule is not to blame for: warnings turned into errors by the user, numbers, memory.
_NOT_THE_RULES = (NeurAIError, Warning, FloatingPointError, jax.errors.JaxRuntimeError)


class Maker(NamedTuple):
    """The maker of a rule.

    Attributes:
        name: lookup name; empty for a rule made by hand.
        distribution: the distribution that offers it.
        version: that distribution's version.
    """

    name: str = ""
    distribution: str = ""
    version: str = ""

    def __str__(self) -> str:
        came_from = f"{self.distribution} {self.version}".strip()
        return f"Rule {self.name!r}" + (f" ({came_from})" if came_from else "") if self.name else "The rule"

    def error(self, message: str, advice: str = "", *, step: str = "call") -> PluginError:
        """The error for a rule that breaks its contract."""
        return PluginError(f"{self}: {message}", f"{advice} {PAGE}".strip(), distribution=self.distribution, step=step)


def admit(built: Any, entry: Entry, context: Mapping[str, Any]) -> Any:
    """Wrap a rule built by a plugin, so that its functions check their results.

    Args:
        built: the result of its build function.
        entry: where it comes from.
        context: its build arguments besides settings.

    Raises:
        PluginError: it is not a rule, or one of its functions has the wrong signature.
    """
    loss = context.get("loss")
    score = objective(loss, context.get("accuracy"), context.get("has_aux", False)) if callable(loss) else None
    return checked(built, Maker(entry.name, entry.distribution, entry.version), score)


def checked(rule: Any, maker: Maker, score: Any = None) -> Any:
    """Wrap a rule so that its functions check their results; equal if the rules and their makers are.

    Args:
        rule: a `Rule`, or a NamedTuple with its fields and more.
        maker: the maker of the rule.
        score: the `Objective` it was built with, to distinguish a failing loss from a failing rule.

    Raises:
        PluginError: it is not a rule, or one of its functions has the wrong signature.
    """
    if not hasattr(rule, "_replace") or not all(callable(getattr(rule, role, None)) for role in _REQUIRED):
        raise maker.error(
            f"its build function returned {_kind(rule)}, expected a Rule(init, estimate, predict).", step="build"
        )
    if hasattr(rule, "extended") and "extended" not in rule._fields:
        raise maker.error("extended is no field of its NamedTuple, so it cannot be wrapped.", step="build")
    roles = [role for role in FORMS if getattr(rule, role, None) is not None]
    for role in roles:
        _check_signature(getattr(rule, role), role, maker)
    return rule._replace(**{role: _Checked(getattr(rule, role), role, maker, score) for role in roles})


def check(
    rule: Any, model: Any, params: PyTree, model_state: PyTree, batch: PyTree, classes: int | None = None
) -> tuple[PyTree, Estimate]:
    """Check, without computing, that a rule keeps its contract for a model and a batch.

    Args:
        rule: the rule, from the registry or made by hand.
        model: the model that it trains.
        params: the parameters.
        model_state: collections that the forward pass updates.
        batch: ``(x, y)``, arrays or ``jax.ShapeDtypeStruct``.
        classes: number of classes, for an ``init`` that asks for it.

    Returns:
        The state from ``init`` and the `Estimate`, as ``jax.ShapeDtypeStruct``.

    Raises:
        PluginError: it does not; says what was returned and what was expected.
        ModelError: model, parameters and inputs do not fit together.
    """
    maker = Maker(*(getattr(rule.origin, field, "") for field in Maker._fields))
    rule = checked(rule, maker)

    def meet(params: PyTree, model_state: PyTree, batch: PyTree, key: Any) -> tuple[PyTree, Estimate]:
        problem = problem_of(batch, classes)
        state = initial_state(rule, model, params, key=key, model_state=model_state, problem=problem)
        found, after = rule.estimate(model, params, state, batch, key=key)
        _check_state(maker, state, after)
        rule.predict(model, params, batch[0], after)
        return state, found

    with unwatched(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are given when the rule is used
        met: tuple[PyTree, Estimate] = jax.eval_shape(
            meet, params, model_state, batch, jax.eval_shape(jax.random.key, 0)
        )
    return met


class _Checked:
    """A function of a rule that checks its result and attributes its errors."""

    def __init__(self, function: Callable[..., Any], role: str, maker: Maker, score: Any) -> None:
        inner = function if isinstance(function, _Checked) else None
        self._function: Callable[..., Any] = inner._function if inner else function
        self._score: Any = score or (inner._score if inner else None)
        self._role, self._maker = role, maker
        self._takes_problem = takes_problem(self._function)
        functools.update_wrapper(self, self._function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if "problem" in kwargs and not self._takes_problem:
            del kwargs["problem"]
        try:
            result = _CALLS[self._role](self._function, *args, **kwargs)
        except _NOT_THE_RULES:
            raise
        except (Exception, SystemExit) as error:
            self._check_key(error, *args, **kwargs)
            if error.__traceback__ is None or error.__traceback__.tb_next is None:
                raise  # the call itself was wrong
            self._answer_for(error, *args, **kwargs)
        _CHECKS[self._role](self, result, *args, **kwargs)
        return (watched(result[0]), result[1]) if self._role == "estimate" else result

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Checked) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def __repr__(self) -> str:
        return repr(self._function)

    def _identity(self) -> tuple[Any, ...]:
        return self._function, self._role, self._maker

    def refuse(self, got: str, expected: str, advice: str = "") -> NoReturn:
        """The error that says what was returned and what was expected."""
        raise self._maker.error(f"{self._role} returned {got}, expected {expected}.", advice)

    def _check_key(self, error: BaseException, *args: Any, **kwargs: Any) -> None:
        """Raise a UsageError if the function failed because it got no key: with one, it does not fail."""
        if self._role == "predict" or kwargs.get("key") is not None:
            return
        given, static = {name: value for name, value in kwargs.items() if name == "model_state"}, args[:1]
        others = {name: value for name, value in kwargs.items() if name not in ("key", "model_state")}

        def with_key(trees: Any, given: Any, key: Any) -> None:
            self._function(*static, *trees, **given, **others, key=key)

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                jax.eval_shape(with_key, args[1:], given, jax.random.key(0))
        except (Exception, SystemExit):
            return
        raise UsageError(
            f"{self._maker}: {self._role} needs a key, and none was given.",
            f"Pass one: {self._role}(..., key=jax.random.key(0))"
            + (", another for every batch." if self._role == "estimate" else "."),
        ) from error

    def _answer_for(self, error: BaseException, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise the error of the caller's model or loss, or else the failure of the rule."""
        if self._role == "init" and kwargs.get("problem") is not None and len(args) == 2:
            check_forward(*args, kwargs["problem"].batch[0], model_state=kwargs.get("model_state", ()))
        elif self._role == "estimate":
            self._check_estimate_inputs(error, *args, **kwargs)
        elif self._role == "predict":
            _check_model(error, *args, **kwargs)
        failed = f"{self._role} failed with {_words(error)}, in {place(error, self._function)}."
        raise self._maker.error(failed) from error

    def _check_estimate_inputs(
        self, error: BaseException, model: Any, params: PyTree, state: PyTree, batch: PyTree, *, key: Any = None
    ) -> None:
        x, y = batch
        _check_params(params)
        outputs = _check_model(error, model, params, x, state, key=key, train=True)
        self.check_score(outputs, y)

    def check_equal(self, found: Any, model: Any, params: PyTree, **given: Any) -> None:
        """Check that extending the same model again gives an equal one: it is a static argument of compiled steps."""
        again: list[Any] = []

        def extend(params: PyTree) -> PyTree:
            wider, more = self._function(model, params, **given)
            again.append(wider)
            return more

        jax.eval_shape(extend, params)
        try:
            same = bool(again[0] == found) and hash(again[0]) == hash(found)
        except Exception:  # no hash, or compared by arrays
            same = False
        if not same:
            self.refuse(
                f"a model of type {type(found).__name__} that is not equal to itself made again",
                "equal models with equal hashes",
                "It is a static argument of compiled functions: make it a frozen dataclass without arrays.",
            )

    def check_score(self, outputs: PyTree, targets: PyTree) -> None:
        """Raise a ModelError if it is the user's loss or accuracy that fails."""
        if self._score is not None:
            check_objective(self._score, outputs, targets)


def _check_model(
    error: BaseException,
    model: Any,
    params: PyTree,
    x: PyTree,
    state: PyTree = (),
    *,
    key: Any = None,
    train: bool = False,
) -> PyTree:
    """The outputs of a model by itself; raises its own error if it also fails without the rule."""
    model_state = model_state_of(state)
    outputs = check_forward(model, params, x, model_state=model_state)
    try:
        jax.eval_shape(
            lambda p, s, x, k: forward(model, p, x, model_state=s, key=k, train=train), params, model_state, x, key
        )
    except Exception:
        raise error from None
    return outputs


_CALLS: dict[str, Callable[..., Any]] = {
    "init": lambda function, *args, **kwargs: function(*args, **kwargs),
    "estimate": estimated,
    "predict": predicted,
    "extended": lambda function, *args, **kwargs: function(*args, **kwargs),
}

# ---------------------------------------------------------------------------- what each function returns


def _check_init(
    checked: _Checked,
    state: PyTree,
    model: Any,
    params: PyTree,
    *,
    key: Any = None,
    model_state: PyTree = (),
    problem: Any = None,
) -> None:
    _check_leaves(checked, state, "as a state")
    if _form(model_state_of(state)) != _form(model_state):
        checked.refuse(
            f"the state {_text(state)}",
            f"one that holds the model_state {_text(model_state)}",
            "A rule that carries something of its own returns State(model_state, own).",
        )


def _check_estimate(
    checked: _Checked, result: Any, model: Any, params: PyTree, state: PyTree, batch: PyTree, *, key: Any = None
) -> None:
    if isinstance(result, Estimate) or not isinstance(result, tuple | list) or len(result) != 2:
        checked.refuse(_kind(result), "the pair (Estimate, state)")
    found, after = result
    if not isinstance(found, Estimate):
        checked.refuse(f"{_kind(found)} and a state", "the pair (Estimate(grads, loss, accuracy, aux), state)")
    _check_grads(checked, found.grads, params)
    for name in ("loss", "accuracy"):
        if not _is_real_scalar(getattr(found, name)):
            _check_model_and_score(checked, model, params, state, batch)
            checked.refuse(f"{name} = {_text(getattr(found, name))}", "one real number per batch")
    if not isinstance(found.aux, dict):
        checked.refuse(f"aux = {_kind(found.aux)}", "a dict")
    _check_leaves(checked, {key: one for key, one in found.aux.items() if key != "loss_aux"}, "in aux")
    _check_leaves(checked, after, "as a state")
    if _form(after) != _form(state) and not _begins(state, after):
        raise _changed(checked._maker, state, after)


def _check_predict(
    checked: _Checked, outputs: PyTree, model: Any, params: PyTree, x: PyTree, state: PyTree = ()
) -> None:
    _check_leaves(checked, outputs, "as outputs")
    try:
        own = jax.eval_shape(lambda p, s, x: forward(model, p, x, model_state=s)[0], params, model_state_of(state), x)
    except Exception:  # parameters besides the model's, or a model that only the rule can call: unknown
        return
    if _form(outputs, dtypes=False) != _form(own, dtypes=False):
        checked.refuse(_text(outputs), f"the outputs of the model, {_text(own)}")


def _check_extended(
    checked: _Checked, result: Any, model: Any, params: PyTree, *, key: Any, input_shape: tuple[int, ...]
) -> None:
    if not isinstance(result, tuple | list) or len(result) != 2 or not callable(result[0]):
        got = f"({_kind(result[0])}, ...)" if isinstance(result, tuple | list) and len(result) == 2 else _kind(result)
        checked.refuse(got, "the pair (model, params) with a model that can be called: model(params, x)")
    wider, more = result
    _check_leaves(checked, more, "in params")
    if not jax.tree.leaves(more):
        checked.refuse("no parameters", "those of the plain model and the rule's own in one tree")
    checked.check_equal(wider, model, params, key=key, input_shape=input_shape)
    x = jax.ShapeDtypeStruct((1, *input_shape), jnp.result_type(float))
    try:
        plain = jax.eval_shape(lambda params, x: forward(model, params, x)[0], params, x)
    except Exception:  # a model of codes, or with collections: met in training
        return
    try:
        outputs = jax.eval_shape(lambda params, x: forward(wider, params, x)[0], more, x)
    except Exception as error:
        failed = f"the model that extended returned fails on its params and x {_text(x)} with {_words(error)}."
        raise checked._maker.error(failed) from error
    if _form(outputs, dtypes=False) != _form(plain, dtypes=False):
        checked.refuse(f"a model that gives {_text(outputs)}", f"the outputs of the plain model, {_text(plain)}")


_CHECKS: dict[str, Callable[..., None]] = {
    "init": _check_init,
    "estimate": _check_estimate,
    "predict": _check_predict,
    "extended": _check_extended,
}


def _check_model_and_score(checked: _Checked, model: Any, params: PyTree, state: PyTree, batch: PyTree) -> None:
    x, y = batch
    checked.check_score(check_forward(model, params, x, model_state=model_state_of(state)), y)


def _check_grads(checked: _Checked, grads: PyTree, params: PyTree) -> None:
    if _form(grads) == _form(params):
        return
    _check_params(params)
    got, expected = _text(grads), _text(params)
    if _form(grads)[0] == _form(params)[0]:
        pairs = zip(jax.tree_util.tree_leaves_with_path(grads), jax.tree.leaves(params), strict=True)
        path, grad, param = next((p, g, q) for (p, g), q in pairs if _form(g) != _form(q))
        at = jax.tree_util.keystr(path)
        got, expected = f"{_text(grad)}{at and f' at {at}'}", _text(param)
    checked.refuse(
        f"grads = {got}", f"{expected} as in params", "Gradients have the structure, shapes and dtypes of params."
    )


def _check_params(params: PyTree) -> None:
    """Raise a ModelError if a parameter has a type without derivatives, for which no rule gives gradients."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
            raise ModelError(
                f"params{jax.tree_util.keystr(path)} is {_text(leaf)}, which has no gradient; parameters are floats.",
                hint="Convert it, param.astype(jnp.float32), or keep it out of params: in the model, or in its state.",
            )


def _check_leaves(checked: _Checked, tree: PyTree, where: str) -> None:
    try:
        leaves = jax.tree_util.tree_leaves_with_path(tree)
    except (TypeError, ValueError) as error:  # keys that cannot be sorted
        checked.refuse(f"a tree {where} that cannot be read ({error})", "arrays and numbers")
    for path, leaf in leaves:
        if _aval(leaf) is None:
            at = jax.tree_util.keystr(path)
            checked.refuse(f"{_kind(leaf)} {where}{at and f' at {at}'}", "arrays and numbers")


def _check_signature(function: Callable[..., Any], role: str, maker: Maker) -> None:
    keywords = {"init": ("key", "model_state"), "estimate": ("key",), "extended": ("key", "input_shape")}.get(role, ())
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # it has no signature
    try:
        signature.bind(*range(2 if role in ("init", "extended") else 4), **dict.fromkeys(keywords))
    except TypeError as error:
        raise maker.error(f"{role}{signature} {error}, expected {FORMS[role]}.", step="build") from error


def _check_state(maker: Maker, before: PyTree, after: PyTree) -> None:
    """Check that the state keeps its form from the first batch on."""
    if _form(before) != _form(after):
        raise _changed(maker, before, after)


def _changed(maker: Maker, before: PyTree, after: PyTree) -> PluginError:
    return maker.error(
        f"estimate turned the state {_text(before)} into {_text(after)}, expected the same form.",
        "A state keeps its structure, shapes and dtypes.",
    )


def _begins(state: PyTree, after: PyTree) -> bool:
    """Whether a state without own parts of the rule gains some."""
    own = state.own if isinstance(state, State) else ()
    return (
        isinstance(after, State)
        and not jax.tree.leaves(own)
        and _form(after.model_state) == _form(model_state_of(state))
    )


# ---------------------------------------------------------------------------- words


def _form(tree: PyTree, *, dtypes: bool = True) -> Any:
    """Structure, shapes and dtypes of a tree, to compare."""
    avals = [_aval(leaf) for leaf in jax.tree.leaves(tree)]
    return jax.tree.structure(tree), [(one.shape, one.dtype if dtypes else None) if one else None for one in avals]


def _aval(leaf: Any) -> Any:
    """The abstract value of an array or number; None for anything else."""
    try:
        return jax.typeof(leaf)
    except TypeError:
        return None


def _is_real_scalar(value: Any) -> bool:
    aval = _aval(value) if jax.tree_util.all_leaves([value]) else None
    return (
        aval is not None
        and aval.shape == ()
        and jnp.issubdtype(aval.dtype, jnp.number)
        and not jnp.issubdtype(aval.dtype, jnp.complexfloating)
    )


def _text(tree: PyTree) -> str:
    """Shapes and dtypes in at most a line and a half."""
    shown = jax.tree.map(lambda leaf: _aval(leaf) or leaf, tree)
    text = shape_text(shown)
    return text if len(text) < 200 else f"{text[:200]}..."


def _kind(value: Any) -> str:
    """A description of an object in two or three words."""
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    if isinstance(value, Estimate):
        return "an Estimate alone"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return _text(value) if _aval(value) is not None else f"an object of type {type(value).__name__}"


def _words(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__
