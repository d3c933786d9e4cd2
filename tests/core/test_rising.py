"""A relaxation that goes uphill is warned of, once a line, wherever its rule is called; others are silent and fast."""

from __future__ import annotations

import inspect
import math
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import neurai_core as neurai
from neurai_core.errors import RisingEnergy
from neurai_core.grads import EP, PC, BiPC, GradeBase
from neurai_core.rising import watched
from neurai_core.rule import Estimate, Rule, feedforward_init, feedforward_predict, objective, true_gradient

pytestmark = pytest.mark.usefixtures("quick_compile")
MODEL = neurai.models.mlp((4, 8, 3), "tanh")
PARAMS = jax.tree.map(lambda leaf: 3 * leaf, MODEL.init(jax.random.key(0), (4,))[0])
BATCH = jax.random.normal(jax.random.key(1), (6, 4)), jnp.arange(6) % 3
UPHILL = {"eta": 3.0, "n": 4, "stable": False}
DOWNHILL = {"eta": 0.01, "n": 4, "stable": True}
STEPS = 4


def rule_of(rising: bool) -> Rule:
    return neurai.algorithm("pc", loss="cross_entropy", **(UPHILL if rising else DOWNHILL))


def grads_of(rule: Rule, params: Any, batch: Any = BATCH) -> Any:
    return rule.estimate(MODEL, params, (), batch)[0].grads


def moved(params: Any, grads: Any) -> Any:
    """Parameters after a step too small to change how the energy goes."""
    return jax.tree.map(lambda p, g: p - 1e-9 * jnp.nan_to_num(g), params, grads)


def eagerly(rule: Rule) -> Any:
    for _ in range(STEPS):
        grads_of(rule, PARAMS)


def compiled(rule: Rule) -> Any:
    estimate, params = jax.jit(rule.estimate, static_argnums=0), PARAMS
    for _ in range(STEPS):
        params = moved(params, estimate(MODEL, params, (), BATCH)[0].grads)
    return params


def in_a_step_that_donates(rule: Rule) -> Any:
    optimizer = optax.adam(1e-9)

    def step(params: Any, state: Any) -> Any:
        updates, state = optimizer.update(grads_of(rule, params), state)
        return optax.apply_updates(params, updates), state

    step, carry = jax.jit(step, donate_argnums=(0, 1)), (jax.tree.map(jnp.array, PARAMS), optimizer.init(PARAMS))
    for _ in range(STEPS):
        carry = step(*carry)
    return carry


def in_a_scan(rule: Rule) -> Any:
    return jax.jit(lambda p: jax.lax.scan(lambda p, _: (moved(p, grads_of(rule, p)), None), p, length=STEPS)[0])(PARAMS)


def in_a_while_loop(rule: Rule) -> Any:
    def again(carry: Any) -> Any:
        return carry[0] + 1, moved(carry[1], grads_of(rule, carry[1]))

    return jax.jit(lambda p: jax.lax.while_loop(lambda carry: carry[0] < STEPS, again, (0, p)))(PARAMS)


def mapped(rule: Rule) -> Any:
    return jax.jit(jax.vmap(lambda x: grads_of(rule, PARAMS, (x, BATCH[1]))))(jnp.stack(STEPS * [BATCH[0]]))


def mapped_eagerly(rule: Rule) -> Any:
    return jax.vmap(lambda x: grads_of(rule, PARAMS, (x, BATCH[1])))(jnp.stack(STEPS * [BATCH[0]]))


def loss_after_a_step(rule: Rule) -> Callable[[Any], Any]:
    return lambda params: rule.estimate(MODEL, moved(params, grads_of(rule, params)), (), BATCH)[0].loss


def differentiated(rule: Rule) -> Any:
    return jax.jit(jax.grad(loss_after_a_step(rule)))(PARAMS)


def differentiated_eagerly(rule: Rule) -> Any:
    return jax.grad(loss_after_a_step(rule))(PARAMS)


def differentiated_forward(rule: Rule) -> Any:
    return jax.jit(lambda p: jax.jvp(loss_after_a_step(rule), (p,), (p,)))(PARAMS)


