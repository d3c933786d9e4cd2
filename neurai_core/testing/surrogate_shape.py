"""Checks of the shape of a surrogate derivative g: whether it is what the spec and the facts of its class state."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import jax.numpy as jnp
import numpy as np

from neurai_core.surrogates import Surrogate
from neurai_core.testing.checking import Broken, Measured, Skipped, check
from neurai_core.testing.quadrature import grows_forever, integral
from neurai_core.testing.surrogate_subject import SurrogateSubject, fire, in_float64, spread, values

FAR = np.array([-1e30, -1e6, 1e6, 1e30])
KNOWN_CLAIMS = ("unimodal", "signed", "unit-area", "compact", "drawn", "counted")


@check(hint="Correct area in the spec and Facts(area=...) in the class: the integral of derivative over all u.")
@in_float64
def area(subject: SurrogateSubject) -> Measured:
    """The integral of g is the area that the spec and the facts state."""
    return _worst(_area_gap(subject, one) for one in subject.both)


@check(hint="Add a constant to the primitive, so that it begins at 0; check that its slope is the derivative far out.")
@in_float64
def limits(subject: SurrogateSubject) -> Measured:
    """The primitive goes from 0 up by the area of g; where the area is infinite, it has no upper limit."""
    subject.needs_primitive()
    if subject.build().facts.area is None:
        raise Skipped("its facts state no area")
    return _worst(_limits_gap(one) for one in subject.both)


@check(hint="Correct Facts(peak=...): the largest value of derivative.")
@in_float64
def peak(subject: SurrogateSubject) -> Measured:
    """The largest value of g is the peak that the facts state."""
    found = [(one, _fact(one, "peak")) for one in subject.both]
    return _worst(_peak_gap(_peak(one, subject), stated) for one, stated in found)


@check(hint="Correct Facts(half_width=...): the distance, on the wider side, at which g has fallen to half its peak.")
@in_float64
def half_width(subject: SurrogateSubject) -> None:
    """At the half width that the facts state, g has fallen to half its peak."""
    for one in subject.both:
        stated, half = _fact(one, "half_width"), _peak(one, subject) / 2
        if math.isinf(stated):
            sides = values(one, np.array([-1e6, 1e6]))
            if not np.any(sides > half):
                raise Broken(f"the half width is stated as infinite, but g falls below half its peak: {sides}")
            continue
        outside, inside = (values(one, np.array([-1, 1]) * stated * (1 + d)) for d in (1e-9, -1e-9))
        if np.any(outside > half) or not np.any(inside >= half):
            raise Broken(
                f"g is {inside} on the two sides of {stated:.6g}, the stated half width; half its peak is {half:.6g}"
            )


@check(hint='Correct support in the spec, a condition such as "abs(u) <= width" or "all", and Facts(support=...).')
@in_float64
def support(subject: SurrogateSubject) -> None:
    """g is zero exactly where the spec says so, and outside the interval that the facts state."""
    for one in subject.both:
        width = spread(one, subject.spec)
        u = np.linspace(-9.3, 9.7, 256) * width
        for point, g in zip(u, values(one, u), strict=True):
            if _inside(subject, one, float(point)) != (g != 0):
                raise Broken(f"the spec says support={subject.spec.support!r}, but g({point:.4g}) = {g:.4g}")
        for end, outward in zip(map(float, one.facts.support), (-1e-4, 1e-4), strict=True):
            if math.isfinite(end):
                beyond, within = values(one, np.array([end + outward * width, end - outward * width]))
                if beyond != 0 or within == 0:
                    raise Broken(
                        f"the facts say that g ends at {end:.4g}, but it is {within:.4g} before and {beyond:.4g} after"
                    )


@check(hint='Correct symmetry in the spec, "even" or "none", and Facts(symmetric=...).')
@in_float64
def symmetry(subject: SurrogateSubject) -> Measured:
    """g is even around the threshold if the spec says so, and is not otherwise; the facts agree."""
    even = subject.spec.symmetry == "even"
    one = subject.build()
    if one.facts.symmetric not in (None, even):
        raise Broken(f"the spec says symmetry={subject.spec.symmetry!r}, the facts symmetric={one.facts.symmetric}")
    u = np.linspace(0.01, 3.3, 128) * spread(one, subject.spec)
    g = values(one, u)
    difference = float(np.max(np.abs(g - values(one, -u)))) / float(np.max(np.abs(g)))
    return Measured(difference, 1e-14 if even else 1e-8, at_least=not even, where="g(u) against g(-u)")


@check(hint="Correct Facts(signed=...): whether g takes both signs.")
@in_float64
def sign(subject: SurrogateSubject) -> None:
    """g takes both signs if the facts say so, and only then."""
    for one in subject.both:
        stated, found = one.facts.signed, _signed(one, subject)
        if stated is None:
            raise Skipped("its facts do not state whether it is signed")
        if found != stated:
            raise Broken(f"the facts say signed={stated}, but g {'takes' if found else 'does not take'} both signs")


@check(hint="Define derivative, or avoid abs(u) in the primitive: JAX takes the derivative of abs at 0 to be 0.")
@in_float64
def threshold(subject: SurrogateSubject) -> Measured:
    """At the threshold, g is not apart from its values on both sides."""
    one = subject.build()
    h = 1e-6 * spread(one, subject.spec)
    at, below, above = values(one, np.array([0.0, -h, h]))
    return Measured(
        min(abs(at - below), abs(at - above)) / _peak(one, subject),
        1e-3,
        where=f"g(0) = {at:.4g}, distance to both sides",
    )


# ---- claims


@check(hint=f"The claims are {', '.join(KNOWN_CLAIMS)}; claim drawn or counted where users have to know.")
@in_float64
def claims(subject: SurrogateSubject) -> None:
    """Every claim is one that is checked, and surrogates that draw or count their spikes claim that."""
    unknown = [claim for claim in subject.claims if claim not in KNOWN_CLAIMS]
    if unknown:
        raise Broken(f"there is no claim {unknown[0]!r}")
    one = subject.build()
    if one.needs_key and "drawn" not in subject.claims:
        raise Broken("it needs a key, but does not claim drawn")
    if _most(one) > 1 and "counted" not in subject.claims:
        raise Broken("it fires more than once per step, but does not claim counted")


@check(
    claim="unimodal", remark=True, hint="Claim it only for a g that is never negative and falls on both sides of u = 0."
)
@in_float64
def unimodal(subject: SurrogateSubject) -> Measured:
    """g is never negative, highest at the threshold, and falls on both sides."""
    where = "how far g rises away from the threshold or goes below 0, relative to g(0)"
    return _worst(Measured(_rise(one, subject), 1e-14, where=where) for one in subject.both)


@check(claim="signed", hint="Claim it only for a g that takes both signs.")
@in_float64
def signed(subject: SurrogateSubject) -> None:
    """g takes both signs."""
    for one in subject.both:
        if not _signed(one, subject):
            raise Broken("signed is claimed, but g does not take both signs")


@check(claim="unit-area", remark=True, hint="Claim it only if the integral of g is 1 whatever the settings are.")
@in_float64
def unit_area(subject: SurrogateSubject) -> Measured:
    """The integral of g is 1, whatever the settings are."""
    return _worst(_gap_to_one(_integral(one, subject)) for one in subject.both)


@check(
    claim="compact", remark=True, hint="Claim it only if g is zero beyond a distance; state Facts(support=(low, high))."
)
@in_float64
def compact(subject: SurrogateSubject) -> None:
    """g is zero outside a bounded interval, which the facts state."""
    for one in subject.both:
        ends = tuple(map(float, one.facts.support))
        if not all(map(math.isfinite, ends)):
            raise Broken(f"compact is claimed, but the facts say support={ends}")
        beyond = values(one, np.array([*FAR, 2 * ends[0] - ends[1], 2 * ends[1] - ends[0]]))
        if np.any(beyond != 0):
            raise Broken(f"compact is claimed, but g is {beyond} far from the threshold")


@check(claim="drawn", hint="Draw the spikes in step(self, u, key) from the key, and let needs_key return True.")
@in_float64
def drawn(subject: SurrogateSubject) -> None:
    """Spikes are random: they follow the key, and differ between keys."""
    import jax

    one = subject.build()
    if not one.needs_key:
        raise Broken("drawn is claimed, but needs_key is False")
    u = jnp.asarray(np.linspace(-3.1, 3.3, 128) * spread(one, subject.spec))
    first, again, other = (np.asarray(one(u, key=jax.random.key(seed))) for seed in (0, 0, 1))
    if not np.array_equal(first, again):
        raise Broken("drawn is claimed, but one key gives different spikes")
    if np.array_equal(first, other):
        raise Broken("drawn is claimed, but two keys give the same spikes")


@check(claim="counted", hint="Count the spikes of a step in step(self, u, key), or drop the claim.")
@in_float64
def counted(subject: SurrogateSubject) -> Measured:
    """Far above the threshold there is more than one spike per step."""
    return Measured(_most(subject.build()), 2.0, at_least=True, where="spikes far above the threshold")


# ---- what is measured


def _area_gap(subject: SurrogateSubject, one: Surrogate) -> Measured:
    in_spec = None if not subject.spec.area else float(subject.stated("area", one))
    in_facts = None if one.facts.area is None else float(one.facts.area)
    if in_spec is None and in_facts is None:
        raise Skipped("neither its spec nor its facts state an area")
    if in_spec is not None and in_facts is not None and not math.isclose(in_spec, in_facts, rel_tol=1e-14):
        measured = (
            f", and the integral of g is {_integral(one, subject):.9g}" if math.isfinite(in_spec + in_facts) else ""
        )
        raise Broken(f"the spec says area={in_spec:.9g}, the facts {in_facts:.9g}{measured}")
    stated = in_facts if in_spec is None else in_spec
    assert stated is not None
    if math.isinf(stated):
        if not grows_forever(lambda u: values(one, u), spread(one, subject.spec)):
            raise Broken("the area is stated as infinite, but the integral of g has a limit")
        return Measured(0.0, 1e-9)
    found = _integral(one, subject)
    where = f"the integral of g is {found:.9g} and the stated area {stated:.9g}; relative distance"
    return Measured(abs(found - stated) / (abs(stated) or 1.0), 1e-9, where=where)


def _peak_gap(found: float, stated: float) -> Measured:
    where = f"the largest value of g is {found:.9g} and the stated peak {stated:.9g}; relative distance"
    return Measured(abs(found / stated - 1), 1e-9, where=where)


def _gap_to_one(area: float) -> Measured:
    return Measured(abs(area - 1), 1e-9, where=f"the integral of g is {area:.9g}; distance from 1")


def _integral(one: Surrogate, subject: SurrogateSubject) -> float:
    return integral(lambda u: values(one, u), spread(one, subject.spec))


def _limits_gap(one: Surrogate) -> Measured:
    size = _fact(one, "area")
    low, high = map(float, one.primitive(jnp.array([-jnp.inf, jnp.inf])))
    if math.isfinite(size):
        gap = float(np.max([abs(low), abs(high - size)])) / (abs(size) or 1.0)
        where = f"the primitive goes from {low:.6g} to {high:.6g}, and the area is {size:.6g}; relative distance"
        return Measured(gap, 1e-14, where=where)
    if high != math.inf or low not in (0, -math.inf):
        raise Broken(f"the area is infinite, but the primitive goes from {low:.4g} to {high:.4g}")
    return Measured(0.0, 1e-14)


def _peak(one: Surrogate, subject: SurrogateSubject) -> float:
    """The largest value of g: the largest on a grid, then on finer and finer ones around it."""
    center, reach = 0.0, 64 * spread(one, subject.spec)
    best = -math.inf
    for _ in range(8):
        u = center + np.linspace(-reach, reach, 127)  # holds its center
        g = values(one, u)
        best, center, reach = max(best, float(np.max(g))), float(u[np.argmax(g)]), reach / 40
    return best


def _rise(one: Surrogate, subject: SurrogateSubject) -> float:
    """How far g rises away from the threshold or goes below 0, relative to its value there."""
    width = spread(one, subject.spec)
    distance = np.concatenate([[0.0], np.linspace(0.02, 9.3, 127) * width])
    sides = [values(one, side * distance) for side in (1, -1)]
    return max(max(float(np.max(np.diff(g))), float(np.max(-g)), 0.0) / abs(float(g[0]) or 1.0) for g in sides)


def _signed(one: Surrogate, subject: SurrogateSubject) -> bool:
    g = values(one, np.linspace(-9, 9, 384) * spread(one, subject.spec))
    return bool(np.any(g < 0) and np.any(g > 0))


def _most(one: Surrogate) -> float:
    return float(jnp.max(fire(one, jnp.array([1e6, 1e30]))))


def _inside(subject: SurrogateSubject, one: Surrogate, u: float) -> bool:
    if subject.spec.support == "all":
        return True
    found = subject.stated("support", one, u=u)
    if not isinstance(found, bool | np.bool_):
        raise Broken(
            f"support={subject.spec.support!r} of the spec is {type(found).__name__} at u = {u:.4g}, "
            "expected a condition"
        )
    return bool(found)


def _fact(one: Surrogate, name: str) -> float:
    value: Any = getattr(one.facts, name)
    if value is None:
        raise Skipped(f"its facts state no {name.replace('_', ' ')}")
    return float(value)


def _worst(found: Iterable[Measured]) -> Measured:
    """The largest figure; NaN is worse than any."""
    return max(found, key=lambda one: math.inf if math.isnan(one.figure) else one.figure)


CHECKS = (
    area, limits, peak, half_width, support, symmetry, sign, threshold,
    claims, unimodal, signed, unit_area, compact, drawn, counted,
)  # fmt: skip
