"""Rules wrapped so that their functions check what they return, and errors say who caused them."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax

from neurai_core.arrays import PyTree
from neurai_core.contract.blame import answer_for, check_key
from neurai_core.contract.forms import kind
from neurai_core.contract.functions import CALLS, SIGNATURES, Maker, RuleFunction
from neurai_core.contract.results import RESULT_CHECKS, check_state
from neurai_core.errors import NeurAIError
from neurai_core.registry.entries import Entry
from neurai_core.rising import unwatched, watched
from neurai_core.rule import Estimate, initial_state, objective, problem_of, takes_problem

_REQUIRED = ("init", "estimate", "predict")
# Errors that a rule is not to blame for: warnings turned into errors by the user, numbers, memory.
_NOT_THE_RULES = (NeurAIError, Warning, FloatingPointError, jax.errors.JaxRuntimeError)


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
            f"its build function returned {kind(rule)}, expected a Rule(init, estimate, predict).", step="build"
        )
    if hasattr(rule, "extended") and "extended" not in rule._fields:
        raise maker.error("extended is not a field of its NamedTuple, so it cannot be wrapped.", step="build")
    roles = [role for role in SIGNATURES if getattr(rule, role, None) is not None]
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
        check_state(maker, state, after)
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
        inner: RuleFunction | None = function._own if isinstance(function, _Checked) else None
        if inner:  # nothing is checked twice
            function, score = inner.function, score or inner.score
        self._own: RuleFunction = RuleFunction(function, role, maker, score)
        self._takes_problem = takes_problem(function)
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if "problem" in kwargs and not self._takes_problem:
            del kwargs["problem"]
        own = self._own
        try:
            result = CALLS[own.role](own.function, *args, **kwargs)
        except _NOT_THE_RULES:
            raise
        except (Exception, SystemExit) as error:
            check_key(own, error, *args, **kwargs)
            if error.__traceback__ is None or error.__traceback__.tb_next is None:
                raise  # the call itself was wrong
            answer_for(own, error, *args, **kwargs)
        RESULT_CHECKS[own.role](own, result, *args, **kwargs)
        return (watched(result[0]), result[1]) if own.role == "estimate" else result

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Checked) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def __repr__(self) -> str:
        return repr(self._own.function)

    def _identity(self) -> tuple[Any, ...]:
        return self._own[:3]  # not by the score, which is used for errors only


def _check_signature(function: Callable[..., Any], role: str, maker: Maker) -> None:
    keywords = {"init": ("key", "model_state"), "estimate": ("key",), "extended": ("key", "input_shape")}.get(role, ())
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # it has no signature
    try:
        signature.bind(*range(2 if role in ("init", "extended") else 4), **dict.fromkeys(keywords))
    except TypeError as error:
        raise maker.error(f"{role}{signature} {error}, expected {SIGNATURES[role]}.", step="build") from error
