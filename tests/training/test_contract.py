"""The contract of a rule: every mistake is one error that names the rule, through training and by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

import neurai_core as neurai
from neurai_core.errors import DataError, ModelError, PluginError, SettingsError, UsageError
from neurai_core.grads import GradeBase
from neurai_core.losses import cross_entropy
from neurai_core.rule import (
    Estimate,
    Rule,
    State,
    feedforward_init,
    feedforward_predict,
    initial_state,
    model_state_of,
    objective,
)
from neurai_core.rule import true_gradient as gradient
from neurai_core.training.loop import train_task
from neurai_core.training.settings import choose
from neurai_core.training.step import begin, compiled
from neurai_core.training.task import Task, prepare

pytestmark = pytest.mark.contract


@dataclass(frozen=True)
class Mistake:
    """One mistake in one function of a rule, and words of the error."""

    role: str
    make: Callable[..., Any]
    said: str


def grads(change: Callable[[Any], Any]) -> Callable[..., Any]:
    return lambda found, state: (found._replace(grads=change(found.grads)), state)


def every(change: Callable[[Any], Any]) -> Callable[..., Any]:
    return grads(lambda tree: jax.tree.map(change, tree))


def fails(*_: Any, **__: Any) -> Any:
    raise RuntimeError("boom")


def leaves(*_: Any, **__: Any) -> Any:
    raise SystemExit(0)


def branches(found: Estimate, state: Any) -> Any:
    return (found, state) if found.loss > 0 else None


# What the function returns, given what a right one does.
MISTAKES = {
    "float16 gradients": Mistake(
        "estimate",
        every(lambda g: g.astype(jnp.float16)),
        "estimate returned grads = float16[8] at [0]['b'], expected float32[8] as in params",
    ),
    "int32 gradients": Mistake("estimate", every(lambda g: g.astype(jnp.int32)), "int32[8] at [0]['b']"),
    "gradients of another structure": Mistake("estimate", grads(list), "expected ({'b': float32[8]"),
    "gradients without a leaf": Mistake("estimate", grads(lambda g: ({"w": g[0]["w"]}, g[1])), "expected ({'b'"),
    "gradients of another shape": Mistake("estimate", every(lambda g: g.T[..., None]), "float32[8,1] at [0]['b']"),
    "gradients None": Mistake("estimate", grads(lambda g: None), "grads = None, expected ({"),
    "a gradient None": Mistake("estimate", grads(lambda g: (None, g[1])), "grads = (None, {"),
    "text for a gradient": Mistake("estimate", every(lambda g: "g"), "grads = "),
    "nothing": Mistake("estimate", lambda found, state: None, "estimate returned None, expected the pair"),
    "an estimate without a state": Mistake("estimate", lambda found, state: found, "an Estimate alone"),
    "three values": Mistake("estimate", lambda found, state: (found, state, 1), "a tuple of 3"),
    "a bare tuple": Mistake("estimate", lambda found, state: (tuple(found), state), "expected the pair (Estimate("),
    "a loss per example": Mistake(
        "estimate", lambda found, state: (found._replace(loss=jnp.ones(5)), state), "loss = float32[5]"
    ),
    "no loss": Mistake("estimate", lambda found, state: (found._replace(loss=None), state), "loss = None"),
    "a complex loss": Mistake(
        "estimate", lambda found, state: (found._replace(loss=found.loss + 0j), state), "loss = complex64[]"
    ),
    "a vector for the accuracy": Mistake(
        "estimate", lambda found, state: (found._replace(accuracy=jnp.ones(2)), state), "accuracy = float32[2]"
    ),
    "text in aux": Mistake(
        "estimate", lambda found, state: (found._replace(aux={"how": "well"}), state), "'well' in aux at ['how']"
    ),
    "no aux": Mistake(
        "estimate", lambda found, state: (found._replace(aux=None), state), "aux = None, expected a dict"
    ),
    "a function in aux": Mistake(
        "estimate", lambda found, state: (found._replace(aux={"f": len}), state), "builtin_function_or_method in aux"
    ),
    "a state that grows": Mistake(
        "estimate", lambda found, state: (found, (state, jnp.ones(3))), "turned the state ()"
    ),
    "text for a state": Mistake("estimate", lambda found, state: (found, "state"), "'state' as a state"),
    "an exception in estimate": Mistake("estimate", fails, "estimate failed with RuntimeError: boom, in "),
    "sys.exit in estimate": Mistake("estimate", leaves, "estimate failed with SystemExit: 0, in "),
    "Python's if on a traced value": Mistake("estimate", branches, "estimate failed with TracerBoolConversionError"),
    "an exception in predict": Mistake("predict", fails, "predict failed with RuntimeError: boom, in "),
    "predictions of another shape": Mistake(
        "predict",
        lambda outputs: outputs[:, :1],
        "predict returned float32[5,1], expected the outputs of the model, float32[5,10]",
    ),
    "labels for predictions": Mistake("predict", lambda outputs: outputs.argmax(-1), "predict returned int32[5]"),
    "no predictions": Mistake("predict", lambda outputs: None, "predict returned None"),
    "an exception in init": Mistake("init", fails, "init failed with RuntimeError: boom, in "),
    "text for the first state": Mistake("init", lambda state: "state", "'state' as a state"),
    "a first state that is no State": Mistake(
        "init", lambda state: jnp.ones(3), "expected one that holds the model_state"
    ),
}


def rule_with(role: str, make: Callable[..., Any]) -> Callable[..., Rule]:
    """A build function of a rule that is right but for one thing."""

    def build(config: Any, *, loss: Any, accuracy: Any = None, has_aux: bool = False, **context: Any) -> Rule:
        score = neurai.rule.objective(loss, accuracy, has_aux)

        def init(model: Any, params: Any, *, key: Any, model_state: Any = ()) -> Any:
            return make(model_state) if role == "init" else model_state

        def estimate(model: Any, params: Any, state: Any, batch: Any, *, key: Any = None) -> Any:
            assert not isinstance(batch[0], np.ndarray)
            found, state = gradient(score, model, params, state, batch, key=key)
            return make(found, state) if role == "estimate" else (found, state)

        def predict(model: Any, params: Any, x: Any, state: Any = ()) -> Any:
            outputs = feedforward_predict(model, params, x, state)
            return make(outputs) if role == "predict" else outputs

        return Rule(init, estimate, predict)

    return build


def plugin(build: Callable[..., Any]) -> neurai.Plugin:
    return neurai.Plugin(neurai.AlgorithmSpec(name="mine", summary="A rule with a mistake"), build)


def built(build: Callable[..., Any]) -> Rule:
    with neurai.temporary(plugin(build)):
        return neurai.algorithm("mine", loss="cross_entropy")


@pytest.fixture(scope="module")
def task() -> Task:
    return prepare(choose({"rule": "bp", "model": "mlp:8", "epochs": 1, "batch_size": 5}, environ={}))


def use(rule: Rule, task: Task) -> None:
    """Every function of a rule once, as in a notebook."""
    x, y = jnp.asarray(task.data.x_train[:5]), jnp.asarray(task.data.y_train[:5])
    state = rule.init(task.model, task.params, key=jax.random.key(0))
    jax.eval_shape(lambda p, batch: rule.estimate(task.model, p, state, batch), task.params, (x, y))
    rule.predict(task.model, task.params, x, state)


def assert_names_the_rule(error: PluginError, said: str) -> None:
    assert error.message.startswith("Rule 'mine' (in-process): ")
    assert said in error.message
    assert "docs/writing-a-rule.md" in error.hint
    assert error.distribution == "in-process"


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
class TestMistake:
    """One mistake, met in two ways."""

    def test_training_names_the_rule_before_it_computes(self, mistake: Mistake, task: Task) -> None:
        with pytest.raises(PluginError) as raised:
            begin(replace(task, rule=built(rule_with(mistake.role, mistake.make))))
        assert_names_the_rule(raised.value, mistake.said)

    def test_a_rule_by_name_names_itself(self, mistake: Mistake, task: Task) -> None:
        with pytest.raises(PluginError) as raised:
            use(built(rule_with(mistake.role, mistake.make)), task)
        assert_names_the_rule(raised.value, mistake.said)


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (42, "its build function returned 42, expected a Rule(init, estimate, predict)"),
        ((feedforward_init, feedforward_predict), "its build function returned a tuple of 2"),
        ((feedforward_init, len, feedforward_predict), "its build function returned a tuple of 3"),
        (Rule(feedforward_init, None, feedforward_predict), "its build function returned a Rule of 4"),  # type: ignore[arg-type]
        (Rule(lambda model, params, *, key: (), len, len), "init(model, params, *, key) got an unexpected keyword"),
        (Rule(feedforward_init, lambda model, params, batch: 0, len), "expected estimate(model, params, state, batch"),
        (Rule(feedforward_init, lambda *_, **__: 0, lambda model, params, x: x), "expected predict(model, params, x, "),
    ],
    ids=["42", "a pair", "a bare triple", "no estimate", "init without model_state", "no state", "predict without one"],
)
def test_what_is_no_rule_is_refused_when_it_is_built(result: Any, said: str) -> None:
    with pytest.raises(PluginError) as raised:
        built(lambda config, **context: result)
    assert_names_the_rule(raised.value, said)
    assert raised.value.step == "build"


def test_building_none_names_the_plugin() -> None:
    with pytest.raises(PluginError, match=r"Plugin mine@in-process failed at step 'build': neurai_build returned None"):
        built(lambda config, **context: None)


def test_an_exception_is_reported_with_file_and_line(task: Task) -> None:
    with pytest.raises(PluginError) as raised:
        use(built(rule_with("estimate", fails)), task)
    line = inspect.getsourcelines(fails)[1] + 1
    assert raised.value.message.endswith(f"RuntimeError: boom, in {__file__}, line {line}.")
    assert isinstance(raised.value.__cause__, RuntimeError)


@pytest.mark.parametrize("kind", [DataError, ModelError, SettingsError])
def test_an_error_about_the_users_input_comes_through(kind: type[Exception], task: Task) -> None:
    def refuses(*_: Any) -> Any:
        raise kind("not this")

    for role in ("init", "estimate", "predict"):
        with pytest.raises(kind, match="not this"):
            use(built(rule_with(role, refuses)), task)
        with pytest.raises(kind, match="not this"):
            begin(replace(task, rule=built(rule_with(role, refuses))))


@pytest.mark.parametrize("value", [np.zeros(2), 0.0, 3, np.float64(1), jnp.zeros(2, jnp.int8), [None, 1.0]])
def test_a_state_may_hold_what_becomes_an_array(value: Any, task: Task) -> None:
    build = rule_with("init", lambda state: State(state, value))

    def carry(config: Any, **context: Any) -> Rule:
        rule = build(config, **context)

        def estimate(model: Any, params: Any, state: Any, batch: Any, *, key: Any = None) -> Any:
            return rule.estimate(model, params, model_state_of(state), batch)[0], state

        return rule._replace(estimate=estimate)

    begin(replace(task, rule=built(carry)))


def test_the_class_api_names_the_rule() -> None:
    class Mine(GradeBase):
        algorithm = "mine"

    def model(params: Any, x: Any) -> Any:
        return x @ params["w"]

    given = model, {"w": jnp.ones((3, 2))}, (jnp.ones((4, 3)), jnp.zeros((4, 2)))
    halved, cut = every(lambda g: g.astype(jnp.float16)), lambda outputs: outputs[:1]
    with (
        neurai.temporary(plugin(rule_with("estimate", halved))),
        pytest.raises(PluginError, match=r"Rule 'mine' .* float16\[3,2\] at \['w'\]"),
    ):
        Mine("mse").get_grads(*given)
    with (
        neurai.temporary(plugin(rule_with("predict", cut))),
        pytest.raises(PluginError, match=r"Rule 'mine' .*predict returned"),
    ):
        Mine("mse").predict(*given)


class TestWhoseFault:
    """What the caller's model or loss does wrong is not the rule's."""

    batch = jnp.ones((4, 3)), jnp.zeros((4, 2))

    def test_inputs_that_do_not_fit_are_the_models(self) -> None:
        rule = neurai.algorithm("bp", loss="mse")
        with pytest.raises(ModelError, match="The model cannot take inputs"):
            rule.estimate(lambda p, x: x @ p, jnp.ones((5, 2)), (), self.batch)
        with pytest.raises(ModelError, match="The model cannot take inputs"):
            rule.predict(lambda p, x: x @ p, jnp.ones((5, 2)), self.batch[0])

    def test_a_loss_per_example_is_the_losss(self) -> None:
        rule = neurai.algorithm("bp", loss=lambda outputs, targets: ((outputs - targets) ** 2).sum(-1))
        with pytest.raises(ModelError, match=r"The loss returned float32\[4\]"):
            rule.estimate(lambda p, x: x @ p, jnp.ones((3, 2)), (), self.batch)

    @pytest.mark.parametrize("name", ["bp", "pc"])
    def test_parameters_without_a_gradient_are_the_models(self, name: str) -> None:
        model = neurai.models.mlp((3, 4, 2))
        params, _ = model.init(jax.random.key(0), (3,))
        params = ({**params[0], "b": jnp.zeros(4, int)}, *params[1:])
        with pytest.raises(ModelError, match=r"params\[0\]\['b'\] is int32\[4\], which has no gradient"):
            neurai.algorithm(name, loss="mse").estimate(model, params, (), self.batch)

    def test_a_call_with_the_wrong_arguments_is_the_callers(self) -> None:
        with pytest.raises(TypeError, match="missing 1 required positional argument"):
            neurai.algorithm("bp").estimate(len, (), ())


def test_rules_that_were_equal_stay_equal_and_static() -> None:
    constant = Rule(feedforward_init, lambda model, params, state, batch, *, key=None: 0, feedforward_predict)
    one, other = (built(lambda config, **context: constant) for _ in range(2))
    assert one == other and hash(one) == hash(other)
    assert one != built(rule_with("", fails))
    bp = neurai.algorithm("bp", loss="mse")
    step = jax.jit(lambda rule, p, batch: rule.estimate(lambda p, x: x @ p, p, (), batch)[0].loss, static_argnums=0)
    assert float(step(bp, jnp.ones((3, 2)), (jnp.ones((4, 3)), jnp.zeros((4, 2))))) == 9.0


@pytest.mark.parametrize("name", ["bp", "pc"])
def test_a_check_leaves_the_program_as_it_is(name: str, task: Task) -> None:
    rule = neurai.algorithm(name, loss="cross_entropy")
    plain = rule._replace(**{role: getattr(rule, role).__wrapped__ for role in ("init", "estimate", "predict")})
    assert not isinstance(plain.estimate, type(rule.estimate))
    x, y = jnp.asarray(task.data.x_train[:5]), jnp.asarray(task.data.y_train[:5])
    with neurai.unwatched():
        one, other = (
            str(jax.make_jaxpr(r.estimate, static_argnums=0)(task.model, task.params, (), (x, y)))
            for r in (rule, plain)
        )
    assert one == other


def test_training_traces_the_rule_once_more_than_it_compiles(task: Task) -> None:
    calls: list[Any] = []

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        return task.rule.estimate(*args, **kwargs)

    counting = replace(task, rule=task.rule._replace(estimate=counted))
    compiled(counting, begin(counting))
    assert len(calls) == 2
    assert all(isinstance(leaf, jax.core.Tracer) for call in calls for leaf in jax.tree.leaves(call[3]))


def test_a_rule_made_by_hand_is_checked_too(task: Task) -> None:
    rule = Rule(feedforward_init, lambda *_, **__: None, feedforward_predict)
    with pytest.raises(PluginError, match="The rule: estimate returned None"):
        train_task(replace(task, rule=rule))


# ---------------------------------------------------------------------------- what init is told, and keys


def asking(told: list[Any]) -> Callable[..., Rule]:
    """A rule whose ``init`` asks for the problem, and writes it down."""

    def build(config: Any = None, **context: Any) -> Rule:
        def init(model: Any, params: Any, *, key: Any, model_state: Any = (), problem: Any = None) -> State:
            told.append(problem)
            return State(model_state, jnp.zeros(problem.classes or 0))

        def estimate(model: Any, params: Any, state: Any, batch: Any, *, key: Any = None) -> Any:
            score = objective(context["loss"], context.get("accuracy"))
            return gradient(score, model, params, (), batch, key=key)[0], state

        return Rule(init, estimate, feedforward_predict)

    return build


def shapes(problem: Any) -> Any:
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype.name), problem.batch), problem.classes


def test_init_learns_in_training_what_it_will_be_trained_on(task: Task) -> None:
    told: list[Any] = []
    for rule in (built(asking(told)), asking(told)(loss=cross_entropy)):  # by name, and made by hand
        begin(replace(task, rule=rule))
    expected = (((task.batch_size, 64), "float32"), ((task.batch_size,), "int32")), 10
    assert [shapes(one) for one in told] == 4 * [expected]  # checked, then called


def test_wrappers_tell_init_of_the_batches_that_reach_it(task: Task) -> None:
    told: list[Any] = []
    rule = asking(told)(loss=cross_entropy)
    for wrapped in (
        neurai.accumulate(rule, task.batch_size),
        neurai.per_example(rule),
        neurai.with_alignment(rule, "mse"),
    ):
        initial_state(wrapped, task.model, task.params, key=None, problem=task.problem)
    assert [one.batch[0].shape[0] for one in told] == [1, 1, task.batch_size]
    plain = neurai.algorithm("bp")
    assert neurai.per_example(plain).init == plain.init


@pytest.mark.parametrize(
    ("targets", "classes"),
    [(np.arange(4) % 2, 2), (jnp.zeros((4, 2)), 0), (np.zeros((4, 1), int), 0)],
    ids=["labels", "numbers", "other integers"],
)
def test_the_class_api_tells_init_what_the_batch_says(targets: Any, classes: int) -> None:
    class Mine(GradeBase):
        algorithm = "mine"

    told: list[Any] = []
    with neurai.temporary(plugin(asking(told))):
        model = lambda params, x: x @ params  # noqa: E731
        loss = lambda outputs, y: ((outputs - jnp.sum(y)) ** 2).mean()  # noqa: E731
        Mine(loss).get_grads(model, jnp.ones((3, 2)), (jnp.ones((4, 3)), targets))
    assert {one.batch[0].shape for one in told} == {(4, 3)} and {one.classes for one in told} == {classes or None}


def test_a_rule_by_name_that_does_not_ask_may_be_told_all_the_same(task: Task) -> None:
    rule = neurai.algorithm("bp")
    assert rule.init(task.model, task.params, key=None, problem=task.problem) == ()


def drawing(role: str) -> Callable[..., Rule]:
    """A rule that draws from its key, which may be None."""

    def build(config: Any, **context: Any) -> Rule:
        rule = neurai.algorithm("bp", loss="cross_entropy")

        def init(model: Any, params: Any, *, key: Any, model_state: Any = ()) -> State:
            return State(model_state, jax.random.normal(key))

        def estimate(model: Any, params: Any, state: Any, batch: Any, *, key: Any = None) -> Any:
            found, _ = rule.estimate(model, params, model_state_of(state), batch, key=key)
            return found._replace(aux={"draw": jax.random.normal(key)} if role == "estimate" else {}), state

        return Rule(init if role == "init" else feedforward_init, estimate, feedforward_predict)

    return build


@pytest.mark.parametrize("given", [{}, {"key": None}], ids=["none given", "None given"])
@pytest.mark.parametrize("role", ["init", "estimate"])
def test_a_rule_that_needs_a_key_and_gets_none_says_so(role: str, given: dict[str, Any], task: Task) -> None:
    rule = built(drawing(role))
    x, y = jnp.asarray(task.data.x_train[:5]), jnp.asarray(task.data.y_train[:5])
    calls = {"init": (task.model, task.params), "estimate": (task.model, task.params, (), (x, y))}
    with pytest.raises(UsageError, match=rf"Rule 'mine'.*: {role} needs a key, and none was given") as raised:
        getattr(rule, role)(*calls[role], **given)
    assert "key=jax.random.key(0)" in raised.value.hint
    getattr(rule, role)(*calls[role], key=jax.random.key(1))
    begin(replace(task, rule=rule))  # training always gives one


def test_a_missing_key_is_found_by_the_same_path_as_the_call(task: Task) -> None:
    """Inside shard_map, rules run without the types of manual axes, with which this scan would fail."""

    def build(config: Any, **context: Any) -> Rule:
        def estimate(model: Any, params: Any, state: Any, batch: Any, *, key: Any = None) -> Any:
            total, _ = jax.lax.scan(lambda total, row: (total + row.sum(), None), 0.0, batch[0])
            noise = jax.random.normal(key)
            return Estimate(params, total + noise, noise, {}), state

        return Rule(feedforward_init, estimate, feedforward_predict)

    rows, mesh = PartitionSpec("data"), jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,))

    @partial(jax.shard_map, mesh=mesh, in_specs=rows, out_specs=PartitionSpec())
    def spread(x: Any) -> Any:
        return jax.lax.pmean(built(build).estimate(task.model, task.params, (), (x, x))[0].loss, "data")

    with pytest.raises(UsageError, match="estimate needs a key, and none was given"):
        spread(jnp.asarray(task.data.x_train[:4]))


def test_a_rule_that_fails_with_a_key_too_is_not_asked_for_one(task: Task) -> None:
    with pytest.raises(PluginError, match="init failed with RuntimeError: boom"):
        built(rule_with("init", fails)).init(task.model, task.params, key=None)


# ---------------------------------------------------------------------------- parameters beside the model's


class Extending(NamedTuple):
    """A rule with a scale of its own."""

    init: Any
    estimate: Any
    predict: Any
    extended: Any
    origin: Any = None


@dataclass(frozen=True)
class Scaled:
    """The plain model, told where its parameters are."""

    plain: Any

    def __call__(self, params: Any, x: Any) -> Any:
        return self.plain(params["plain"], x)


@dataclass(frozen=True)
class Cut(Scaled):
    def __call__(self, params: Any, x: Any) -> Any:
        return super().__call__(params, x)[:, :1]


class Unhashable(Scaled):
    __hash__ = None  # type: ignore[assignment]


def extending(make: Callable[..., Any]) -> Callable[..., Any]:
    def build(config: Any, *, loss: Any, accuracy: Any = None, **context: Any) -> Extending:
        score = objective(loss, accuracy)

        def extended(model: Any, params: Any, *, key: Any, input_shape: Any) -> Any:
            return make(model, {"plain": params, "scale": jax.random.normal(key)})

        def estimate(model: Any, params: Any, state: Any, batch: Any, *, key: Any = None) -> Any:
            return gradient(score, model, params, state, batch, key=key)

        return Extending(feedforward_init, estimate, feedforward_predict, extended)

    return build


EXTENSIONS = {
    "nothing": (lambda model, params: None, "extended returned None, expected the pair (model, params)"),
    "a model alone": (lambda model, params: Scaled(model), "an object of type Scaled, expected the pair"),
    "the pair turned": (
        lambda model, params: (params, Scaled(model)),
        "extended returned (an object of type dict, ...), expected the pair",
    ),
    "no model": (lambda model, params: (None, params), "extended returned (None, ...), expected the pair"),
    "text in params": (lambda model, params: (Scaled(model), params | {"how": "well"}), "'well' in params at ['how']"),
    "no parameters": (lambda model, params: (Scaled(model), {}), "extended returned no parameters"),
    "another model each time": (
        lambda model, params: (lambda params, x: model(params["plain"], x), params),
        "a model of type function that is not equal to the same model made again",
    ),
    "a model without a hash": (lambda model, params: (Unhashable(model), params), "of type Unhashable that is not"),
    "other outputs": (
        lambda model, params: (Cut(model), params),
        "a model that gives float32[1,1], expected",
    ),
    "the plain model": (lambda model, params: (model, params), "the model that extended returned fails on its params"),
    "an exception": (lambda model, params: fails(), "extended failed with RuntimeError: boom, in "),
}


@pytest.mark.parametrize(("make", "said"), EXTENSIONS.values(), ids=EXTENSIONS)
def test_a_mistake_in_extended_names_the_rule(make: Callable[..., Any], said: str, task: Task) -> None:
    with pytest.raises(PluginError) as raised:
        built(extending(make)).extended(task.model, task.params, key=jax.random.key(0), input_shape=(64,))
    assert_names_the_rule(raised.value, said)


def test_training_uses_what_extended_returns() -> None:
    with neurai.temporary(plugin(extending(lambda model, params: (Scaled(model), params)))):
        extended = prepare(choose({"rule": "mine", "model": "mlp:8", "epochs": 1}, environ={}))
    assert set(begin(extended).params) == {"plain", "scale"} and isinstance(extended.model, Scaled)


def test_extended_is_called_as_documented_and_is_a_field(task: Task) -> None:
    rule = extending(lambda model, params: (Scaled(model), params))(None, loss=cross_entropy)
    with pytest.raises(PluginError, match="expected extended"):
        built(lambda config, **context: rule._replace(extended=lambda model, params: (model, params)))

    class Method(Rule):
        def extended(self, *args: Any, **given: Any) -> Any: ...

    with pytest.raises(PluginError, match="extended is not a field"):
        built(lambda config, **context: Method(*rule[:3]))
    with pytest.raises(UsageError, match="extended needs a key, and none was given"):
        built(lambda config, **context: rule).extended(task.model, task.params, key=None, input_shape=(64,))


# ---------------------------------------------------------------------------- a prediction of the rule's own


def test_the_class_api_evaluates_what_the_rule_predicts_with_its_state() -> None:
    def build(config: Any, *, loss: Any, accuracy: Any = None, **context: Any) -> Rule:
        rule = neurai.algorithm("bp", loss="mse")

        def init(model: Any, params: Any, *, key: Any, model_state: Any = ()) -> State:
            return State(model_state, jnp.asarray(3.0))

        def predict(model: Any, params: Any, x: Any, state: Any = ()) -> Any:
            return state.own * model(params, x)

        return Rule(init, rule.estimate, predict)

    class Mine(GradeBase):
        algorithm = "mine"

    with neurai.temporary(plugin(build)):
        loss, _ = Mine("mse").predict(
            lambda params, x: x @ params, jnp.ones((1, 1)), (jnp.ones((4, 1)), jnp.zeros((4, 1)))
        )
    assert float(loss) == 9.0