def differentiated_with_recomputation(rule: Rule) -> Any:
    return jax.jit(jax.grad(jax.checkpoint(loss_after_a_step(rule))))(PARAMS)


def compiled_ahead(rule: Rule) -> Any:
    return jax.jit(rule.estimate, static_argnums=0).lower(MODEL, PARAMS, (), BATCH).compile()(PARAMS, (), BATCH)


def for_the_loss_alone(rule: Rule) -> Any:
    return jax.jit(lambda p: rule.estimate(MODEL, p, (), BATCH)[0].loss)(PARAMS)


def for_the_energy_alone(rule: Rule) -> Any:
    return jax.jit(lambda p: rule.estimate(MODEL, p, (), BATCH)[0].aux["energy_change"])(PARAMS)


def for_one_weight_alone(rule: Rule) -> Any:
    return jax.jit(lambda p: grads_of(rule, p)[1]["w"][0, 0])(PARAMS)


def accumulated(rule: Rule) -> Any:
    return jax.jit(lambda p: grads_of(neurai.accumulate(rule, 2), p))(PARAMS)


def per_example(rule: Rule) -> Any:
    return grads_of(neurai.per_example(rule), PARAMS)


def beside_the_true_gradient(rule: Rule) -> Any:
    return grads_of(neurai.with_alignment(rule, "cross_entropy"), PARAMS)


WAYS = [
    eagerly,
    compiled,
    in_a_step_that_donates,
    in_a_scan,
    in_a_while_loop,
    mapped,
    mapped_eagerly,
    differentiated,
    differentiated_eagerly,
    differentiated_forward,
    differentiated_with_recomputation,
    compiled_ahead,
    for_the_loss_alone,
    for_the_energy_alone,
    for_one_weight_alone,
    accumulated,
    per_example,
    beside_the_true_gradient,
]


def caught(act: Callable[[], Any], action: str = "default") -> list[warnings.WarningMessage]:
    """The warnings of an energy that rises which come until the result of an act is ready."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter(action)  # type: ignore[arg-type]
        jax.block_until_ready(act())
    return [one for one in seen if one.category is RisingEnergy]


@pytest.mark.few(2)
@pytest.mark.parametrize("way", WAYS)
def test_a_rule_by_name_warns_once_however_many_steps_rise(way: Callable[[Rule], Any]) -> None:
    seen = {(one.filename, one.lineno): one for one in caught(lambda: way(rule_of(rising=True)))}
    assert 1 <= len(seen) <= 2  # two lines of `loss_after_a_step` ask for an estimate
    for one in seen.values():
        assert one.filename == __file__ and not one.message.change <= 0


@pytest.mark.few(1)
@pytest.mark.parametrize("way", [eagerly, compiled, in_a_scan, mapped, differentiated, per_example])
def test_a_rule_by_name_is_silent_where_no_step_rises(way: Callable[[Rule], Any]) -> None:
    assert caught(lambda: way(rule_of(rising=False)), "always") == []


@pytest.mark.parametrize("way", [eagerly, compiled, in_a_scan, mapped])
def test_nothing_is_said_inside_unwatched(way: Callable[[Rule], Any]) -> None:
    def act() -> Any:
        with neurai.unwatched():
            return way(rule_of(rising=True))

    assert caught(act, "always") == []


CLASSES: dict[str, Callable[[bool], GradeBase]] = {
    "pc": lambda rising: PC("cross_entropy", **(UPHILL if rising else DOWNHILL)),
    "bipc": lambda rising: BiPC("mse", "mse", **(UPHILL if rising else DOWNHILL)),
    "ep": lambda rising: EP("cross_entropy", dt=1.5 if rising else 0.1, n_relax=4, mode="symmetric", stable=not rising),
}


def class_problem(method: GradeBase) -> tuple[Any, Any, Any]:
    if isinstance(method, BiPC):
        return MODEL, method.init(MODEL, jax.random.key(0), (4,), params=PARAMS), (BATCH[0], jnp.eye(3)[BATCH[1]])
    return MODEL, PARAMS, BATCH


@pytest.mark.few(2)
@pytest.mark.parametrize(("rising", "times"), [(True, 1), (False, 0)])
@pytest.mark.parametrize("name", CLASSES)
def test_the_class_api_warns_once_and_names_the_line_that_asked(name: str, rising: bool, times: int) -> None:
    def loop() -> Any:
        return [CLASSES[name](rising).get_grads(*class_problem(CLASSES[name](rising)))[1] for _ in range(STEPS)]

    seen = caught(loop)
    assert len(seen) == times
    assert all(one.filename == __file__ for one in seen)
    assert all(one.lineno == inspect.getsourcelines(loop)[1] + 1 for one in seen)


@pytest.mark.parametrize("name", CLASSES)
def test_the_class_api_warns_from_inside_jit(name: str) -> None:
    method = CLASSES[name](True)
    model, params, batch = class_problem(method)
    assert len(caught(lambda: jax.jit(lambda p: method.get_grads(model, p, batch)[0])(params))) == 1


class Constant(neurai.Config):
    """Settings of a rule of somebody else's."""

    change: str


