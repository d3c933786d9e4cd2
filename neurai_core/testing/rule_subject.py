"""A rule under test, and the small problems that it is tried on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from neurai_core.arrays import PyTree
from neurai_core.by_name import algorithm
from neurai_core.layered import Layer, Layered, avg_pool, conv, dense, flatten, linear_layer, residual
from neurai_core.losses import accuracy_function, loss_function
from neurai_core.models import mlp
from neurai_core.models.spiking import ALIF, Leaky, SpikingNetwork, Stage
from neurai_core.rule import (
    Estimate,
    Problem,
    Rule,
    initial_state,
    model_state_of,
    objective,
    problem_of,
    true_gradient,
)
from neurai_core.specs import AlgorithmSpec
from neurai_core.surrogates import custom
from neurai_core.testing.checking import Subject

BATCH, INPUTS, HIDDEN, CLASSES, STEPS = 8, 4, (6, 5), 3, 12
SAME = 1e-9  # relative distance of two float64 results that are computed in different ways
# Programs of checks run once or a few times: most of what they cost is the optimization of their machine code.
QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


class SmallProblem(NamedTuple):
    """A network, its parameters, a batch for it, a key, and the collections that its forward pass updates."""

    model: Any
    params: PyTree
    batch: tuple[jax.Array, jax.Array]
    key: jax.Array
    model_state: PyTree = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return self.batch[0].shape[1:]


class Reference(NamedTuple):
    """A rule, a problem, and its estimate there."""

    rule: Rule
    problem: SmallProblem
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

    def problem(
        self, *, hidden: tuple[int, ...] = HIDDEN, batch: int = BATCH, activation: str = "tanh"
    ) -> SmallProblem:
        """A small network that the rule can train: dense, or recurrent and spiking.

        Args:
            hidden: widths of the hidden layers.
            batch: number of examples.
            activation: of dense layers.
        """
        return self.made_trainable(small_problem(self.spiking, hidden, batch, activation))

    def made_trainable(self, plain: SmallProblem) -> SmallProblem:
        """A problem with the model and the parameters that the rule makes of it, and with noise on these."""
        model, params = extended(self.build(), plain)
        return plain._replace(model=model, params=jax.tree.map(jittered, params))

    @cached_property
    def reference(self) -> Reference:
        """The rule on its problem, in float64: what most checks compare with, computed once."""
        with jax.enable_x64(True):
            return self._reference()

    @property
    def second_loss(self) -> str:
        """Another loss, the squared error of numbers, unless the rule has its own."""
        return self.loss if self.spec.own_loss else "squared_error"

    @cached_property
    def second(self) -> Reference:
        """The rule for another loss, depth, activation and number of examples, in float64."""
        with jax.enable_x64(True):
            problem = self.problem(hidden=(7,), batch=1, activation="sigmoid")
            if not self.spec.own_loss:
                numbers = jax.device_put(np.random.default_rng(0).standard_normal((1, CLASSES)))
                problem = problem._replace(batch=(problem.batch[0], numbers))
            built = self.build(loss=self.second_loss)
            return Reference(built, problem, estimated(built, problem))

    @cached_property
    def everyday(self) -> Reference:
        """The rule on its problem, in float32, as users meet it."""
        return self._reference()

    @cached_property
    def traced(self) -> Estimate:
        """The estimate of a rule that relaxes, in float64, with the report of every step.

        Raises:
            SettingsError: the settings allow no report.
        """
        assert self.spec.relaxes is not None
        with jax.enable_x64(True):
            return estimated(self.build(**{self.spec.relaxes.trace: True}), self.reference.problem)

    def _reference(self) -> Reference:
        built, problem = self.build(), self.problem()
        return Reference(built, problem, estimated(built, problem))


def small_problem(
    spiking: bool, hidden: tuple[int, ...] = HIDDEN, batch: int = BATCH, activation: str = "tanh"
) -> SmallProblem:
    """A plain network with its initial parameters, and a batch for it; the same model for the same arguments."""
    return _drawn(*_network(spiking, hidden, activation), batch, jnp.result_type(float).name)


def problem_with_collections() -> SmallProblem:
    """A small network with batch statistics and dropout."""
    return _drawn(_WITH_COLLECTIONS, (INPUTS,), BATCH, jnp.result_type(float).name)


def problem_with_images() -> SmallProblem:
    """A small network of images, with a convolution, pooling, and a residual layer."""
    return _drawn(_OF_IMAGES, (4, 4, 1), BATCH, jnp.result_type(float).name)


def extended(rule: Any, plain: SmallProblem) -> tuple[Any, PyTree]:
    """The model and the parameters that a rule makes of those of a problem: the same ones, if it adds none."""
    if make := getattr(rule, "extended", None):
        made: tuple[Any, PyTree] = make(plain.model, plain.params, key=jax.random.key(4), input_shape=plain.shape)
        return made
    return plain.model, plain.params


@lru_cache(maxsize=32)
def _drawn(model: Any, shape: tuple[int, ...], batch: int, dtype: str) -> SmallProblem:
    params, model_state = compiled(partial(model.init, input_shape=shape))(jax.random.key(1))
    x = jax.device_put(np.random.default_rng(2).standard_normal((batch, *shape)).astype(dtype))
    y = jax.device_put(np.arange(batch) % CLASSES)
    return SmallProblem(model, params, (x, y), jax.random.key(3), model_state if jax.tree.leaves(model_state) else ())


@cache
def _network(spiking: bool, hidden: tuple[int, ...], activation: str) -> tuple[Any, tuple[int, ...]]:
    if not spiking:
        return mlp((INPUTS, *hidden, CLASSES), activation), (INPUTS,)
    neuron = ALIF(0.9, adaptation=0.3, synapse=0.7, detach_reset=False)
    stages = (Stage(dense(hidden[0]), neuron, recurrent=True), Stage(dense(CLASSES), Leaky(0.8, synapse=0.6)))
    return SpikingNetwork(stages, custom(primitive=jnp.arctan)), (STEPS, INPUTS)


def _unseen(key: jax.Array, shape: tuple[int, ...]) -> tuple[PyTree, PyTree]:
    return (), {"batches": jnp.zeros(()), "mean": jnp.zeros(shape)}


def _centered(
    params: PyTree, seen: PyTree, x: jax.Array, *, key: Any = None, train: bool = False
) -> tuple[jax.Array, PyTree]:
    """Around the mean of the batch in training, with dropout; around the running mean otherwise."""
    if not train:
        return x - seen["mean"], seen
    mean = jnp.mean(x, axis=0)
    kept = 1.0 if key is None else jax.random.bernoulli(key, 0.8, x.shape) / 0.8
    return (x - mean) * kept, {"batches": seen["batches"] + 1, "mean": 0.9 * seen["mean"] + 0.1 * mean}


_CENTERED = Layer(_unseen, _centered, name="batch statistics and dropout", stateful=True, stochastic=True)


def _kernel_and_offset(key: jax.Array, shape: tuple[int, ...]) -> tuple[PyTree, PyTree]:
    return {"kernel": jax.random.normal(key, (*shape, CLASSES)), "offset": jnp.zeros(CLASSES)}, ()


def _affine(params: PyTree, x: jax.Array) -> jax.Array:
    return x @ params["kernel"] + params["offset"]


_OTHERWISE_NAMED = linear_layer(_kernel_and_offset, _affine, "identity", "another library's dense")
_OF_IMAGES = Layered((
    conv(2, 3, activation="tanh"), avg_pool(2), flatten(), residual(dense(8, activation="tanh")), _OTHERWISE_NAMED
))  # fmt: skip
_WITH_COLLECTIONS = Layered((dense(HIDDEN[0], activation="tanh"), _CENTERED, dense(CLASSES)))


def estimated(
    rule: Rule, problem: SmallProblem, state: PyTree | None = None, *, key: jax.Array | None = None, jit: bool = True
) -> Estimate:
    """One estimate; of the state that the rule begins with, unless there is another."""
    estimate = compiled_estimate(rule.estimate, problem.model) if jit else partial(rule.estimate, problem.model)
    return estimated_by(estimate, rule, problem, state, key)[0]


def estimated_by(
    estimate: Callable[..., Any],
    rule: Rule,
    problem: SmallProblem,
    state: PyTree | None = None,
    key: jax.Array | None = None,
) -> tuple[Estimate, PyTree]:
    """What an estimate of a rule, compiled or not, returns for a problem."""
    state = first_state(rule, problem) if state is None else state
    found: tuple[Estimate, PyTree] = estimate(
        problem.params, state, problem.batch, key=problem.key if key is None else key
    )
    return found


@lru_cache(maxsize=16)
def compiled_estimate(estimate: Callable[..., Any], model: Any) -> Callable[..., Any]:
    """The compiled estimate of a rule for a model: ``(params, state, batch, *, key) -> (Estimate, state)``.

    The same function for the same rule and model, so that checks share its programs.
    """
    return compiled(partial(estimate, model))


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, compiled in half of the time: without the optimizations of machine code.

    >>> float(compiled(jnp.sum)(jnp.ones(3)))
    3.0
    """
    return jax.jit(function, compiler_options=QUICKLY)


