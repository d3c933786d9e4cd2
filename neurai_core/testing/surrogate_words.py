"""Checks of what a surrogate says about itself in formulas and words, and that it is the same when built again."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp

from neurai_core.by_name import rebuild
from neurai_core.plugin import resolve
from neurai_core.surrogates import Surrogate
from neurai_core.testing.checking import Broken, Measured, Skipped, check
from neurai_core.testing.surrogate_subject import SurrogateSubject, in_float64, spread

# Both sides of the threshold, near and far, in units of a typical width.
AT = (-2.37, -0.93, -0.31, -0.07, 0.11, 0.38, 1.13, 2.71)


@check(hint="Correct the formula in the spec, or the code; letters= says what its letters stand for.")
@in_float64
def formula(subject: SurrogateSubject) -> Measured:
    """The formulas of the spec, evaluated by sympy, are what the code computes; the primitive's slope is g."""
    if not (subject.spec.derivative or subject.spec.primitive):
        raise Skipped("its spec states no formula")
    try:
        from neurai_core.testing import latex
    except ModuleNotFoundError as error:
        raise Skipped(f"reading formulas needs {error.name}: python -m pip install {error.name}") from None
    worst = Measured(0.0, 1e-12)
    for one in subject.both:
        points = [min(spread(one, subject.spec), 1.0) * at for at in AT]
        for name in ("derivative", "primitive"):
            text = getattr(subject.spec, name)
            if not text:
                continue
            try:
                right = [latex.number(text, u, _settings(one), subject.spec.letters) for u in points]
            except latex.Unreadable as error:
                raise Skipped(f"{name} of its spec cannot be read: {error}") from None
            ours = getattr(one, name)(jnp.array(points)).tolist()
            apart = max(abs(a - b) / (abs(b) + 1e-3) for a, b in zip(ours, right, strict=True))
            if not apart <= worst.figure:
                worst = Measured(apart, 1e-12, where=f"{name} against its formula")
    return worst if not worst.holds else _of_slopes(subject, latex) or worst


def _of_slopes(subject: SurrogateSubject, latex: Any) -> Measured | None:
    """How far the derivative of the documented primitive is from the documented derivative."""
    spec, one = subject.spec, subject.build()
    if not (spec.derivative and spec.primitive):
        return None
    apart = 0.0
    for u in (min(spread(one, spec), 1.0) * at for at in AT):
        slope = latex.slope(spec.primitive, u, _settings(one), spec.letters)
        right = latex.number(spec.derivative, u, _settings(one), spec.letters)
        apart = max(apart, abs(slope - right) / (abs(right) + 1e-3))
    return Measured(apart, 1e-12, where="the slope of the primitive's formula against the derivative's")


@check(hint="Give every setting a description with its unit, and name the setting of the width in width=.")
def settings(subject: SurrogateSubject) -> None:
    """Every setting says what it means, the width is a setting, and every known failure is that of a check."""
    subject.require_descriptions()
    subject.require_real_failures()
    if subject.spec.width and subject.spec.width not in subject.spec.config.model_fields:
        known = ", ".join(subject.spec.config.model_fields)
        raise Broken(f"the spec says width={subject.spec.width!r}, which is not a setting; the settings are {known}")
    if not math.prod(map(math.isfinite, subject.numbers.values())):
        raise Broken("a number is not finite by default")


@check(hint="Give the class the defaults of its settings class, and set its config_class to that class.")
def defaults(subject: SurrogateSubject) -> None:
    """The class that the spec offers has the defaults of the settings."""
    if not subject.spec.offers:
        raise Skipped("its spec offers no class")
    for name, target in subject.spec.offers.items():
        ours, theirs = resolve(target)(), subject.build()
        if ours != theirs:
            raise Broken(f"{name}() is {ours!r}, by name it is {theirs!r}")
        if ours.config_class is not subject.spec.config:
            raise Broken(f"{name}.config_class is not the settings class of the spec")


@check(
    hint="Keep what depends on the settings out of the constructor's arguments: static values have to compare equal."
)
def rebuilt(subject: SurrogateSubject) -> None:
    """Built again, also from its origin, it is equal and hashes the same, so that nothing is compiled again."""
    one = subject.build()
    for how, again in (("built again", subject.build()), ("rebuilt from its origin", rebuild(one.origin))):
        if one != again or hash(one) != hash(again):
            raise Broken(f"{how}, {one!r} is not equal to itself")


def _settings(one: Surrogate) -> dict[str, Any]:
    return {name: value.item() if hasattr(value, "item") else value for name, value in one.settings.items()}


CHECKS = (formula, settings, defaults, rebuilt)
