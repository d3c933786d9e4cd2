"""The check that a rule is local: what a layer learns does not depend on weights far from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from neurai_core.arrays import PyTree
from neurai_core.rule import Rule
from neurai_core.testing.checking import Measured, Skipped, check
from neurai_core.testing.rule_subject import (
    RuleSubject,
    SmallProblem,
    compiled,
    compiled_estimate,
    first_state,
    jittered,
    norm,
    small_problem,
    wide,
)

LAYERS = 8
WIDTH = 8
SPIKING_WIDTH = 24  # more neurons than steps of a sequence
EXAMPLES = 2
UNCHANGED = 1e-9


class _Far(NamedTuple):
    """A change of the parameters that no activity of the forward pass notices, and the leaves that are far from it.

    Attributes:
        params: the changed parameters.
        leaves: positions in the flat gradients of what may not change with them.
        where: in words.
    """

    params: PyTree
    leaves: tuple[int, ...]
    where: str


@check(hint="Send errors through weights that are near, or of the rule's own, or let them relax.", claim="local")
def local(rule: RuleSubject) -> Measured:
    """The gradients of a layer do not depend on weights farther away than its neighbors, except through activities.

    Weights are changed in directions in which no activity of the forward pass on a small batch changes. This leaves
    every signal that the network computes as it was, and changes what travels backward through the weights. The
    gradients of a layer may then depend on the layer above it and, in a rule that relaxes, on one more layer per step;
    it is given one step per phase, and with the default settings also as many as leave layers out of reach. In a
    spiking network the changed weights are the recurrent ones, and a neuron may not depend on the weights by which
    others pass on its spikes. Back-propagation does, so it is not local.
    """
    with jax.enable_x64(True):
        problem = rule.problem(hidden=_hidden(rule), batch=1 if rule.spiking else EXAMPLES)
        worst = max(_change_from_afar(rule, problem, *one) for one in _tried(rule, problem))
    return Measured(worst[0], UNCHANGED, where=f"change of the gradients {worst[1]}")


CHECKS = (local,)


def _change_from_afar(rule: RuleSubject, problem: SmallProblem, built: Rule, reach: int) -> tuple[float, str]:
    """The largest change of a gradient with weights that are farther away than the reach, and where it is."""
    state = first_state(built, problem)
    estimate = compiled_estimate(built.estimate, problem.model)

    def grads(params: PyTree) -> list[np.ndarray]:
        found, _ = estimate(params, state, problem.batch, key=problem.key)
        return jax.tree.leaves(wide(found.grads))

    before = grads(problem.params)
    worst = (0.0, "")
    for far in _silent_changes(rule, problem, reach):
        after = grads(far.params)
        worst = max(worst, (max(norm(after[k] - before[k]) for k in far.leaves) / norm(before), far.where))
    return worst


def _hidden(rule: RuleSubject) -> tuple[int, ...]:
    return (SPIKING_WIDTH,) if rule.spiking else (WIDTH,) * (LAYERS - 1)


def _tried(rule: RuleSubject, problem: SmallProblem) -> Iterator[tuple[Rule, int]]:
    """The rule with one step per phase, and by default also with more, and how far an influence may then reach."""
    relaxes, settings = rule.spec.relaxes, rule.documented_step()
    config = rule.spec.config(**settings)
    if relaxes is None or relaxes.steps in config.unused():
        yield rule.build(**settings), 1
        return
    phases = 1
    if relaxes.trace not in config.unused():
        built = rule.build(**settings | {relaxes.steps: 1, relaxes.trace: True})
        state = first_state(built, problem)
        estimate = partial(built.estimate, problem.model, problem.params, state, problem.batch, key=problem.key)
        phases = max(1, sum(map(bool, jax.eval_shape(estimate)[0].aux["trace"].values())))
    most = min(getattr(config, relaxes.steps), (LAYERS - 2) // phases)
    for steps in {1} if rule.settings else {1, max(1, most)}:
        yield rule.build(**settings | {relaxes.steps: steps}), steps * phases


def _silent_changes(rule: RuleSubject, problem: SmallProblem, reach: int) -> Iterator[_Far]:
    """Changes of one layer's weights each, with everything that is farther from it than the reach."""
    plain = small_problem(rule.spiking, _hidden(rule), len(problem.batch[0]))
    model, params = plain.model, jax.tree.map(jittered, plain.params)
    where = _positions(params, problem.params)
    if rule.spiking:
        spikes = compiled(replace(model, record=True))(params, problem.batch[0]).spikes[0]
        weights = params[0]["recurrent"]
        moved = _replaced(problem.params, where[0]["recurrent"], weights + _silent(spikes.reshape(-1, len(weights))))
        yield _Far(moved, tuple(jax.tree.leaves(where[0])), "of a recurrent stage with its recurrent weights")
        return
    x = problem.batch[0]
    for m, (layer, own) in enumerate(zip(model.layers, params, strict=True)):
        far = tuple(jax.tree.leaves(where[: max(0, m - reach)]))
        if far:
            moved = _replaced(problem.params, where[m]["w"], own["w"] + _silent(x, own["w"].shape[1]))
            yield _Far(moved, far, f"of layers 1 to {m - reach} with the weights of layer {m + 1}")
        x = layer.apply(own, (), x)[0]


def _silent(inputs: jax.Array, width: int | None = None) -> np.ndarray:
    """A change of weights that these inputs (B, D), with B < D, do not notice: (D, width)."""
    known = np.asarray(inputs)
    unseen = np.eye(known.shape[1]) - np.linalg.pinv(known) @ known
    return unseen @ np.random.default_rng(3).standard_normal((known.shape[1], width or known.shape[1]))


def _positions(plain: PyTree, whole: PyTree) -> PyTree:
    """For every leaf of the plain network's parameters, its position in the leaves of what the rule trains."""
    leaves = jax.tree.leaves(whole)

    def position(leaf: jax.Array) -> int:
        for k, other in enumerate(leaves):
            if other.shape == leaf.shape and np.array_equal(other, leaf):
                return k
        raise Skipped("the parameters that it trains do not contain those of the plain network")

    return jax.tree.map(position, plain)


def _replaced(tree: PyTree, position: int, leaf: jax.Array) -> PyTree:
    leaves = jax.tree.leaves(tree)
    return jax.tree.unflatten(jax.tree.structure(tree), [*leaves[:position], leaf, *leaves[position + 1 :]])