def backpropagated(rule: RuleSubject, problem: SmallProblem, loss: str = "") -> Estimate:
    """What back-propagation estimates, for the loss that suits the rule unless there is another."""
    model_state = model_state_of(first_state(rule.build(), problem))
    truth = _compiled_truth(loss or rule.loss, problem.model)
    found: Estimate = truth(problem.params, model_state, problem.batch, key=problem.key)[0]
    return found


@lru_cache(maxsize=16)
def _compiled_truth(loss: str, model: Any) -> Callable[..., Any]:
    return compiled(partial(true_gradient, objective(loss_function(loss), accuracy_function("accuracy")), model))


def first_state(rule: Rule, problem: SmallProblem) -> PyTree:
    """The state that the rule begins with, told what it is trained on."""
    init = _compiled_init(rule, problem.model, problem_of(problem.batch, CLASSES))
    return init(problem.params, problem.model_state)


def traced_state(rule: Rule, problem: SmallProblem) -> PyTree:
    """`first_state` inside of a compiled function."""
    return _begin(rule, problem.model, problem_of(problem.batch, CLASSES), problem.params, problem.model_state)


@lru_cache(maxsize=16)
def _compiled_init(rule: Rule, model: Any, told: Problem) -> Callable[..., Any]:
    return compiled(partial(_begin, rule, model, told))


