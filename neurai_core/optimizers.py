"""Optax optimizers by name or as text, with schedules, and several for parts of the parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from neurai_core.arrays import PyTree
from neurai_core.errors import SettingsError, UnknownName
from neurai_core.naming import canonical, did_you_mean
from neurai_core.optax_texts import Transformation, made


def optimizers() -> dict[str, Callable[..., Any]]:
    """Every optimizer of optax and of optax.contrib that takes a learning rate, by name.

    >>> {"adam", "sgd", "lion"} <= set(optimizers())
    True
    """
    found = {}
    for home in (optax.contrib, optax):
        for name, function in vars(home).items():
            if not name.startswith(("_", "scale_by_")) and _takes_rate(function):
                found[name] = function
    return dict(sorted(found.items()))


def optimizer(
    text: str,
    lr: float | str,
    *,
    schedule: str = "constant",
    steps: int = 1,
    settings: Mapping[str, Any] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Create an optax optimizer.

    Args:
        text: a name such as ``adam``, or calls of optax such as ``chain(clip_by_global_norm(1.0), adamw())``.
        lr: learning rate where the text gives none: a number, or a schedule of optax as text.
        schedule: for a number, ``constant``, or ``cosine``: lr * (1 + cos(pi * t / steps)) / 2 at step t.
        steps: number of steps of the run.
        settings: further arguments by name, such as ``{"momentum": 0.9}``; calls have theirs in the text.

    Raises:
        UnknownName: optax has no optimizer of that name.
        SettingsError: it does not accept one of the settings.

    Example:
        >>> optimizer("sgd", 0.1, settings={"momentum": 0.9}).update is not None
        True
        >>> optimizer("chain(clip(1.0), sgd())", "linear_schedule(0.1, 0.0, 100)").update is not None
        True
    """
    given = dict(settings or {})
    rate = _rate(lr, schedule, steps)
    if "(" in text:
        return _called(text, rate, given)
    make = _find(text)
    _check_settings(text, make, given)
    try:
        return _usable(make(learning_rate=rate, **given))
    except (TypeError, ValueError) as error:
        raise SettingsError(
            f"The optimizer {text!r} cannot be used with schedule {schedule!r} and {given or 'defaults'}: "
            f"{_reason(error)}.",
            "Give its arguments as --set optimizer.NAME=VALUE; some take no schedule (--schedule constant); one "
            "that needs more than gradients and the loss cannot be used here.",
        ) from error


def per_part(
    usual: optax.GradientTransformation, parts: Mapping[str, optax.GradientTransformation], params: PyTree
) -> optax.GradientTransformationExtraArgs:
    """An optimizer with others for some parts of the parameters.

    Args:
        usual: the optimizer of all other parts.
        parts: optimizers by the place of a part in the parameters, such as ``0/w`` for the entry ``w`` of the first
            one; the most precise place wins. For a sequence of layers, ``layers/0/w`` is the same. A dot in a name, as
            Equinox has them in ``layers.0.weight``, counts as a slash.
        params: the parameters.

    Raises:
        UnknownName: there is no such part.

    Example:
        >>> both = per_part(optax.sgd(0.1), {"1": optax.sgd(1.0)}, (jnp.ones(2), jnp.ones(2)))
        >>> updates, _ = both.update((1.0, 1.0), both.init((0.0, 0.0)))
        >>> [round(float(one), 3) for one in updates]
        [-0.1, -1.0]
    """
    paths = [path for path, _ in jax.tree.leaves_with_path(params)]
    places = [jax.tree_util.keystr(path, simple=True, separator="/").replace(".", "/") for path in paths]
    named = {_place(part.replace(".", "/"), places, params): one for part, one in parts.items()}
    labels = tuple(max((one for one in named if _holds(one, place)), key=len, default="") for place in places)
    inner = optax.multi_transform({"": usual, **named}, labels)

    # Over the leaves, because optax takes labels in a tree that can be called, such as a module, for a function.
    def init(params: PyTree) -> PyTree:
        return inner.init(tuple(jax.tree.leaves(params)))

    def update(updates: PyTree, state: PyTree, params: PyTree = None, **extra: Any) -> tuple[PyTree, PyTree]:
        leaves, form = jax.tree.flatten(updates)
        flat = None if params is None else tuple(jax.tree.leaves(params))
        found, state = inner.update(tuple(leaves), state, flat, **extra)
        return jax.tree.unflatten(form, found), state

    return optax.GradientTransformationExtraArgs(init, update)


