r"""SymBa, Lee and Song 2023: Forward-Forward without a threshold, and with a pattern of each class in the inputs.

An example is positive if the pattern added to it is that of its class. Every layer learns on its own to have a higher
goodness G_l = mean_j h_lj^2 for it than for the same example with another pattern, and hands its activities on with
their length taken out:

    L_l = log(1 + exp(-alpha (G_l^positive - G_l^negative))) .

The classes and the form of the inputs are told to ``init``, which draws the patterns. A prediction tries them all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from neurai_core.arrays import PyTree
from neurai_core.errors import DataError, ModelError
from neurai_core.layered import Layered
from neurai_core.rule import Estimate, Problem, Rule, State, split_batch
from neurai_forward_only import SymBaConfig


def build(config: SymBaConfig, *, accuracy: Callable[..., Any] | None = None, **context: Any) -> Rule:
    """The rule "SymBa"; its state holds the pattern of every class, (classes, inputs).

    Args:
        config: its settings.
        accuracy: ``(outputs, targets) -> scalar`` or None.
        **context: not used: the loss is the rule's own.
    """

    def init(
        model: Layered, params: PyTree, *, key: jax.Array, model_state: PyTree = (), problem: Problem | None = None
    ) -> State:
        for index, layer in enumerate(model.layers):
            if layer.stateful:
                raise ModelError(f"SymBa keeps no batch statistics, and layer {index} ({layer.name}) has some.")
        return State(model_state, patterns(problem, key))

    def estimate(
        model: Layered, params: PyTree, state: State, batch: PyTree, *, key: jax.Array
    ) -> tuple[Estimate, State]:
        x, y = split_batch(batch)
        other = (y + jax.random.randint(key, y.shape, 1, len(state.own))) % len(state.own)  # any but the true class
        h = jnp.concatenate([x + config.strength * state.own[label] for label in (y, other)])
        value, grads = jnp.zeros(()), []
        for layer, own in zip(model.layers, params, strict=True):

            def loss_of(own: PyTree, layer: Any = layer, below: jax.Array = h) -> tuple[jax.Array, jax.Array]:
                h = passed(layer, own, below)
                positive, negative = jnp.split(goodness(h), 2)
                return jnp.mean(jax.nn.softplus(config.alpha * (negative - positive))), h

            (more, h), g = jax.value_and_grad(loss_of, has_aux=True)(own)
            value = value + more
            grads.append(g)
        known = jnp.asarray(-1.0) if accuracy is None else accuracy(predict(model, params, x, state), y)
        return Estimate(tuple(grads), value, known, {}), state

    def predict(model: Layered, params: PyTree, x: jax.Array, state: State) -> jax.Array:
        """Goodness of every class, (B, classes), summed over the layers."""

        def tried(pattern: jax.Array) -> jax.Array:
            h, total = x + config.strength * pattern, 0.0
            for layer, own in zip(model.layers, params, strict=True):
                h = passed(layer, own, h)
                total = total + goodness(h)
            return jnp.asarray(total)

        return jax.vmap(tried, out_axes=1)(state.own)

    return Rule(init, estimate, predict)


def patterns(problem: Problem | None, key: jax.Array) -> jax.Array:
    """A pattern of random entries for each class."""
    if problem is None or problem.classes is None:
        raise DataError(
            "SymBa shows each class by a pattern, and the number of classes is not known.",
            "Pass init(..., problem=problem_of(batch, classes)); it cannot learn a regression.",
        )
    x, _ = problem.batch
    if len(x.shape) != 2:
        raise ModelError(f"SymBa takes networks of vectors, and a batch of inputs is {x.shape}.", "Use mlp(...).")
    return jax.random.normal(key, (problem.classes, x.shape[1]), x.dtype)


def passed(layer: Any, own: PyTree, below: jax.Array) -> jax.Array:
    """Activities of a layer, from those below with a root mean square of 1."""
    below = below / (jnp.sqrt(jnp.mean(below**2, axis=1, keepdims=True)) + 1e-6)
    return layer.apply(own, (), below, train=True)[0]


def goodness(h: jax.Array) -> jax.Array:
    """The mean squared activity of every example."""
    return jnp.mean(h**2, axis=1)