def _begin(rule: Rule, model: Any, told: Problem, params: PyTree, model_state: PyTree) -> PyTree:
    return initial_state(rule, model, params, key=jax.random.key(7), model_state=model_state, problem=told)


def with_rows(problem: SmallProblem, rows: Sequence[int] | np.ndarray) -> SmallProblem:
    """The problem with these rows of its batch, by number."""
    x, y = (jax.device_put(np.asarray(leaf)[np.array(rows, int)]) for leaf in problem.batch)
    return problem._replace(batch=(x, y))


def as_dtype(tree: PyTree, dtype: Any) -> PyTree:
    """Every float leaf in a dtype.

    >>> as_dtype([jnp.ones(2), jnp.arange(2)], jnp.bfloat16)[0].dtype.name
    'bfloat16'
    """

    def one(leaf: Any) -> Any:
        floating = jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
        return jax.device_put(np.asarray(leaf).astype(dtype)) if floating else leaf

    return jax.tree.map(one, tree)


def wide(tree: PyTree) -> PyTree:
    """The leaves as NumPy arrays of the highest precision, with which nothing is compiled.

    >>> wide([jnp.ones(2, jnp.bfloat16)])[0].dtype.name
    'float64'
    """

    def one(leaf: Any) -> np.ndarray:
        leaf = np.asarray(leaf)
        return leaf.astype(complex if np.iscomplexobj(leaf) else float)

    return jax.tree.map(one, tree)


def norm(tree: PyTree) -> float:
    """Euclidean norm over all entries of a tree.

    >>> norm([jnp.array([3.0]), jnp.array([4.0])])
    5.0
    """
    return float(np.sqrt(sum(np.sum(np.abs(leaf) ** 2) for leaf in jax.tree.leaves(wide(tree)))))


def distance(ours: PyTree, theirs: PyTree) -> float:
    """The largest distance of two leaves relative to the second tree's norm.

    >>> distance([jnp.ones(4)], [jnp.zeros(4)]), distance([jnp.ones(4)], [jnp.ones(4)])
    (inf, 0.0)
    >>> distance([jnp.ones(4), jnp.array([jnp.nan])], [jnp.ones(4), jnp.ones(1)])
    nan
    """
    pairs = zip(*map(jax.tree.leaves, (wide(ours), wide(theirs))), strict=True)
    gap = float(np.max([norm(a - b) for a, b in pairs], initial=0.0))
    size = norm(theirs)
    return gap / size if size else float("inf") if gap else 0.0


def leaf_gaps(ours: PyTree, theirs: PyTree) -> dict[str, float]:
    """The distance of every two leaves, relative to the second; a leaf of zeros has to be met exactly.

    >>> leaf_gaps({"w": jnp.ones(4), "b": jnp.zeros(1)}, {"w": 2 * jnp.ones(4), "b": jnp.zeros(1)})
    {"params['b']": 0.0, "params['w']": 0.5}
    """
    pairs = zip(jax.tree.leaves_with_path(wide(ours)), jax.tree.leaves(wide(theirs)), strict=True)
    return {f"params{jax.tree_util.keystr(path)}": norm(a - b) / (norm(b) or 1e-300) for (path, a), b in pairs}


def jittered(leaf: jax.Array) -> jax.Array:
    """The leaf with noise, so that no bias stays 0."""
    noise = 0.1 * np.random.default_rng(leaf.size).standard_normal(leaf.shape)
    return jax.device_put((np.asarray(leaf) + noise).astype(leaf.dtype))