def _place(part: str, places: list[str], params: PyTree) -> str:
    """The place that a part names."""
    candidates = [part, part.removeprefix("layers/")] if isinstance(params, tuple | list) else [part]
    for one in candidates:
        if any(_holds(one, place) for place in places):
            return one
    known = dict.fromkeys("/".join(place.split("/")[:depth]) for place in places for depth in (1, 2, 3))
    shown = [*known][:30]
    raise UnknownName(
        f"The parameters have no part {part!r}.{did_you_mean(part, known)}",
        f"Parts: {', '.join(shown)}{', ...' if len(known) > len(shown) else ''}.",
    )


def _holds(part: str, place: str) -> bool:
    return place == part or place.startswith(f"{part}/")


def _rate(lr: float | str, schedule: str, steps: int) -> Any:
    """The learning rate: a number, or a function of the step."""
    if not isinstance(lr, str):
        return optax.cosine_decay_schedule(lr, steps) if schedule == "cosine" else lr
    found = made(lr)
    if not (callable(found) and not isinstance(found, Transformation)):
        raise SettingsError(
            f"The learning rate {lr!r} is not a schedule of optax.",
            "Write for example 'cosine_decay_schedule(0.1, 1000)'.",
        )
    return found


def _called(text: str, rate: Any, given: Mapping[str, Any]) -> optax.GradientTransformationExtraArgs:
    """The optimizer that calls describe."""
    if given:
        raise SettingsError(
            f"optimizer.{next(iter(given))} is set, and the optimizer {text!r} has its settings in its text.",
            "Write it into the text.",
        )
    found = made(text, learning_rate=rate)
    if not isinstance(found, Transformation):
        raise SettingsError(f"{text!r} makes no optimizer.", "A schedule is given by --lr, or inside the optimizer.")
    try:
        return _usable(found)
    except (TypeError, ValueError) as error:
        raise SettingsError(
            f"The optimizer {text!r} cannot be used: {_reason(error)}.",
            "Some take no schedule (--schedule constant); one that needs more than gradients and the loss cannot be "
            "used here.",
        ) from error


def _usable(found: Any) -> optax.GradientTransformationExtraArgs:
    """An optimizer that is given the loss too, tried without computing."""
    usable = optax.with_extra_args_support(found)
    jax.eval_shape(lambda: _one_update(usable)(jnp.zeros((2, 2))))
    return usable


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".")


def _one_update(made: optax.GradientTransformationExtraArgs) -> Callable[[jax.Array], Any]:
    """Compute an update from gradients, parameters and the loss."""
    return lambda params: made.update(params, made.init(params), params, value=jnp.zeros(()))


def _find(name: str) -> Callable[..., Any]:
    known = optimizers()
    found = {canonical(one): function for one, function in known.items()}.get(canonical(name))
    if found is None:
        raise UnknownName(
            f"optax has no optimizer named {name!r} that takes a learning rate.{did_you_mean(name, known)}",
            f"Optimizers: {', '.join(known)}.",
        )
    return found


def _check_settings(name: str, make: Callable[..., Any], given: Mapping[str, Any]) -> None:
    known = [one for one in _parameters(make) if one != "learning_rate"]
    for key in given:
        if key not in known:
            raise SettingsError(
                f"{key}: not a setting of the optimizer {name!r}.{did_you_mean(key, known)}",
                f"It takes: {', '.join(known)}." if known else "It takes none besides the learning rate.",
            )


def _takes_rate(function: Any) -> bool:
    return inspect.isfunction(function) and "learning_rate" in _parameters(function)


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(function).parameters
