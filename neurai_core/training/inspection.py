"""What a rule does within a step, on the first batch of its data: alignment with back-propagation, and its phases."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

import neurai_core as neurai
from neurai_core.arrays import PyTree, tree_dot, tree_norm
from neurai_core.errors import UsageError
from neurai_core.losses import loss_function
from neurai_core.rising import unwatched
from neurai_core.rule import model_state_of, objective, true_gradient
from neurai_core.specs import AlgorithmSpec
from neurai_core.training.phases import tracing
from neurai_core.training.starting import key_of
from neurai_core.training.stream import example_of
from neurai_core.training.task import Task

Look = Callable[[PyTree, PyTree], Any]


def cosines(task: Task) -> Look | None:
    """``(params, state) -> {layer: cosine}`` between the gradients of rule and loss; nan where one of them is zero.

    A layer is what holds arrays directly, such as ``{"w": ..., "b": ...}``, by its place in the parameters. None if
    the gradient of the loss is no reference for the rule.

    >>> from neurai_core.training.settings import choose
    >>> from neurai_core.training.task import prepare
    >>> task = prepare(choose({"rule": "bp", "model": "mlp:8"}, environ={}))
    >>> look = cosines(task)
    >>> {layer: round(cosine, 3) for layer, cosine in look(task.params, ()).items()}
    {'0': 1.0, '1': 1.0}
    """
    origin = task.rule.origin
    if origin is not None and cast(AlgorithmSpec, neurai.spec("algorithm", origin.name)).no_alignment:
        return None
    score = objective(loss_function(task.loss_name), None)

    def aligned(params: PyTree, state: PyTree, batch: PyTree, key: Any) -> dict[str, Any]:
        found, _ = task.rule.estimate(task.model, params, state, batch, key=key)
        reference, _ = true_gradient(score, task.model, params, model_state_of(state), batch, key=key)
        theirs = _layers(reference.grads)
        return {name: _cosine(layer, theirs[name]) for name, layer in _layers(found.grads).items()}

    look = _on_first_batch(task, aligned)
    return lambda params, state: {name: float(cosine) for name, cosine in look(params, state).items()}


def _layers(grads: PyTree) -> dict[str, list[Any]]:
    """The arrays of every layer by its place in the tree."""
    layers: dict[str, list[Any]] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
        layers.setdefault(jax.tree_util.keystr(path[:-1], simple=True, separator="/") or "all", []).append(leaf)
    return layers


def _cosine(one: list[Any], other: list[Any]) -> jax.Array:
    return tree_dot(one, other) / (tree_norm(one) * tree_norm(other))


def phases(task: Task) -> Look | None:
    """``(params, state) -> trace`` of the rule's relaxation, as `neurai_core.specs.Relaxes` says; None without one."""
    if task.rule.origin is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rule, _, _ = tracing(task.rule.origin)
    except UsageError:
        return None

    def traced(params: PyTree, state: PyTree, batch: PyTree, key: Any) -> PyTree:
        return rule.estimate(task.model, params, state, batch, key=key)[0].aux["trace"]

    look = _on_first_batch(task, traced)
    return lambda params, state: jax.tree.map(np.asarray, look(params, state))


def _on_first_batch(task: Task, function: Callable[..., PyTree]) -> Look:
    """``function(params, state, batch, key)`` as a compiled function of parameters and state."""
    batch, key = tuple(map(jnp.asarray, example_of(task.data, task.batch_size))), key_of(task.seed, 2)

    @jax.jit
    def look(params: PyTree, state: PyTree) -> PyTree:
        with unwatched():
            return function(params, state, batch, key)

    return look
