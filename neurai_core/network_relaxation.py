"""Relaxation of networks: free activities descend on, or sample from, an energy. Parameters do not learn here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from neurai_core import relaxation
from neurai_core.arrays import PyTree, Scalar, check_at_least_zero, normal, whole_number, wide_float
from neurai_core.errors import DataError, SettingsError, UsageError
from neurai_core.network import Activities, Network, check_names
from neurai_core.rising import watched_descent
from neurai_core.terms import NetworkEnergy

CLIMB = 0.01  # fraction of the initial energy by which it may rise without a warning


class Relaxed(NamedTuple):
    """The result of a relaxation; see `relax`.

    Attributes:
        activities: all activities by name, including held ones.
        energy: the energy of every name before each step and at the end, ``(n + 1,)``; if ``tol`` ended the relaxation,
            the final value is repeated.
        steps: number of steps taken, an int32 scalar.
        change: root mean square change per element of the last step; nan if ``tol`` is 0.
        dead: for every activity that is at least partly free, the fraction of its free entries that are equal in all
            examples at the end: a latent that nothing moves, or a rectified unit that is never active. The batch axis
            is assumed to be the first one, after those of loops; for a single example all entries count.
    """

    activities: dict[str, jax.Array]
    energy: dict[str, jax.Array]
    steps: Scalar
    change: Scalar
    dead: dict[str, Scalar]


def relax(
    network: Network,
    params: PyTree,
    x: PyTree,
    *,
    start: Activities | None = None,
    held: Mapping[str, Any] | None = None,
    energy: NetworkEnergy | None = None,
    corrector: optax.GradientTransformation | None = None,
    key: jax.Array | None = None,
    eta: Any = None,
    n: int = 20,
    tol: Any = 0.0,
) -> Relaxed:
    """Move the free activities of a network down an energy, all at once.

        v_k <- v_k - eta dF/dv_k        for all names k at once, where ``held`` is not set

    Args:
        network: from `network_of`.
        params: parameters.
        x: inputs ``(B, ...)``.
        start: activities by name; the others start at the values that the network computes from these.
        held: by name, whether an activity stays at its start: True, or a mask that broadcasts to its shape, True
            for entries that stay. Known values are held (clamped); unknown ones are free.
        energy: the energy; None for half squared errors of weight 1.
        corrector: an optax transformation that replaces plain descent, such as ``optax.adam(0.05)`` or `langevin`. It
            gets the activities, and a key for each step as ``key``.
        key: PRNG key, for a random corrector.
        eta: step of plain descent, a number or an optax schedule over the steps; None for 0.1. A corrector has its
            own.
        n: number of steps.
        tol: stop once the root mean square change per element is below this; 0 takes all steps, and only then can the
            relaxation be differentiated in reverse.

    Returns:
        A `Relaxed`.

    Warns:
        RisingEnergy: the energy ends more than 1 % above its initial value, or is not finite. Steps around the kink of
            a sparse prior may raise it by less. A random corrector may climb, so there is no warning if a key is given.

    Raises:
        DataError: a start or a mask has an unknown name or the wrong shape, everything is held, or ``start`` or
            ``held`` is not a dictionary.
        SettingsError: n is not an integer, eta or the corrector has the wrong type, both are given, or tol is
            negative.

    Example:
        >>> from neurai_core.network import activity, network_of
        >>> def model(params, x):
        ...     h = activity(x @ params[0], "h")
        ...     return activity(h @ params[1], "y")
        >>> params, x = (jnp.ones((2, 3)), jnp.ones((3, 1))), jnp.ones((4, 2))
        >>> network = network_of(model, params, x)
        >>> relaxed = relax(network, params, x, start={"y": jnp.zeros((4, 1))}, held={"y": True}, n=100)
        >>> [round(float(h), 3) for h in relaxed.activities["h"][0]]
        [0.5, 0.5, 0.5]
    """
    energy = NetworkEnergy() if energy is None else energy
    n = _checked_steps(n)
    _check_mover(eta, corrector, tol)
    activities, counts = _start(network, params, x, {} if start is None else start)
    energy.check(counts)
    masks = _masks({} if held is None else held, activities)
    free = {name: value for name, value in activities.items() if masks.get(name) is not True}
    fixed = {name: value for name, value in activities.items() if name not in free}
    mover = optax.with_extra_args_support(optax.sgd(0.1 if eta is None else eta) if corrector is None else corrector)

    def shares(free: Activities) -> tuple[Scalar, dict[str, Scalar]]:
        everything = {**fixed, **free}
        found = energy.by_name(network(params, x, everything)[1], everything)
        return sum(found.values(), start=jnp.zeros(())), found

    def step(t: Scalar, state: _State) -> _State:
        slope, found = jax.grad(shares, has_aux=True)(state.free)
        trace = jax.tree.map(lambda all, one: all.at[t].set(one), state.trace, found)
        drawn = {} if key is None else {"key": jax.random.fold_in(key, t)}
        updates, carry = mover.update(_masked(slope, masks), state.carry, state.free, **drawn)
        # Masked again: a corrector may move entries without a slope, by noise or by decay.
        return _State(optax.apply_updates(state.free, _masked(updates, masks)), carry, trace)

    trace = {name: jnp.zeros(n + 1, share.dtype) for name, share in jax.eval_shape(shares, free)[1].items()}
    begun = _State(free, mover.init(free), trace)
    ended = relaxation.relax(step, begun, n, tol=tol, moving=lambda state: state.free)
    last = shares(ended.state.free)[1]
    rest = jnp.arange(n + 1) >= ended.steps  # the end, and steps that tol has saved
    trace = jax.tree.map(lambda all, one: jnp.where(rest, one, all), ended.state.trace, last)
    relaxed = Relaxed(
        {**activities, **ended.state.free}, trace, ended.steps, ended.change, _dead(network, ended.state.free, masks)
    )
    if key is not None:  # samples climb, too
        return relaxed
    total = sum(trace.values(), start=jnp.zeros(n + 1))
    climb = total[-1] - total[0] - CLIMB * jnp.abs(total[0])
    return Relaxed(*watched_descent(climb, total[0], relaxed))


def _dead(network: Network, free: Activities, masks: Mapping[str, Any]) -> dict[str, Scalar]:
    """The fraction of entries that are equal in all examples, among those that are free in any."""

    def share(name: str, value: jax.Array) -> Scalar:
        batch = network.loops[name]
        first = value[(slice(None),) * batch + (slice(1),)]
        equal = jnp.all(value == first, batch)
        held = jnp.broadcast_to(masks.get(name, False), value.shape)
        return jnp.mean(equal, dtype=float, where=~jnp.all(held, batch))

    return {name: share(name, value) for name, value in free.items()}


class _State(NamedTuple):
    """The state carried from step to step."""

    free: Activities
    carry: PyTree
    trace: dict[str, jax.Array]


def _start(network: Network, params: PyTree, x: PyTree, start: Activities) -> tuple[Activities, dict[str, int]]:
    """The initial activities, in at least float32, and the number of predictions of each."""
    _check_by_name("start", start, "start={'y': targets}")
    start = {name: jnp.asarray(value) for name, value in start.items()}
    _, predictions = network(params, x, start)
    begun = {name: start.get(name, found[0]).astype(wide_float(found[0].dtype)) for name, found in predictions.items()}
    return begun, {name: len(found) for name, found in predictions.items()}


def _masks(held: Mapping[str, Any], activities: Activities) -> dict[str, Any]:
    """Masks by name: True if all entries are held, missing if none are.

    Raises:
        DataError: a mask does not fit, or nothing is free.
    """
    _check_by_name("held", held, "held={'y': True}")
    check_names(held, activities, "The masks of `held`")
    masks = {name: _mask(name, mask, activities[name]) for name, mask in held.items()}
    if all(masks.get(name) is True for name in activities):
        raise DataError(
            f"All activities are held ({', '.join(activities)}), so nothing can relax.",
            hint="Leave one out of `held`, or give a mask that is False where an entry is free.",
        )
    return {name: mask for name, mask in masks.items() if mask is not False}


def _mask(name: str, mask: Any, activity: jax.Array) -> Any:
    dtype, shape = jnp.result_type(mask), jnp.shape(mask)
    if dtype != jnp.bool_:
        raise DataError(f"The mask of {name!r} is of type {dtype}, expected booleans: True where it is held.")
    pairs = zip(shape[::-1], activity.shape[::-1], strict=False)
    if len(shape) > activity.ndim or any(a not in (1, b) for a, b in pairs):
        raise DataError(
            f"The mask of {name!r} has shape {shape}, which does not broadcast to that of the activity, "
            f"{activity.shape}."
        )
    if isinstance(mask, jax.core.Tracer):
        return mask
    known = np.asarray(mask)
    return bool(known.flat[0]) if known.size and (known.all() or not known.any()) else jnp.asarray(mask)


def _masked(changes: Activities, masks: Mapping[str, Any]) -> dict[str, jax.Array]:
    """Changes, with zeros for held entries."""
    return {name: jnp.where(masks[name], 0, c) if name in masks else c for name, c in changes.items()}


def _checked_steps(n: Any) -> int:
    steps = whole_number(n)
    if steps is None or steps < 0:
        raise SettingsError(f"n={n!r}, expected a whole number of steps, 0 or more.")
    return steps


def _check_mover(eta: Any, corrector: Any, tol: Any) -> None:
    if isinstance(eta, str):
        raise SettingsError(
            f"eta={eta!r} is text, expected a number or a schedule such as optax.cosine_decay_schedule."
        )
    if corrector is not None and not hasattr(corrector, "update"):
        raise SettingsError(f"corrector={corrector!r}, expected an optax transformation such as optax.adam(0.05).")
    if corrector is not None and eta is not None:
        raise SettingsError(
            f"eta={eta!r} is the step of plain descent, and a corrector has its own: only one of them can be given.",
            "For instance corrector=optax.adam(0.05) or corrector=neurai.langevin(0.01), without eta.",
        )
    check_at_least_zero("The relaxation", tol=tol)


def _check_by_name(what: str, given: Any, example: str) -> None:
    if not isinstance(given, Mapping):
        raise DataError(
            f"`{what}` is a {type(given).__name__}, expected a dictionary by name.", hint=f"For instance {example}."
        )


# ---------------------------------------------------------------------------- sampling


class LangevinState(NamedTuple):
    """State of `langevin`: the number of steps taken."""

    steps: Scalar


def langevin(eta: Any, temperature: Any = 1.0) -> optax.GradientTransformationExtraArgs:
    r"""A corrector that samples from ``exp(-F / temperature)``: unadjusted Langevin dynamics.

        v <- v - eta dF/dv + sqrt(2 eta temperature) xi ,   xi normal

    The finite step makes the samples wider than the density: for a Gaussian of precision k their variance is
    ``temperature / (k (1 - eta k / 2))``.

    Args:
        eta: step, a number or an optax schedule over the steps.
        temperature: a number or an optax schedule; 0 is plain descent.

    Raises:
        SettingsError: eta or the temperature is negative.
        UsageError: on use, if no key is given.

    Example:
        >>> from neurai_core.network import activity, network_of
        >>> network = network_of(lambda params, x: activity(params * x, "h"), jnp.zeros(()), jnp.ones((20000, 1)))
        >>> x, key = jnp.ones((20000, 1)), jax.random.key(0)
        >>> samples = relax(network, jnp.zeros(()), x, corrector=langevin(0.2), key=key, n=30).activities["h"]
        >>> round(float(samples.var()), 1)
        1.1
    """

    check_at_least_zero("langevin", eta=eta, temperature=temperature)

    def at(value: Any, steps: Scalar) -> Any:
        return value(steps) if callable(value) else value

    def init(params: PyTree) -> LangevinState:
        return LangevinState(jnp.zeros((), jnp.int32))

    def update(
        updates: PyTree, state: LangevinState, params: PyTree = None, *, key: Any = None, **extra: Any
    ) -> tuple[PyTree, LangevinState]:
        if key is None:
            raise UsageError("langevin draws from a key and none was given.", "Pass one: relax(..., key=key).")
        step = at(eta, state.steps)
        width = jnp.sqrt(2 * step * at(temperature, state.steps))
        leaves, tree = jax.tree.flatten(updates)
        keys = jax.random.split(key, len(leaves))
        moved = [-step * g + width * normal(k, g.shape, g.dtype) for k, g in zip(keys, leaves, strict=True)]
        return jax.tree.unflatten(tree, moved), LangevinState(state.steps + 1)

    return optax.GradientTransformationExtraArgs(init, update)
