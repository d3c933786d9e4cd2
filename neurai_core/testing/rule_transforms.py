"""Checks that a rule is a pure function of arrays: jitted, mapped, scanned, differentiated, spread over devices."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from neurai_core.arrays import PyTree
from neurai_core.by_name import algorithm
from neurai_core.explain import takes_float
from neurai_core.programs import primitives_of
from neurai_core.rule import Estimate, Rule
from neurai_core.testing.checking import Broken, Measured, Skipped, check
from neurai_core.testing.rule_subject import (
    BATCH,
    RuleSubject,
    SmallProblem,
    as_dtype,
    compiled,
    compiled_estimate,
    distance,
    estimated,
    first_state,
    traced_state,
    wide,
    with_rows,
)

ROUNDING = 1e-9  # in float64, where programs may add in other orders
DRAWN = 1e-6  # of numbers drawn in 32 bits
_PURE = "Write init and estimate as pure functions of their arguments, with jax.lax instead of Python control flow."


@check(hint=_PURE)
def jit(rule: RuleSubject) -> Measured:
    """The compiled estimate equals the uncompiled one, in float64.

    A rule that claims to be stochastic or unbiased may draw in 32 bits, so that it has to agree to a millionth only.
    """
    with jax.enable_x64(True):
        built, problem, found = rule.second  # the smaller one: without compilation, every operation is a program
        return Measured(
            distance(found.grads, estimated(built, problem, jit=False).grads),
            DRAWN if {"stochastic", "unbiased"} & {*rule.spec.claims} else ROUNDING,
            where="distance of the compiled gradients from the others",
        )


@check(hint=_PURE)
def vmap(rule: RuleSubject) -> Measured:
    """Mapped over two sets of parameters, it gives what each of them gives, in float64."""
    with jax.enable_x64(True):
        built, problem, one = rule.reference
        both = [problem.params, as_dtype(jax.tree.map(lambda leaf: 0.9 * np.asarray(leaf), problem.params), float)]
        each = _stacked([one.grads, estimated(built, problem._replace(params=both[1])).grads])
        return Measured(
            distance(compiled(jax.vmap(_estimate(built, problem)))(_stacked(both)).grads, each),
            ROUNDING,
            where="distance of the mapped gradients from the single ones",
        )


@check(hint="Return a state with the structure, shapes and dtypes of the one that was given.")
def scan(rule: RuleSubject) -> Measured:
    """Three steps in ``jax.lax.scan`` equal three steps one by one, in float64: the state keeps its form."""
    with jax.enable_x64(True):
        built, problem, _ = rule.reference
        by_hand, down = compiled_estimate(built.estimate, problem.model), compiled(_downhill)

        def step(carry: Any, key: jax.Array) -> Any:
            params, state = carry
            found, state = built.estimate(problem.model, params, state, problem.batch, key=key)
            return (_downhill(params, found.grads), state), found.loss

        keys = jax.random.split(problem.key, 3)
        params, state = start = problem.params, first_state(built, problem)
        scanned, _ = compiled(lambda start: jax.lax.scan(step, start, keys)[0])(start)
        for key in keys:
            found, state = by_hand(params, state, problem.batch, key=key)
            params = down(params, found.grads)
        return Measured(distance(scanned, params), ROUNDING, where="distance of the parameters after three steps")


@check(hint="Use numeric settings in jnp expressions only; float(), if and int() need concrete numbers.")
def traced_numbers(rule: RuleSubject) -> Measured:
    """Numeric settings may be traced, and mapped over: two values at once give what each of them gives, in float64."""
    with jax.enable_x64(True):
        (_, problem, given), numbers = rule.reference, _numbers(rule)
        values = [{name: share * value for name, value in numbers.items()} for share in (1.0, 0.95)]
        other = estimated(rule.build(**values[1]), problem)
        each = _stacked([given.grads, other.grads])
        of_numbers = compiled(jax.vmap(_of_numbers(rule, problem)))
        return Measured(
            distance(of_numbers(_stacked(values)).grads, each),
            ROUNDING,
            where="distance of the gradients of traced numbers from those of plain ones",
        )


@check(hint="Keep loops over a fixed number of steps in jax.lax.scan or fori_loop, and avoid integers and comparisons.")
def differentiable_numbers(rule: RuleSubject) -> Measured:
    """The derivative of an estimate by its numeric settings equals central differences, in float64."""
    with jax.enable_x64(True):
        problem, numbers = rule.reference.problem, _numbers(rule)
        of_numbers = _of_numbers(rule, problem)

        def norm(numbers: Any) -> jax.Array:
            return jnp.sum(jnp.stack([jnp.sum(leaf**2) for leaf in jax.tree.leaves(of_numbers(numbers).grads)]))

        steps = {name: 1e-5 * abs(number) for name, number in numbers.items()}
        moved = [{**numbers, name: numbers[name] + sign * h} for name, h in steps.items() for sign in (1, -1)]
        points = _stacked([numbers, *moved])
        found, slopes = compiled(partial(jax.lax.map, jax.value_and_grad(norm)))(points)
        worst, where = 0.0, ""
        for k, (name, h) in enumerate(steps.items()):
            expected = (found[2 * k + 1] - found[2 * k + 2]) / (2 * h)
            gap = float(abs(slopes[name][0] - expected) / (abs(expected) + 1e-6 * found[0] / abs(numbers[name])))
            worst, where = max((worst, where), (gap if np.isfinite(gap) else float("inf"), name))
        return Measured(worst, 1e-3, where=where)


@check(hint="Keep what changes from step to step in arrays, not in static fields of the state or in Python variables.")
def one_trace(rule: RuleSubject) -> Measured:
    """Steps with other values, and with the state of the step before, are not traced again."""
    traces = []

    def loss(outputs: jax.Array, targets: jax.Array) -> jax.Array:
        traces.append(1)
        return jnp.mean((outputs - jnp.mean(targets)) ** 2)

    problem = rule.problem()
    built = algorithm(rule.name, loss=loss, **rule.settings)
    estimate = jax.jit(partial(built.estimate, problem.model))
    state, counts = first_state(built, problem), []
    for _ in range(4):  # the state may take its final form in the first step; nothing is computed or compiled
        _, state = jax.eval_shape(estimate, problem.params, state, problem.batch, key=problem.key)
        counts.append(len(traces))
    return Measured(counts[3] - counts[1], 0, where="traces after the second step")


@check(
    hint="Report numbers in aux instead of calling back to Python; jax.debug.print and pure_callback stay out.",
    once=False,
)
def no_callbacks(rule: RuleSubject) -> None:
    """The program of an estimate never calls back to Python."""
    problem = rule.problem()
    called = {
        name
        for name in primitives_of(jax.make_jaxpr(_estimate(rule.build(), problem))(problem.params))
        if "callback" in name
    }
    if called:
        raise Broken(f"the program contains {', '.join(sorted(called))}")


@check(hint="Reduce over the batch with sums and means only, so that XLA can split it.")
def sharded_auto(rule: RuleSubject) -> Measured:
    """With the batch over all devices of a mesh with automatic axes, it gives what one device gives, in float64."""
    return _sharded(rule, AxisType.Auto)


@check(hint="Mend sharded-auto first. NeurAI runs rules on automatic axes: leave meshes and shardings to it.")
def sharded_explicit(rule: RuleSubject) -> Measured:
    """With the batch over all devices of a mesh with explicit axes, it gives what one device gives, in float64."""
    return _sharded(rule, AxisType.Explicit)


@check(hint="Compute from the rows given, by sums and means. NeurAI hides manual axes: name none of them in the rule.")
def shard_map(rule: RuleSubject) -> Measured:
    """Inside ``jax.shard_map`` with its checks on, the mean over devices is the mean over their rows, in float64."""
    with jax.enable_x64(True):
        (built, problem, _), mesh = rule.reference, _mesh(AxisType.Auto)
        rows, count = PartitionSpec("data"), mesh.size
        state = first_state(built, problem)

        def local(params: PyTree, state: PyTree, batch: PyTree, key: jax.Array) -> PyTree:
            found, _ = built.estimate(problem.model, params, state, batch, key=key)
            return jax.lax.pmean(found.grads, "data")

        spread = jax.shard_map(
            local,
            mesh=mesh,
            in_specs=(PartitionSpec(), PartitionSpec(), rows, PartitionSpec()),
            out_specs=PartitionSpec(),
        )
        ours = compiled(spread)(problem.params, state, problem.batch, problem.key)
        parts = [with_rows(problem, rows) for rows in np.split(np.arange(BATCH), count)]
        each = [wide(estimated(built, part).grads) for part in parts]
        return Measured(
            distance(ours, jax.tree.map(lambda *g: sum(g) / count, *each)),
            ROUNDING,
            where="distance of the mean over devices from that over their rows",
        )


def _sharded(rule: RuleSubject, axes: AxisType) -> Measured:
    with jax.enable_x64(True):
        (built, problem, expected), mesh = rule.reference, _mesh(axes)
        everywhere, rows = (NamedSharding(mesh, PartitionSpec(*spec)) for spec in ((), ("data",)))
        params, batch, key = (
            jax.device_put(problem.params, everywhere),
            jax.device_put(problem.batch, rows),
            problem.key,
        )
        with jax.set_mesh(mesh):
            found = estimated(built, problem._replace(params=params, batch=batch), key=key)
        return Measured(
            distance((found.grads, found.loss), (expected.grads, expected.loss)),
            ROUNDING,
            where="distance of loss and gradients from those on one device",
        )


def _mesh(axes: AxisType) -> Mesh:
    """All devices that divide the batch."""
    devices = max(count for count in (1, 2, 4, 8) if count <= jax.device_count())
    assert BATCH % devices == 0
    return jax.make_mesh((devices,), ("data",), axis_types=(axes,), devices=jax.devices()[:devices])


def _estimate(built: Rule, problem: SmallProblem) -> Callable[[PyTree], Estimate]:
    def estimate(params: PyTree) -> Estimate:
        state = traced_state(built, problem._replace(params=params))
        return built.estimate(problem.model, params, state, problem.batch, key=problem.key)[0]

    return estimate


def _of_numbers(rule: RuleSubject, problem: SmallProblem) -> Callable[[dict[str, Any]], Estimate]:
    return lambda numbers: _estimate(rule.build(**numbers), problem)(problem.params)


def _numbers(rule: RuleSubject) -> dict[str, float]:
    """The numeric settings that mean something beside the others, with their values."""
    config = rule.spec.config(**rule.settings)
    named = {
        name: value
        for name in type(config).model_fields
        if takes_float(type(config), name) and name not in config.unused()
        if isinstance(value := getattr(config, name), float) and value and not _is_special(config, name, value)
    }
    if not named:
        raise Skipped("it has no numeric settings")
    return named


def _is_special(config: Any, name: str, value: float) -> bool:
    return value in config.compiled_for.get(name, ())


def _downhill(params: PyTree, grads: PyTree) -> PyTree:
    return jax.tree.map(lambda p, g: p - 0.01 * g, params, grads)


def _stacked(trees: list[PyTree]) -> PyTree:
    return jax.tree.map(lambda *leaves: jax.device_put(np.stack(leaves)), *trees)


CHECKS = (
    jit,
    vmap,
    scan,
    traced_numbers,
    differentiable_numbers,
    one_trace,
    no_callbacks,
    sharded_auto,
    sharded_explicit,
    shard_map,
)