def build(config: Any, *, loss: Any, accuracy: Any = None, has_aux: bool = False, **context: Any) -> Rule:
    score = objective(loss, accuracy, has_aux)

    def estimate(model: Any, params: Any, state: Any, batch: Any, *, key: Any = None) -> Any:
        found, state = true_gradient(score, model, params, state, batch, key=key)
        return found._replace(aux={"energy_change": float(config.change) + 0 * found.loss}), state

    return Rule(feedforward_init, estimate, feedforward_predict)


@pytest.fixture
def somebody_elses() -> Iterator[Callable[[float], Rule]]:
    spec = neurai.AlgorithmSpec(name="somebody-elses", summary="Reports.", config=Constant, needs="callable")
    with neurai.temporary(neurai.Plugin(spec, build)):
        yield lambda change: neurai.algorithm("somebody-elses", loss="cross_entropy", change=str(change))


@pytest.mark.parametrize("way", [eagerly, compiled])
@pytest.mark.parametrize(("change", "times"), [(-1.0, 0), (0.0, 0), (1e-3, 1), (math.inf, 1), (math.nan, 1)])
def test_the_field_counts_and_not_the_rule(
    somebody_elses: Callable[[float], Rule], way: Callable[[Rule], Any], change: float, times: int
) -> None:
    seen = caught(lambda: way(somebody_elses(change)))
    np.testing.assert_allclose([one.message.change for one in seen], times * [change], rtol=1e-6)


@pytest.mark.parametrize("change", [math.nan, math.inf])
def test_numbers_that_are_not_finite_have_a_text_of_their_own(
    somebody_elses: Callable[[float], Rule], change: float
) -> None:
    (one,) = caught(lambda: eagerly(somebody_elses(change)))
    assert "not finite" in str(one.message) and "inputs, targets or parameters hold NaN" in str(one.message)


def test_double_precision_inside_a_program_is_warned_of_as_well(x64: None) -> None:
    """Also where it is switched on for one thread alone."""
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), PARAMS)
    assert len(caught(lambda: jax.jit(lambda p: grads_of(rule_of(rising=True), p))(params))) == 1


@pytest.mark.parametrize("change", [None, 1, True, np.ones(2), 1j])
def test_what_is_not_one_real_number_is_let_be(change: Any) -> None:
    found = Estimate((), 1.0, -1.0, {"energy_change": change})
    assert caught(lambda: watched(found) and None, "always") == []


def test_an_eager_warning_turned_into_an_error_is_raised_by_the_call() -> None:
    with warnings.catch_warnings(), pytest.raises(RisingEnergy, match="The energy rises while relaxing"):
        warnings.simplefilter("error")
        eagerly(rule_of(rising=True))


def test_a_warning_turned_into_an_error_stops_a_compiled_program(caplog: pytest.LogCaptureFixture) -> None:
    with warnings.catch_warnings(), pytest.raises(jax.errors.JaxRuntimeError, match="The energy rises while relaxing"):
        warnings.simplefilter("error")
        jax.block_until_ready(compiled(rule_of(rising=True)))


def test_looking_at_shapes_warns_of_nothing() -> None:
    rule = rule_of(rising=True)
    assert caught(lambda: jax.eval_shape(lambda p: rule.estimate(MODEL, p, (), BATCH), PARAMS) and None) == []


