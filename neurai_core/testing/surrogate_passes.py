"""Checks of what a surrogate computes forward and backward, under every transformation and in every precision."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from neurai_core.errors import DataError, SettingsError
from neurai_core.surrogates import Surrogate
from neurai_core.testing.checking import Broken, Measured, Skipped, check
from neurai_core.testing.surrogate_subject import (
    FACTORS,
    SurrogateSubject,
    fire,
    gap,
    grid,
    in_float64,
    spread,
    total,
    with_threshold,
)

FAR = [-jnp.inf, -1e30, -1e3, -1e-30, -0.0, 0.0, 1e-30, 1e30, jnp.inf]
# Where a NaN is an answer of no use: both sides of the threshold, next to it, far out and beyond.
SPECIAL = np.array([0.0, -0.0, 1e-30, -1e-30, 1e6, -1e6, 1e30, -1e30, np.inf, -np.inf])


@check(hint="Fire where u >= 0, and let NaN stay NaN; count or draw spikes in step(self, u, key).")
@in_float64
def forward(subject: SurrogateSubject) -> None:
    """Spikes are 0 below the threshold and 1 from it on, or whole numbers if it counts them; NaN stays NaN."""
    one, u = subject.build(), jnp.array(FAR)
    spikes = np.asarray(fire(one, u))
    if np.any(spikes != np.round(np.abs(spikes))):
        raise Broken(f"spikes are {spikes} at u = {FAR}, expected whole numbers of 0 or more")
    if not one.needs_key and np.any(spikes[3:7] != [0, 1, 1, 1]):
        raise Broken(f"spikes are {spikes[3:7]} at u = {FAR[3:7]}, expected 0, 1, 1, 1")
    if np.any(spikes[:3] != 0) or np.any(spikes[7:] < 1):
        raise Broken(f"spikes are {spikes} at u = {FAR}, expected none far below the threshold and some far above")
    stored = np.asarray(one.spikes(u, key=jax.random.key(7)))
    if np.any(stored != spikes):
        raise Broken(f"spikes() gives {stored.astype(int)}, the forward pass {spikes}")
    if not jnp.all(jnp.isnan(fire(one, jnp.full(3, jnp.nan)))):
        raise Broken("NaN does not stay NaN", "Use jnp.where(jnp.isnan(u), u, ...).")


@check(hint="Leave the backward pass to the base class: define derivative and primitive, not __call__.")
@in_float64
def derivative(subject: SurrogateSubject) -> Measured:
    """The gradient is g, whether the forward pass is the step or the primitive."""
    one = subject.changed
    u = with_threshold(grid(one, subject.spec))
    expected = one.derivative(u) * jnp.cos(jnp.arange(u.size, dtype=u.dtype))
    modes = [one, one.replace(spiking=False)] if one.has_primitive else [one]
    found = max(gap(jax.grad(total, 1)(mode, u), expected) for mode in modes)
    return Measured(found, 1e-14, where="gradient against g")


@check(hint="Differentiate the primitive by hand: derivative has to be its slope everywhere, at the threshold too.")
@in_float64
def primitive(subject: SurrogateSubject) -> Measured:
    """g is the slope of the primitive, by automatic differentiation and by differences; spiking=False fires by it."""
    subject.needs_primitive()
    one = subject.changed
    u = with_threshold(grid(one, subject.spec))
    g = one.derivative(u)
    if not np.array_equal(one.replace(spiking=False)(u), one.primitive(u)):
        raise Broken("with spiking=False the forward pass is not the primitive")
    differences = _but_for_kinks(_central(one.primitive, u, 1e-4 * spread(one, subject.spec)), g)
    if differences > 1e-5:
        return Measured(differences, 1e-5, where="differences of the primitive against g")
    slope = jax.grad(lambda u: one.primitive(u).sum())(u)
    return Measured(gap(slope, g), 1e-12, where="automatic derivative of the primitive against g")


@check(hint="Write derivative as a function that JAX differentiates: no stop_gradient, rounding or integers inside.")
@in_float64
def second_order(subject: SurrogateSubject) -> Measured:
    """The second derivative is the slope of g."""
    one = subject.build()
    u = grid(one, subject.spec)
    width = spread(one, subject.spec)
    slope = _central(one.derivative, u, 1e-4 * width)
    found = jax.grad(lambda u: jax.grad(lambda u: fire(one, u).sum())(u).sum())(u)
    size = float(jnp.max(jnp.abs(one.derivative(u)))) / width
    return Measured(_but_for_kinks(found, slope, size), 1e-5, where="second derivative against differences of g")


@check(hint="Write the formulas elementwise: they get arrays of any shape, also single numbers, also traced.")
@in_float64
def transformations(subject: SurrogateSubject) -> Measured:
    """Compiled, vmap, scan and forward mode give the same derivative, in one program."""
    one = subject.build()
    u = grid(one, subject.spec)[::16]
    traces = []

    @jax.jit
    def program(one: Surrogate, u: jax.Array) -> dict[str, jax.Array]:
        traces.append(one)

        def scanned(u: jax.Array) -> jax.Array:
            return jax.lax.scan(lambda sum_, x: (sum_ + fire(one, x), None), jnp.zeros((), u.dtype), u)[0]

        return {
            "jit": jax.grad(lambda u: fire(one, u).sum())(u),
            "forward mode": jax.jvp(lambda u: fire(one, u), (u,), (jnp.ones_like(u),))[1],
            "vmap": jax.vmap(jax.grad(lambda x: fire(one, x)))(u),
            "scan": jax.grad(scanned)(u),
        }

    learned = jax.tree.map(jnp.asarray, one)
    found = [program(each, u) for each in (learned, jax.tree.map(lambda leaf: 1.0 * leaf, learned))]
    if len(traces) != 1:
        raise Broken(f"equal surrogates are traced {len(traces)} times, expected once")
    right = one.derivative(u)
    gaps = {way: max(gap(each[way], right) for each in found) for way in found[0]}
    where = max(gaps, key=lambda way: math.inf if math.isnan(gaps[way]) else gaps[way])
    return Measured(gaps[where], 1e-13, where=where)


@check(hint="Let the constructor take numbers as they come: no float(...), no Python if on them.")
@in_float64
def traced_numbers(subject: SurrogateSubject) -> Measured:
    """Numbers may be traced and mapped over, in one program for all of their values."""
    factors = _allowed(subject)
    one = subject.build()
    u = grid(one, subject.spec)
    traces = []

    def slope(factor: Any) -> jax.Array:
        traces.append(factor)
        made = subject.build(**{name: factor * value for name, value in subject.numbers.items()})
        return jax.grad(total, 1)(made, u)

    mapped = jax.jit(jax.vmap(slope))
    found = [mapped(jnp.array(factors)), mapped(jnp.array(factors[::-1]))[::-1]]
    if len(traces) != 1:
        raise Broken(f"new values of a number are traced anew, {len(traces)} times for 2")
    right = [slope(factor) for factor in factors]
    apart = max(gap(each, right) for each in found)
    return Measured(apart, 1e-13, where="gradient with traced numbers against that with numbers")


@check(hint="Let the primitive depend on the numbers as its formula says: no stop_gradient, no rounding of them.")
@in_float64
def learned_numbers(subject: SurrogateSubject) -> Measured:
    """The gradient by a number is the derivative of the primitive by it."""
    subject.needs_primitive()
    _needs_numbers(subject)
    one = subject.changed
    u, soft = grid(one, subject.spec), one.replace(spiking=False)
    gaps = dict.fromkeys(subject.numbers, 0.0)
    for name in subject.numbers:
        value = float(getattr(one, name))
        low, high = _around(soft, name, value, 1e-6 * (abs(value) or 1.0))
        expected = (soft.replace(**{name: high}).primitive(u) - soft.replace(**{name: low}).primitive(u)) / (high - low)
        for mode in (one, soft):
            gaps[name] = max(gaps[name], _but_for_kinks(_moved(mode, name, u), expected))
    where = max(gaps, key=lambda name: gaps[name])
    return Measured(gaps[where], 1e-5, where=f"by {where}")


@check(hint="Use the numbers elementwise: an array of them, one per neuron, broadcasts with u.")
@in_float64
def number_per_neuron(subject: SurrogateSubject) -> Measured:
    """An array of numbers, one per neuron, equals neurons one by one; so do the facts."""
    factors = np.array(_allowed(subject)[:2])
    one = subject.build()
    u = grid(one, subject.spec)[:, None]
    many = subject.build(**{name: value * factors for name, value in subject.numbers.items()})
    each = [subject.build(**{name: value * f for name, value in subject.numbers.items()}) for f in factors.tolist()]
    gaps = []
    for way in ("derivative", "primitive") if one.has_primitive else ("derivative",):
        gaps.append(gap(getattr(many, way)(u), np.concatenate([getattr(alone, way)(u) for alone in each], axis=1)))
    if one.has_primitive:  # by which numbers are learned
        slopes = jax.grad(lambda made: fire(made, u).sum())
        alone = [slopes(jax.tree.map(jnp.asarray, made)) for made in each]
        for found, *right in zip(*map(jax.tree.leaves, (slopes(many), *alone)), strict=True):
            gaps.append(gap(found, right))
    for fact in ("area", "peak", "half_width"):
        stated, of_each = getattr(many.facts, fact), [getattr(made.facts, fact) for made in each]
        if stated is not None and np.all(np.isfinite(np.array(of_each, float))):
            gaps.append(gap(np.broadcast_to(stated, len(each)), of_each))
    return Measured(max(gaps), 1e-12, where="an array of numbers against neurons one by one")


@check(hint="Rewrite the formulas so that nothing overflows: exp(-abs(x)) instead of exp(x), jnp.where on both sides.")
@in_float64
def finite(subject: SurrogateSubject) -> None:
    """Nothing is NaN but NaN, from 0 to infinity, in any precision; everything is finite at +-1e6."""
    for dtype in ("float16", "bfloat16", "float32", "float64"):
        one = subject.build() if dtype == "float64" else subject.changed
        inside = 1e4 if dtype == "float16" else 1e30
        u = jnp.asarray(np.where(np.isinf(SPECIAL), SPECIAL, np.clip(SPECIAL, -inside, inside)), dtype)
        area = one.facts.area
        bounded = area is not None and math.isfinite(float(area))
        for what, found in _everything(one, u):
            if bool(jnp.any(jnp.isnan(found))):
                place = float(u[int(jnp.argmax(jnp.isnan(found)))])
                raise Broken(f"{what} is NaN at u = {place:.4g} in {dtype}")
            # Without a limit, the primitive is infinite where u is, and may leave the range of 16 bits.
            needed = found if bounded else found[: 6 if dtype in ("float32", "float64") else 4]
            if not bool(jnp.all(jnp.isfinite(needed))):
                raise Broken(f"{what} is infinite at u = {float(u[int(jnp.argmax(jnp.isinf(needed)))]):.4g} in {dtype}")
        for what, found in _formulas(one, jnp.full_like(u, jnp.nan)):
            if not bool(jnp.all(jnp.isnan(found))):
                raise Broken(f"{what} of NaN is not NaN in {dtype}", "Use jnp.where(jnp.isnan(u), u, ...).")


@check(hint="Let the base class convert u: formulas get at least 32 bits and are rounded once.")
@in_float64
def dtypes(subject: SurrogateSubject) -> Measured:
    """The dtype of u is kept, numbers of higher precision promote nothing, and 16 bits are rounded once."""
    one = subject.build()
    learned = jax.tree.map(jnp.asarray, one)
    points, worst = with_threshold(grid(one, subject.spec)), 0.0
    short = points.astype(jnp.bfloat16)
    for (what, found), (_, right) in zip(_answers(learned, short), _answers(one, short), strict=True):
        if found.dtype != jnp.bfloat16 or not np.array_equal(found, right):
            raise Broken(f"with numbers in float64, {what} of bfloat16 is {found.dtype}, or other values")
    for dtype in ("bfloat16", "float16", "float32", "float64"):
        u = points.astype(dtype)
        for what, found in _answers(one, u):
            if found.dtype != u.dtype:
                raise Broken(f"{what} of {u.dtype} is {found.dtype}")
        eps, tiny = (float(getattr(jnp.finfo(dtype), name)) for name in ("eps", "smallest_normal"))
        for (what, ours), (_, right) in zip(_formulas(one, u), _formulas(one, u.astype(jnp.float64)), strict=True):
            size = jnp.abs(right)
            allowed = max(2 * eps, 1e-5) * size + 1e-6 * jnp.max(size) + tiny
            excess = float(jnp.max(jnp.abs(ours.astype(float) - right) / allowed))
            if not excess <= 1:
                return Measured(excess, 1.0, where=f"error of {what} in {dtype}, in units of what rounding explains")
            worst = max(worst, excess)
    return Measured(worst, 1.0)


@check(hint="Leave the conversion of u to the base class: define the formulas, not __call__.")
def bad_input(subject: SurrogateSubject) -> None:
    """Integers, booleans, complex numbers and texts are refused with a DataError."""
    one = subject.build()
    functions = [("the surrogate", lambda u: fire(one, u)), ("spikes", lambda u: one.spikes(u, key=jax.random.key(0)))]
    functions += [(name, getattr(one, name)) for name in ("derivative", *(["primitive"] if one.has_primitive else []))]
    for wrong in (np.arange(3), np.array([True]), np.array([1j]), 1, "u", None):
        for what, function in functions:
            try:
                function(wrong)
            except DataError:
                continue
            raise Broken(f"{what} takes u = {wrong!r}, expected a DataError")


# ---- what is compared


def _central(function: Callable[[jax.Array], jax.Array], u: jax.Array, h: float) -> jax.Array:
    return (function(u + h) - function(u - h)) / (2 * h)


def _moved(one: Surrogate, name: str, u: jax.Array) -> jax.Array:
    """The tangent of the forward pass by one number."""
    learned = jax.tree.map(lambda leaf: jnp.asarray(leaf, u.dtype), one)  # a Python number would be a constant
    leaves, form = jax.tree_util.tree_flatten_with_path(learned)
    along = [jnp.full_like(leaf, path[0] == jax.tree_util.GetAttrKey(name)) for path, leaf in leaves]
    moved: jax.Array = jax.jvp(lambda one: fire(one, u), (learned,), (jax.tree.unflatten(form, along),))[1]
    return moved


def _but_for_kinks(ours: Any, theirs: Any, scale: float | None = None) -> float:
    """The largest difference, leaving out the twentieth of the points with the largest: at kinks there is no slope."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    apart = np.abs(ours - theirs)
    if np.any(np.isnan(apart)):
        return math.nan
    kept = np.sort(apart)[: -(apart.size // 20)]
    largest = float(np.max(np.abs(theirs))) if scale is None else scale
    return float(kept[-1]) / (largest or 1.0)


def _formulas(one: Surrogate, u: Any) -> Iterator[tuple[str, jax.Array]]:
    yield "the derivative", one.derivative(u)
    if one.has_primitive:
        yield "the primitive", one.primitive(u)


def _answers(one: Surrogate, u: jax.Array) -> Iterator[tuple[str, jax.Array]]:
    yield from _formulas(one, u)
    yield "the forward pass", fire(one, u)
    yield "the gradient", jax.grad(total, 1)(one, u)


def _everything(one: Surrogate, u: jax.Array) -> Iterator[tuple[str, jax.Array]]:
    """Values, and the tangents by u and, where there is a primitive, by all numbers."""
    yield from _formulas(one, u)
    yield "the forward pass", fire(one, u)
    yield "the tangent", jax.jvp(lambda u: fire(one, u), (u,), (jnp.ones_like(u),))[1]
    if one.has_primitive:
        learned = jax.tree.map(jnp.asarray, one)
        moved = jax.jvp(lambda one: fire(one, u), (learned,), (jax.tree.map(jnp.ones_like, learned),))[1]
        yield "the tangent by the numbers", moved


def _needs_numbers(subject: SurrogateSubject) -> None:
    if not subject.numbers:
        raise Skipped("it has no numeric settings")


def _allowed(subject: SurrogateSubject) -> list[float]:
    """Factors by which all numbers may be changed."""
    _needs_numbers(subject)
    allowed = []
    for factor in (*FACTORS, 1.0):
        try:
            subject.build(**{name: factor * value for name, value in subject.numbers.items()})
        except SettingsError:
            continue
        allowed.append(factor)
    return allowed


def _around(one: Surrogate, name: str, value: float, h: float) -> tuple[float, float]:
    """Two values around a number, within its range."""
    ends = []
    for moved in (value - h, value + h):
        try:
            one.replace(**{name: moved})
        except SettingsError:
            moved = value
        ends.append(moved)
    return ends[0], ends[1]


CHECKS = (
    forward, derivative, primitive, second_order, transformations,
    traced_numbers, learned_numbers, number_per_neuron, finite, dtypes, bad_input,
)  # fmt: skip
