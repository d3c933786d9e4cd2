"""What made a function of a rule fail: a missing key, the caller's model, parameters or loss, or the rule itself."""

from __future__ import annotations

import warnings
from typing import Any, NoReturn

import jax
import jax.numpy as jnp

from neurai_core.arrays import PyTree
from neurai_core.contract.forms import text, words
from neurai_core.contract.functions import CALLS, RuleFunction
from neurai_core.errors import ModelError, UsageError
from neurai_core.layered import check_forward, forward
from neurai_core.registry.failures import place
from neurai_core.rule import model_state_of


def check_key(called: RuleFunction, error: BaseException, *args: Any, **kwargs: Any) -> None:
    """Raise a UsageError if the function failed because it got no key: with one, it does not fail."""
    if called.role == "predict" or kwargs.get("key") is not None:
        return
    given, static = {name: value for name, value in kwargs.items() if name == "model_state"}, args[:1]
    others = {name: value for name, value in kwargs.items() if name not in ("key", "model_state")}

    def with_key(trees: Any, given: Any, key: Any) -> None:
        CALLS[called.role](called.function, *static, *trees, **given, **others, key=key)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            jax.eval_shape(with_key, args[1:], given, jax.random.key(0))
    except (Exception, SystemExit):
        return
    raise UsageError(
        f"{called.maker}: {called.role} needs a key, and none was given.",
        f"Pass one: {called.role}(..., key=jax.random.key(0))"
        + (", another for every batch." if called.role == "estimate" else "."),
    ) from error


def answer_for(called: RuleFunction, error: BaseException, *args: Any, **kwargs: Any) -> NoReturn:
    """Raise the error of the caller's model or loss, or else the failure of the rule."""
    if called.role == "init" and kwargs.get("problem") is not None and len(args) == 2:
        check_forward(*args, kwargs["problem"].batch[0], model_state=kwargs.get("model_state", ()))
    elif called.role == "estimate":
        _check_estimate_inputs(called, error, *args, **kwargs)
    elif called.role == "predict":
        _check_model(error, *args, **kwargs)
    failed = f"{called.role} failed with {words(error)}, in {place(error, called.function)}."
    raise called.maker.error(failed) from error


def _check_estimate_inputs(
    called: RuleFunction,
    error: BaseException,
    model: Any,
    params: PyTree,
    state: PyTree,
    batch: PyTree,
    *,
    key: Any = None,
) -> None:
    x, y = batch
    check_params(params)
    outputs = _check_model(error, model, params, x, state, key=key, train=True)
    called.check_score(outputs, y)


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


def check_params(params: PyTree) -> None:
    """Raise a ModelError if a parameter has a type without derivatives, for which no rule gives gradients."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
            raise ModelError(
                f"params{jax.tree_util.keystr(path)} is {text(leaf)}, which has no gradient; parameters are floats.",
                hint="Convert it, param.astype(jnp.float32), or keep it out of params: in the model, or in its state.",
            )
