"""Optax optimizers by name, with schedules."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from neurai_core.errors import SettingsError, UnknownName
from neurai_core.naming import canonical, did_you_mean


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
    name: str,
    lr: float,
    *,
    schedule: str = "constant",
    steps: int = 1,
    settings: Mapping[str, Any] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Create an optax optimizer.

    Args:
        name: such as ``adam``.
        lr: learning rate, the maximum of the schedule.
        schedule: ``constant``, or ``cosine``: lr * (1 + cos(pi * t / steps)) / 2 at step t.
        steps: number of steps of the run.
        settings: further arguments by name, such as ``{"momentum": 0.9}``.

    Raises:
        UnknownName: optax has no optimizer of that name.
        SettingsError: it does not accept one of the settings.

    Example:
        >>> optimizer("sgd", 0.1, settings={"momentum": 0.9}).update is not None
        True
    """
    make = _find(name)
    given = dict(settings or {})
    _check_settings(name, make, given)
    rate = optax.cosine_decay_schedule(lr, steps) if schedule == "cosine" else lr
    try:
        made = optax.with_extra_args_support(make(learning_rate=rate, **given))
        jax.eval_shape(lambda: _one_update(made)(jnp.zeros((2, 2))))
    except (TypeError, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise SettingsError(
            f"The optimizer {name!r} cannot be used with schedule {schedule!r} and {given or 'defaults'}: {reason}.",
            "Give its arguments as --set optimizer.NAME=VALUE; some take no schedule (--schedule constant); one "
            "that needs more than gradients and the loss cannot be used here.",
        ) from error
    return made


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
