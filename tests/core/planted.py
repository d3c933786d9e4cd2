"""A sound rule that claims what can be claimed, and how a defect is planted in it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.rule import Estimate, feedforward_init, feedforward_predict, objective, true_gradient
from neurai_core.specs import AlgorithmSpec, Config, Relaxes, Variant
from neurai_core.testing import check_algorithm

NAME = "planted"


class Settings(Config):
    """With the defaults, back-propagation."""

    beta: float = Field(0.0, description="relative error of the gradients")
    noise: float = Field(0.0, description="standard deviation of a random relative error, the same for all entries")
    last: bool = Field(False, description="train the last layer only")
    n: int = Field(3, ge=1, description="steps")
    eta: float = Field(0.5, description="step size")
    trace: bool = Field(False, description="report every step")


class Inferred(NamedTuple):
    x: jax.Array


class Generative(NamedTuple):
    """A rule that generates zeros."""

    init: Callable[..., Any]
    estimate: Callable[..., Any]
    predict: Callable[..., Any]
    generate: Callable[..., Any]
    reconstruct: Callable[..., Any]
    infer: Callable[..., Any]
    origin: Any = None


def scaled(grads: Any, factor: Any) -> Any:
    """Every gradient times a number."""
    return jax.tree.map(lambda leaf: (factor * leaf).astype(leaf.dtype), grads)


def definition(config: Settings, loss: Any, model: Any, params: Any, state: Any, batch: Any, *, key: Any = None) -> Any:
    """Back-propagation, with a relative error of beta."""
    if config.noise or config.last:
        raise NotImplementedError("the definition has no noise and trains all layers")
    x, y = batch
    return scaled(jax.grad(lambda theta: loss(model(theta, x), y))(params), 1 + config.beta)


def wrong_definition(*given: Any, **more: Any) -> Any:
    """Another factor."""
    return scaled(definition(*given, **more), 1 + 1e-6)


def build(
    config: Settings,
    *,
    loss: Any,
    accuracy: Any = None,
    has_aux: bool = False,
    defect: Callable[..., Estimate] | None = None,
    functions: dict[str, Any],
    **_: Any,
) -> Generative:
    """The rule; a defect gets the estimate and the settings, functions replace those of the rule."""
    score = objective(loss, accuracy, has_aux)

    def estimate(model: Any, params: Any, state: Any, batch: Any, *, key: Any = None) -> tuple[Estimate, Any]:
        found, state = true_gradient(score, model, params, state, batch, key=key)
        grads = (*scaled(found.grads[:-1], 0), found.grads[-1]) if config.last else found.grads
        noise = config.noise * jax.random.normal(key, ()) if config.noise else 0
        energy = 0.5 ** jnp.arange(config.n + 1) * found.loss
        aux = {**found.aux, "energy": energy[-1]}
        if config.trace:
            aux |= {"energy_trace": energy, "trace": {"free": {"energy": energy, "residual": energy}, "nudged": {}}}
        found = found._replace(grads=scaled(grads, 1 + config.beta + noise), aux=aux)
        return (defect(found, config=config, key=key) if defect else found), state

    def infer(model: Any, params: Any, x: Any = None, y: Any = None, mask: Any = None) -> Inferred:
        return Inferred(jnp.where(mask, x, 0))

    return Generative(
        **{
            "init": feedforward_init,
            "estimate": estimate,
            "predict": feedforward_predict,
            "generate": lambda model, params, y: jnp.zeros((len(y), 4)),
            "reconstruct": lambda model, params, x, layer: jnp.zeros_like(x),
            "infer": infer,
        }
        | functions
    )


def planted(defect: Any = None, functions: Any = None, **spec: Any) -> Plugin:
    """The sound rule, or one with a defect.

    Args:
        defect: ``(estimate, *, config, key) -> estimate``.
        functions: functions of the rule that are others, by name.
        **spec: fields of the spec that are others.
    """
    sound = {
        "claims": ("exact", "precise", "energy", "generative"),
        "variants": (
            Variant(settings={"beta": 0.5}, claims=("limit:beta",)),
            Variant(settings={"noise": 0.5}, claims=("unbiased", "stochastic")),
            Variant(settings={"last": True}, claims=("local",)),
        ),
        "definition": f"{__name__}:definition",
        "relaxes": Relaxes(trace="trace", steps="n", size="eta"),
    }
    sound |= {"name": NAME, "summary": "A rule to test the tests of rules", "config": Settings}
    whole = AlgorithmSpec(**(sound | spec))
    return Plugin(whole, partial(build, defect=defect, functions=functions or {}))


def caught(plugin: Plugin, names: Any = ()) -> dict[str, tuple[str, str]]:
    """The names of the checks that a rule fails, each with its reason and hint."""
    outcomes = check_algorithm(plugin, only=tuple(names))
    return {one.check: (one.reason, one.hint) for one in outcomes if one.status not in ("passed", "skipped")}
