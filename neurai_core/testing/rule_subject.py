"""A rule under test, and the small problems that it is tried on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from neurai_core.arrays import PyTree
from neurai_core.by_name import algorithm
from neurai_core.layered import dense
from neurai_core.losses import accuracy_function, loss_function
from neurai_core.models import mlp
from neurai_core.models.spiking import ALIF, Leaky, SpikingNetwork, Stage
from neurai_core.rule import Estimate, Rule, initial_state, model_state_of, objective, problem_of, true_gradient
from neurai_core.specs import AlgorithmSpec
from neurai_core.surrogates import custom
from neurai_core.testing.checking import Subject

BATCH, INPUTS, HIDDEN, CLASSES, STEPS = 8, 4, (6, 5), 3, 12


class Problem(NamedTuple):
    """A network, its parameters, a batch for it, and a key."""

    model: Any
    params: PyTree
    batch: tuple[jax.Array, jax.Array]
    key: jax.Array

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return self.batch[0].shape[1:]


class Reference(NamedTuple):
    """A rule, a problem, and its estimate there."""

    rule: Rule
    problem: Problem
    estimate: Estimate


@dataclass(frozen=True, eq=False)
class RuleSubject(Subject):
    """A rule with settings."""

    spec: AlgorithmSpec

    @property
    def spiking(self) -> bool:
        """Whether the rule trains spiking networks only."""
        return "spiking" in self.spec.claims

    @property
    def loss(self) -> str:
        """The loss that suits the rule."""
        return str(self.spec.defaults.get("loss", "cross_entropy"))

    def build(self, **more: Any) -> Rule:
        """The rule with its settings, and more of them; ``loss=`` for another loss."""
        return algorithm(self.name, **{"loss": self.loss, "accuracy": "accuracy", **self.settings, **more})

    def documented_step(self) -> dict[str, Any]:
        """Its settings with ``stable`` off, if it has that, so that no step is made smaller."""
        config = self.spec.config
        free = "stable" in config.model_fields and "stable" not in config(**self.settings).unused()
        return {**self.settings} | ({"stable": False} if free else {})

    def problem(self, dtype: Any = None, *, hidden: tuple[int, ...] = HIDDEN, batch: int = BATCH) -> Problem:
        """A small network that the rule can train: dense with tanh, or recurrent and spiking.

        Args:
            dtype: of parameters and inputs; JAX's default without one.
            hidden: widths of the hidden layers.
            batch: number of examples.
        """
        model, params, shape = self.network(hidden)
        keys = jax.random.split(jax.random.key(0), 5)
        if extended := getattr(self.build(), "extended", None):
            model, params = extended(model, params, key=keys[4], input_shape=shape)
        dtype = dtype or jnp.result_type(float)
        params = jax.tree.map(lambda leaf: jittered(leaf).astype(dtype), params)
        x = jax.random.normal(keys[2], (batch, *shape), dtype)
        return Problem(model, params, (x, jnp.arange(batch) % CLASSES), keys[3])

    @cached_property
    def reference(self) -> Reference:
        """The rule on its problem, in float64: what most checks compare with, computed once."""
        with jax.enable_x64(True):
            built, problem = self.build(), self.problem()
            return Reference(built, problem, estimated(built, problem))

    def network(self, hidden: tuple[int, ...] = HIDDEN) -> tuple[Any, PyTree, tuple[int, ...]]:
        """The plain network that a problem is made from: model, initial parameters, shape of one example."""
        shape: tuple[int, ...] = (INPUTS,)
        model: Any = mlp((INPUTS, *hidden, CLASSES), "tanh")
        if self.spiking:
            shape = (STEPS, INPUTS)
            neuron = ALIF(0.9, adaptation=0.3, synapse=0.7, detach_reset=False)
            stages = (Stage(dense(hidden[0]), neuron, recurrent=True), Stage(dense(CLASSES), Leaky(0.8, synapse=0.6)))
            model = SpikingNetwork(stages, custom(primitive=jnp.arctan))
        return model, model.init(jax.random.key(1), shape)[0], shape


def estimated(
    rule: Rule, problem: Problem, state: PyTree | None = None, *, key: jax.Array | None = None, jit: bool = True
) -> Estimate:
    """One estimate; of the state that the rule begins with, unless there is another."""
    state = first_state(rule, problem) if state is None else state
    estimate = partial(rule.estimate, problem.model)
    found, _ = (jax.jit(estimate) if jit else estimate)(
        problem.params, state, problem.batch, key=problem.key if key is None else key
    )
    return found


def backpropagated(rule: RuleSubject, problem: Problem, loss: str = "") -> Estimate:
    """What back-propagation estimates, for the loss that suits the rule unless there is another."""
    score = objective(loss_function(loss or rule.loss), accuracy_function("accuracy"))
    model_state = model_state_of(first_state(rule.build(), problem))
    found, _ = jax.jit(partial(true_gradient, score, problem.model))(
        problem.params, model_state, problem.batch, key=problem.key
    )
    return found


def first_state(rule: Rule, problem: Problem) -> PyTree:
    """The state that the rule begins with, told what it is trained on."""
    told = problem_of(problem.batch, CLASSES)
    return initial_state(rule, problem.model, problem.params, key=jax.random.key(7), problem=told)


def as_dtype(tree: PyTree, dtype: Any) -> PyTree:
    """Every float leaf in a dtype.

    >>> as_dtype([jnp.ones(2), jnp.arange(2)], jnp.bfloat16)[0].dtype.name
    'bfloat16'
    """

    def one(leaf: Any) -> Any:
        return jnp.asarray(leaf, dtype) if jnp.issubdtype(jnp.result_type(leaf), jnp.floating) else leaf

    return jax.tree.map(one, tree)


def distance(ours: PyTree, theirs: PyTree) -> float:
    """The largest distance of two leaves relative to the second tree's norm.

    >>> distance([jnp.ones(4)], [jnp.zeros(4)]), distance([jnp.ones(4)], [jnp.ones(4)])
    (inf, 0.0)
    """
    gaps = [jnp.linalg.norm((a - b).ravel()) for a, b in zip(*map(jax.tree.leaves, (ours, theirs)), strict=True)]
    size = jnp.sqrt(sum(jnp.sum(jnp.abs(leaf) ** 2) for leaf in jax.tree.leaves(theirs)))
    gap = max(map(float, gaps), default=0.0)
    return gap / float(size) if size else float("inf") if gap else 0.0


def jittered(leaf: jax.Array) -> jax.Array:
    """The leaf with noise, so that no bias stays 0."""
    return leaf + 0.1 * jax.random.normal(jax.random.key(leaf.size), leaf.shape, leaf.dtype)
