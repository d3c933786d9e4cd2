"""Predictive coding on fused layers: one set of activities for a layer and those without parameters behind it."""

from __future__ import annotations

from typing import Any

import jax

from neurai_core.adapting import adapt
from neurai_core.arrays import PyTree
from neurai_core.errors import ModelError
from neurai_core.layered import Fused, Layered, check_forward, fused
from neurai_core.rule import Estimate, Rule, State, model_state_of, split_batch


def on_fused_layers(rule: Rule) -> Rule:
    """The rule on fused layers; parameters, gradients and collections keep the structure of the model.

    Example:
        >>> import jax.numpy as jnp
        >>> import neurai_core as neurai
        >>> from neurai_core.models import cnn
        >>> model, rule = cnn((2,), 3), on_fused_layers(neurai.algorithm("pc", loss="squared_error", mode="exact"))
        >>> params, _ = model.init(jax.random.key(0), (4, 4, 1))
        >>> batch = jnp.ones((2, 4, 4, 1)), jnp.zeros((2, 3))
        >>> jax.tree.structure(rule.estimate(model, params, (), batch)[0].grads) == jax.tree.structure(params)
        True
    """

    def init(model: Any, params: PyTree, *, key: Any = None, model_state: PyTree = ()) -> PyTree:
        joined = _joined(model, params)
        state = rule.init(joined.model, joined.grouped(params), key=key, model_state=_grouped(joined, model_state))
        return _with(state, model_state)

    def estimate(
        model: Any, params: PyTree, state: PyTree, batch: PyTree, *, key: Any = None
    ) -> tuple[Estimate, PyTree]:
        model_state = model_state_of(state)
        joined = _joined(model, params, split_batch(batch)[0], model_state)
        state = _with(state, _grouped(joined, model_state))
        found, state = rule.estimate(joined.model, joined.grouped(params), state, batch, key=key)
        after = jax.tree.unflatten(jax.tree.structure(model_state), jax.tree.leaves(model_state_of(state)))
        grads = jax.tree.unflatten(jax.tree.structure(params), jax.tree.leaves(found.grads))
        return found._replace(grads=grads), _with(state, after)

    return Rule(init, estimate, rule.predict)


def _joined(model: Any, params: PyTree, x: PyTree = None, model_state: PyTree = ()) -> Fused:
    layered = adapt(model, needs="network").model
    if not isinstance(layered, Layered):
        raise ModelError(
            "PC: fuse=True joins layers, and this model is a network of named values.",
            hint="Name only the values that are activities, or build the model from layers.",
        )
    if x is not None:
        check_forward(layered, params, x, model_state=model_state)
    return fused(layered, params)


def _grouped(joined: Fused, model_state: PyTree) -> PyTree:
    return model_state if model_state == () else joined.grouped(model_state)


def _with(state: PyTree, model_state: PyTree) -> PyTree:
    return state._replace(model_state=model_state) if isinstance(state, State) else model_state
