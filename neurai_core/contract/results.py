"""Checks of what each function of a rule returns, by structure, shapes and dtypes alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from neurai_core.arrays import PyTree
from neurai_core.contract.blame import check_params
from neurai_core.contract.forms import aval, form, is_real_scalar, kind, text, words
from neurai_core.contract.functions import Maker, RuleFunction
from neurai_core.errors import PluginError
from neurai_core.layered import check_forward, forward
from neurai_core.rule import Estimate, State, model_state_of


def _check_init(
    called: RuleFunction,
    state: PyTree,
    model: Any,
    params: PyTree,
    *,
    key: Any = None,
    model_state: PyTree = (),
    problem: Any = None,
) -> None:
    _check_leaves(called, state, "as a state")
    if form(model_state_of(state)) != form(model_state):
        called.refuse(
            f"the state {text(state)}",
            f"one that holds the model_state {text(model_state)}",
            "A rule that carries something of its own returns State(model_state, own).",
        )


def _check_estimate(
    called: RuleFunction, result: Any, model: Any, params: PyTree, state: PyTree, batch: PyTree, *, key: Any = None
) -> None:
    if isinstance(result, Estimate) or not isinstance(result, tuple | list) or len(result) != 2:
        called.refuse(kind(result), "the pair (Estimate, state)")
    found, after = result
    if not isinstance(found, Estimate):
        called.refuse(f"{kind(found)} and a state", "the pair (Estimate(grads, loss, accuracy, aux), state)")
    _check_grads(called, found.grads, params)
    for name in ("loss", "accuracy"):
        if not is_real_scalar(getattr(found, name)):
            _check_model_and_score(called, model, params, state, batch)
            called.refuse(f"{name} = {text(getattr(found, name))}", "one real number per batch")
    if not isinstance(found.aux, dict):
        called.refuse(f"aux = {kind(found.aux)}", "a dict")
    _check_leaves(called, {key: one for key, one in found.aux.items() if key != "loss_aux"}, "in aux")
    _check_leaves(called, after, "as a state")
    if form(after) != form(state) and not _begins(state, after):
        raise _changed(called.maker, state, after)


def _check_predict(
    called: RuleFunction, outputs: PyTree, model: Any, params: PyTree, x: PyTree, state: PyTree = ()
) -> None:
    _check_leaves(called, outputs, "as outputs")
    try:
        own = jax.eval_shape(lambda p, s, x: forward(model, p, x, model_state=s)[0], params, model_state_of(state), x)
    except Exception:  # parameters besides the model's, or a model that only the rule can call: unknown
        return
    if form(outputs, dtypes=False) != form(own, dtypes=False):
        called.refuse(text(outputs), f"the outputs of the model, {text(own)}")


def _check_extended(
    called: RuleFunction, result: Any, model: Any, params: PyTree, *, key: Any, input_shape: tuple[int, ...]
) -> None:
    if not isinstance(result, tuple | list) or len(result) != 2 or not callable(result[0]):
        got = f"({kind(result[0])}, ...)" if isinstance(result, tuple | list) and len(result) == 2 else kind(result)
        called.refuse(got, "the pair (model, params) with a model that can be called: model(params, x)")
    wider, more = result
    _check_leaves(called, more, "in params")
    if not jax.tree.leaves(more):
        called.refuse("no parameters", "those of the plain model and the rule's own in one tree")
    _check_equal(called, wider, model, params, key=key, input_shape=input_shape)
    x = jax.ShapeDtypeStruct((1, *input_shape), jnp.result_type(float))
    try:
        plain = jax.eval_shape(lambda params, x: forward(model, params, x)[0], params, x)
    except Exception:  # a model of codes, or with collections: met in training
        return
    try:
        outputs = jax.eval_shape(lambda params, x: forward(wider, params, x)[0], more, x)
    except Exception as error:
        failed = f"the model that extended returned fails on its params and x {text(x)} with {words(error)}."
        raise called.maker.error(failed) from error
    if form(outputs, dtypes=False) != form(plain, dtypes=False):
        called.refuse(f"a model that gives {text(outputs)}", f"the outputs of the plain model, {text(plain)}")


def _check_equal(called: RuleFunction, found: Any, model: Any, params: PyTree, **given: Any) -> None:
    """Check that extending the same model again gives an equal one: it is a static argument of compiled steps."""
    again: list[Any] = []

    def extend(params: PyTree) -> PyTree:
        wider, more = called.function(model, params, **given)
        again.append(wider)
        return more

    jax.eval_shape(extend, params)
    try:
        same = bool(again[0] == found) and hash(again[0]) == hash(found)
    except Exception:  # no hash, or compared by arrays
        same = False
    if not same:
        called.refuse(
            f"a model of type {type(found).__name__} that is not equal to the same model made again",
            "equal models with equal hashes",
            "It is a static argument of compiled functions: make it a frozen dataclass without arrays.",
        )


RESULT_CHECKS: dict[str, Callable[..., None]] = {
    "init": _check_init,
    "estimate": _check_estimate,
    "predict": _check_predict,
    "extended": _check_extended,
}


def _check_model_and_score(called: RuleFunction, model: Any, params: PyTree, state: PyTree, batch: PyTree) -> None:
    x, y = batch
    called.check_score(check_forward(model, params, x, model_state=model_state_of(state)), y)


def _check_grads(called: RuleFunction, grads: PyTree, params: PyTree) -> None:
    if form(grads) == form(params):
        return
    check_params(params)
    got, expected = text(grads), text(params)
    if form(grads)[0] == form(params)[0]:
        pairs = zip(jax.tree_util.tree_leaves_with_path(grads), jax.tree.leaves(params), strict=True)
        path, grad, param = next((p, g, q) for (p, g), q in pairs if form(g) != form(q))
        at = jax.tree_util.keystr(path)
        got, expected = f"{text(grad)}{at and f' at {at}'}", text(param)
    called.refuse(
        f"grads = {got}", f"{expected} as in params", "Gradients have the structure, shapes and dtypes of params."
    )


def _check_leaves(called: RuleFunction, tree: PyTree, where: str) -> None:
    try:
        leaves = jax.tree_util.tree_leaves_with_path(tree)
    except (TypeError, ValueError) as error:  # keys that cannot be sorted
        called.refuse(f"a tree {where} that cannot be read ({error})", "arrays and numbers")
    for path, leaf in leaves:
        if aval(leaf) is None:
            at = jax.tree_util.keystr(path)
            called.refuse(f"{kind(leaf)} {where}{at and f' at {at}'}", "arrays and numbers")


def check_state(maker: Maker, before: PyTree, after: PyTree) -> None:
    """Check that the state keeps its form from the first batch on."""
    if form(before) != form(after):
        raise _changed(maker, before, after)


def _changed(maker: Maker, before: PyTree, after: PyTree) -> PluginError:
    return maker.error(
        f"estimate turned the state {text(before)} into {text(after)}, expected the same form.",
        "A state keeps its structure, shapes and dtypes.",
    )


def _begins(state: PyTree, after: PyTree) -> bool:
    """Whether a state without own parts of the rule gains some."""
    own = state.own if isinstance(state, State) else ()
    return (
        isinstance(after, State) and not jax.tree.leaves(own) and form(after.model_state) == form(model_state_of(state))
    )
