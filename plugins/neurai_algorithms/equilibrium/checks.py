"""Errors and warnings of equilibrium propagation: settings, functions and models that cannot work."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from neurai_algorithms.equilibrium.costs import SQUARED, SUMS, Cost
from neurai_algorithms.equilibrium.energies import Gaussian
from neurai_algorithms.equilibrium.spec import CLAMPED, ONE_SIDED, EPConfig, EPMode
from neurai_core.adapting import Undivided
from neurai_core.arrays import Elementwise, PyTree, Scalar
from neurai_core.energy import Block, Energy
from neurai_core.errors import ModelError, SettingsError, UsageError
from neurai_core.losses import cross_entropy
from neurai_core.rule import Objective

DRIFT = 1e-2  # fraction of the distance from rest that may remain after a free phase before one-sided estimates suffer


def check_settings(
    config: EPConfig,
    loss: Callable[..., Any],
    energy: Energy,
    init: str,
    schedule: Callable[[Scalar], Scalar] | None = None,
) -> None:
    """Reject settings that cannot work and warn about those that do not learn; traced numbers pass.

    Raises:
        SettingsError: a branch of the nudge has no energy minimum.

    >>> from neurai_core.losses import squared_error
    >>> from neurai_algorithms.equilibrium.energies import energy_of
    >>> check_settings(EPConfig(energy="hopfield", dt=0.5), squared_error, energy_of("hopfield"), "zeros")
    """
    if energy.activation_last and loss in SQUARED and isinstance(config.beta, float) and _lowest(config) <= -1:
        raise SettingsError(
            f"beta: mode {config.mode} with beta={config.beta:g} nudges by {_lowest(config):g}, and with the squared "
            "error the energy 'hopfield' has no minimum at -1 and below.",
            "Use a beta between 0.1 and 0.5.",
        )
    skipped = energy.settled_by_feedforward and init == "feedforward"
    fixed = isinstance(config.dt, float) and isinstance(config.tau, float) and schedule is None
    if config.mode not in ONE_SIDED or skipped or not fixed:
        return
    kept = abs(1 - config.dt / config.tau) ** config.n_relax
    if kept > DRIFT:
        warnings.warn(
            f"EP: after n_relax={config.n_relax} steps of dt/tau={config.dt / config.tau:g} a free phase keeps about "
            f"{kept:.0%} of its distance from rest, and mode {config.mode} divides that drift by beta. Use "
            "dt=0.5, or mode='symmetric' or 'two_phase_matched', in which it cancels.",
            stacklevel=5,
        )


def _lowest(config: EPConfig) -> float:
    """The most negative real nudge."""
    strength = abs(config.beta)
    if config.mode in (EPMode.SYMMETRIC, EPMode.RICHARDSON, EPMode.RANDOM_SIGN):
        return -strength
    if config.mode == EPMode.HOLOMORPHIC and config.n_points % 2 == 0:
        return -strength
    return config.beta if config.mode not in CLAMPED else 0.0


def check_coordinates(config: EPConfig, energy: Energy, activation: Elementwise | None) -> None:
    """Reject settings that do not go with error coordinates.

    Raises:
        SettingsError: there is one.

    >>> check_coordinates(EPConfig(coordinates="errors"), Gaussian(), None)
    """
    if config.coordinates == "activities":
        return
    works = [mode for mode in EPMode if mode not in {*CLAMPED, EPMode.HOLOMORPHIC, EPMode.CONTINUAL}]
    reasons = {
        f"mode {config.mode}": (config.mode not in works, f"Modes that work: {', '.join(works)}."),
        "this energy": (type(energy) is not Gaussian, "Use energy='gaussian', which consists of errors."),
        "linearized": (config.linearized, "Leave it out."),
        f"order {config.order}": (config.order != "synchronous", "Use order='synchronous'."),
        "fuse": (config.fuse, "Leave it out: where errors are counted hardly matters to them."),
        "activation": (activation is not None, "Leave it out, and write the function into the model."),
    }
    for what, (wrong, hint) in reasons.items():
        if wrong:
            raise SettingsError(f"EP: coordinates='errors' and {what} cannot be combined.", hint=hint)


def check_network(config: EPConfig, energy: Energy, activation: Elementwise | None, model: Any) -> None:
    """Reject settings that have no meaning on a network of named values.

    Args:
        config: settings.
        energy: the energy that activities descend on.
        activation: replaces the model's own; None keeps those.
        model: the network.

    Raises:
        ModelError: the energy needs layers.
        SettingsError: another setting does.

    >>> check_network(EPConfig(), Gaussian(), None, model=None)
    """
    if type(energy) is not Gaussian:
        reason = f"{model.reason.message} " if isinstance(model, Undivided) else ""
        named = config.energy if config.energy != "gaussian" else type(energy).__name__
        raise ModelError(
            f"{reason}EP: the energy {named!r} needs a model in layers, and this one is a network of named values.",
            hint="Build the model from layers, or use energy='gaussian', which takes any network of named values.",
        )
    if config.mode == EPMode.HOLOMORPHIC:
        works = ", ".join(mode for mode in EPMode if mode != EPMode.HOLOMORPHIC)
        raise SettingsError(
            "EP: mode holomorphic needs complex activities, and the named values of a network are real.",
            hint=f"Modes that work: {works}; richardson is the most accurate of them.",
        )
    if config.order != "synchronous":
        raise SettingsError(
            f"EP: order {config.order} moves every other layer in turn, and a network of named values has no layers.",
            hint="Use order='synchronous'.",
        )
    if activation is not None:
        raise SettingsError(
            "EP: activation replaces the activations of layers, and a network of named values has no layers.",
            hint="Leave it out, and write the function into the model.",
        )
    if config.fuse:
        raise SettingsError(
            "EP: fuse=True joins layers, and a network of named values has no layers.",
            hint="Name only the values that are activities.",
        )


def check_elementwise(activation: Elementwise) -> None:
    """Check by trial that a function is elementwise.

    Raises:
        ModelError: it is not.

    >>> check_elementwise(jnp.tanh)
    """
    reason = _not_elementwise(activation)
    if reason:
        raise ModelError(
            f"The activation {_name(activation)} is not elementwise: {reason}.",
            hint="Take a function of single numbers, such as jnp.tanh; softmax belongs in the loss.",
        )


@lru_cache(maxsize=256)
def _not_elementwise(activation: Elementwise) -> str:
    entries = np.array([[-1.5, -0.2, 0.3], [0.7, 1.1, 2.0]])
    with jax.ensure_compile_time_eval():
        try:
            together = np.asarray(activation(jnp.asarray(entries)))
            alone = np.asarray([[activation(jnp.full((1, 1), e))[0, 0] for e in row] for row in entries])
        except (TypeError, ValueError, IndexError) as error:
            return (str(error).strip() or type(error).__name__).splitlines()[0]
    if together.shape != entries.shape:
        return f"it turns shape {entries.shape} into {together.shape}"
    return "" if np.allclose(together, alone, rtol=1e-4, atol=1e-5) else "an entry depends on its neighbors"


def check_holomorphic(blocks: Sequence[Block], cost: Cost, outputs: jax.Array) -> None:
    """Check that maps have no maxima and, by trial, that activations and loss have a complex derivative.

    A holomorphic function is the mean of its values on a circle around a point. Neither a kink nor a
    conjugation has that property.

    Args:
        blocks: of the chain; only those behind the first see complex numbers.
        cost: the cost of the batch; known losses are not tried.
        outputs: shape and dtype of the outputs.

    Raises:
        UsageError: one of them does not.
    """
    for block in blocks[1:]:
        if not block.affine and not block.obstacle:
            raise UsageError(
                f"EP: mode holomorphic needs holomorphic maps, and that of {block.name} takes a maximum.",
                hint="Use avg_pool, or mode symmetric or richardson, which need no complex numbers.",
            )
    for block in blocks:
        if not _analytic(block.rho):
            raise UsageError(
                f"EP: mode holomorphic needs a holomorphic activation, and {_name(block.rho)} is not.",
                hint="Use sigmoid or tanh, or mode symmetric or richardson, which need no complex numbers.",
            )
    if not _analytic_loss(cost.loss, cost.score, outputs, cost.y):
        raise UsageError(
            f"EP: mode holomorphic needs a holomorphic loss, and {_name(cost.loss)} is not.",
            hint="Use squared_error, mse or cross_entropy, or mode symmetric or richardson.",
        )


_CIRCLE = 0.25 * np.exp(2j * np.pi * np.arange(16) / 16)


@lru_cache(maxsize=256)
def _analytic(function: Callable[[jax.Array], jax.Array]) -> bool:
    centers = np.linspace(-3, 3, 49)
    with jax.ensure_compile_time_eval():
        try:
            around = np.asarray(function(jnp.asarray(centers[:, None] + _CIRCLE)))
            inside = np.asarray(function(jnp.asarray(centers + 0j)))
        except (TypeError, ValueError, NotImplementedError):
            return False
    return bool(np.allclose(around.mean(axis=1), inside, rtol=1e-4, atol=1e-4))


def _analytic_loss(loss: Callable[..., Any], score: Objective, outputs: jax.Array, y: PyTree) -> bool:
    if loss in (cross_entropy, *SUMS, *SQUARED):
        return True
    direction = np.cos(np.arange(outputs.size)).reshape(outputs.shape)
    with jax.ensure_compile_time_eval():
        targets = jnp.zeros(y.shape, y.dtype)

        def along(t: jax.Array) -> jax.Array:
            return jnp.stack([score.loss(direction * one, targets)[0] for one in t.ravel()]).reshape(t.shape)

        try:
            values = np.asarray(along(jnp.asarray(np.append(_CIRCLE, 0))))
            jax.eval_shape(jax.grad(along, holomorphic=True), jnp.asarray(_CIRCLE[0]))  # some have a value only
        except (TypeError, ValueError, NotImplementedError):
            return False
    return bool(np.allclose(values[:-1].mean(), values[-1], rtol=1e-4, atol=1e-4))


def _name(function: Any) -> str:
    function = getattr(function, "func", function)
    return getattr(function, "__name__", None) or type(function).__name__
