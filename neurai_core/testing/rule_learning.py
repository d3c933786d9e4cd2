"""Checks of what comes of a rule in training: that it learns, and how many digits of its gradients are right."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from neurai_core.arrays import PyTree, tree_dot, tree_norm
from neurai_core.losses import accuracy, loss_function
from neurai_core.rule import model_state_of, objective, true_gradient
from neurai_core.testing.checking import Measured, check
from neurai_core.testing.rule_subject import (
    CLASSES,
    INPUTS,
    STEPS,
    RuleSubject,
    SmallProblem,
    as_dtype,
    compiled,
    compiled_estimate,
    estimated,
    first_state,
    leaf_gaps,
)

UPDATES, EXAMPLES, RATE = 300, 32, 0.01
CHANCE, MARGIN = 1 / CLASSES, 0.25
NOISE = 0.3
DEPTH, DIGITS = 20, 1e-3


@check(hint="Compare its gradients with back-propagation, layer by layer: neurai train --rule NAME --align.")
def learns(rule: RuleSubject) -> Measured:
    """A small network trained by the rule is right on new examples more often than chance, by at least 0.25.

    There are three classes. The examples of each lie around two opposite points, so that no linear classifier beats
    chance; for spiking networks, all channels fire most in one of three intervals. Adam makes 300 updates at a learning
    rate of 0.01, on 32 new examples each. The remark gives the mean cosine of the gradients with those of
    back-propagation. If the rule learns from inputs alone, its own loss on new examples falls instead, by plain SGD.
    """
    if rule.spec.unsupervised:
        return _fall_of_loss(rule)
    built, problem = rule.build(), rule.problem(hidden=(24,))
    draw = _timed if rule.spiking else _two_sided
    optimizer = optax.adam(RATE)
    truth = partial(true_gradient, objective(loss_function(rule.loss), None), problem.model)

    def update(carried: Any, key: jax.Array) -> tuple[Any, jax.Array]:
        params, state, momenta = carried
        batch = draw(key, EXAMPLES)
        exactly = truth(params, model_state_of(state), batch, key=key)[0].grads
        found, state = built.estimate(problem.model, params, state, batch, key=key)
        steps, momenta = optimizer.update(found.grads, momenta, params)
        return (optax.apply_updates(params, steps), state, momenta), _cosine(found.grads, exactly)

    @compiled
    def train_and_test(params: PyTree, state: PyTree, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        keys = jax.random.split(key, UPDATES + 1)
        (params, state, _), cosines = jax.lax.scan(update, (params, state, optimizer.init(params)), keys[1:])
        x, y = draw(keys[0], 512)
        return accuracy(built.predict(problem.model, params, x, state), y), jnp.mean(cosines)

    right, cosine = train_and_test(problem.params, first_state(built, problem), problem.key)
    return Measured(
        float(right),
        CHANCE + MARGIN,
        at_least=True,
        where="accuracy on new examples",
        remark=f"mean cosine with back-propagation {float(cosine):.2f}",
    )


@check(
    hint="Keep activities as their changes from the forward pass, and subtract before multiplying.",
    claim="precise",
)
def precision(rule: RuleSubject) -> Measured:
    """In a network of 20 layers, the gradients of every layer are the same in float32 as in float64.

    They may differ by 0.001 of their norm, in every leaf. A rule that subtracts nearly equal activities loses its
    digits in the lower layers.
    """
    with jax.enable_x64(True):
        exactly = _rounded(rule.problem(hidden=(8,) * (DEPTH - 1)), jnp.float64)
        theirs = estimated(rule.build(), exactly).grads
    ours = estimated(rule.build(), _rounded(exactly, jnp.float32)).grads
    found = leaf_gaps(ours, theirs)
    where = max(found, key=lambda path: found[path])
    return Measured(found[where], DIGITS, where=f"error of float32 in {where}")


CHECKS = (learns, precision)


def _fall_of_loss(rule: RuleSubject) -> Measured:
    """The fall of the rule's own loss on new examples, relative to its size before."""
    built, problem = rule.build(), rule.problem(hidden=(24,))
    draw = _timed if rule.spiking else _two_sided
    optimizer = optax.sgd(RATE)

    def update(carried: Any, key: jax.Array) -> tuple[Any, None]:
        params, state, momenta = carried
        found, state = built.estimate(problem.model, params, state, draw(key, EXAMPLES), key=key)
        steps, momenta = optimizer.update(found.grads, momenta, params)
        return (optax.apply_updates(params, steps), state, momenta), None

    keys = jax.random.split(problem.key, UPDATES + 1)
    state = first_state(built, problem)
    start = problem.params, state, optimizer.init(problem.params)
    (params, state, _), _ = compiled(partial(jax.lax.scan, update))(start, keys[1:])
    estimate, batch = compiled_estimate(built.estimate, problem.model), draw(keys[0], 512)
    before, after = (float(estimate(one, state, batch, key=keys[0])[0].loss) for one in (problem.params, params))
    fall = (before - after) / abs(before)
    return Measured(fall, 0.0, at_least=True, where=f"fall of the {rule.spec.own_loss} on new examples")


def _two_sided(key: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """Examples (count, INPUTS) around two opposite corners of a cube for each class, and labels."""
    label, side, noise = jax.random.split(key, 3)
    y = jax.random.randint(label, (count,), 0, CLASSES)
    corners = jnp.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1]])[:, :INPUTS]
    x = jax.random.rademacher(side, (count, 1), float) * corners[y]
    return x + NOISE * jax.random.normal(noise, x.shape), y


def _timed(key: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """Spikes (count, STEPS, INPUTS), most of them in one third of the time, whose number is the label."""
    label, spikes = jax.random.split(key)
    y = jax.random.randint(label, (count,), 0, CLASSES)
    now = jnp.arange(STEPS) * CLASSES // STEPS == y[:, None]
    rate = jnp.where(now, 0.8, 0.1)[..., None]
    return jax.random.bernoulli(spikes, rate, (count, STEPS, INPUTS)).astype(float), y


def _cosine(ours: PyTree, theirs: PyTree) -> jax.Array:
    return tree_dot(ours, theirs) / jnp.maximum(tree_norm(ours) * tree_norm(theirs), 1e-30)


def _rounded(problem: SmallProblem, dtype: Any) -> SmallProblem:
    """The problem with numbers that float32 can hold, as this dtype."""

    x, y = problem.batch
    params, x = as_dtype(as_dtype((problem.params, x), jnp.float32), dtype)
    return problem._replace(params=params, batch=(x, jax.device_put(np.asarray(y).astype(np.int32))))