@pytest.mark.usefixtures("optimized")
def test_watching_changes_no_number_to_the_bit(x64: None) -> None:
    """Signs of zero, NaN and infinities included."""
    numbers = jnp.array([0.0, -0.0, 1e-300, -jnp.inf, jnp.nan, 0.1])
    grads = {"w": numbers, "half": numbers.astype(jnp.bfloat16), "i": jnp.arange(3), "c": numbers + 1j}
    found = Estimate(grads, numbers[5], jnp.asarray(-1.0), {"energy_change": jnp.asarray(-1.0)})
    again = jax.jit(watched)(found)
    for got, expected in zip(jax.tree.leaves(again), jax.tree.leaves(found), strict=True):
        assert got.dtype == expected.dtype and np.asarray(got).tobytes() == np.asarray(expected).tobytes()


def test_a_program_that_is_watched_has_no_effect_and_so_keeps_the_fast_dispatch_of_jax() -> None:
    rule = rule_of(rising=False)
    jaxpr = jax.make_jaxpr(lambda p: rule.estimate(MODEL, p, (), BATCH))(PARAMS)
    assert "pure_callback" in str(jaxpr) and not jaxpr.effects
    with neurai.unwatched():
        assert "callback" not in str(jax.make_jaxpr(lambda p: rule.estimate(MODEL, p, (), BATCH))(PARAMS))


def test_a_rule_without_an_energy_is_compiled_without_a_callback() -> None:
    rule = neurai.algorithm("bp", loss="cross_entropy")
    assert "callback" not in str(jax.make_jaxpr(lambda p: rule.estimate(MODEL, p, (), BATCH))(PARAMS))


def test_a_program_of_unwatched_estimates_can_be_exported() -> None:
    step = jax.jit(lambda p: grads_of(rule_of(rising=True), p))
    with neurai.unwatched():
        exported = jax.export.export(step)(PARAMS)
    assert caught(lambda: exported.call(PARAMS), "always") == []


def test_inside_shard_map_nothing_is_watched() -> None:
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("data")

    def change(given: jax.Array) -> jax.Array:
        return watched(Estimate((), 1.0, -1.0, {"energy_change": given[0]})).aux["energy_change"][None]

    program = jax.jit(jax.shard_map(change, mesh=mesh, in_specs=spec, out_specs=spec))
    assert caught(lambda: program(jnp.ones(1)), "always") == []


@pytest.mark.usefixtures("optimized")
def test_a_rise_within_rounding_is_none() -> None:
    """An optimum that is reached leaves changes of either sign in the last digits."""
    params, optimizer = PARAMS, optax.adam(3e-2)
    rule = neurai.algorithm("pc", loss="cross_entropy", loss_scale="per_sample")

    def step(carry: Any, _: Any) -> Any:
        found = rule.estimate(MODEL, carry[0], (), BATCH)[0]
        updates, state = optimizer.update(found.grads, carry[1])
        return (optax.apply_updates(carry[0], updates), state), found.aux["energy_change"]

    train = jax.jit(lambda carry: jax.lax.scan(step, carry, length=2500)[1])
    changes: list[Any] = []
    assert caught(lambda: changes.append(train((params, optimizer.init(params)))), "always") == []
    assert (changes[0] > 0).any()


SHARDED = """
import warnings
import jax, jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
import neurai_core as neurai

model = neurai.models.mlp((4, 8, 3), "tanh")
params, _ = model.init(jax.random.key(0), (4,))
batch = jax.random.normal(jax.random.key(1), (8, 4)), jnp.arange(8) % 3
rule = neurai.algorithm("pc", loss="cross_entropy", eta=3.0, n=5, stable=False)
grads_of = lambda params, batch: rule.estimate(model, params, (), batch)[0].grads
mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
placed = jax.device_put(batch, NamedSharding(mesh, P("data")))
copied = jax.device_put(params, NamedSharding(mesh, P()))
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    jax.block_until_ready(jax.jit(grads_of)(copied, placed))
print([one.category.__name__ for one in seen])
"""


@pytest.mark.slow
def test_programs_over_several_devices_warn_once() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SHARDED],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "['RisingEnergy']\n"
