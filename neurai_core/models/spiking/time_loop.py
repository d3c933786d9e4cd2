"""Stages run through time in one loop that stores only the membranes before the reset.

The backward pass goes through the steps in reverse. It recomputes spikes, resets and surrogate derivatives from the
stored membranes, elementwise; currents are never stored and matrix products never repeated, because the derivative of a
step needs neither. For max pooling, the places of its maxima are stored too, one byte each, since they decide where its
derivative goes. With chunks, only the state between chunks is stored, and each chunk is rerun before its backward
pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from neurai_core.arrays import PyTree
from neurai_core.models.spiking.cells import State
from neurai_core.models.spiking.stages import Past, Places, Stage


@dataclass(frozen=True)
class Loop:
    """The static description of a run through time.

    Attributes:
        stages: run one after the other within each step.
        steps: number of steps T.
        axis: the drive's axis of time; None for a drive that is the same at every step.
        projected: whether the drive is the first stage's current rather than the input of its synapses.
        kept: the stages whose membranes are returned.
        chunk: steps of a chunk; None stores the membranes of every step.
        unroll: steps per iteration of the compiled loop.
    """

    stages: tuple[Stage, ...]
    steps: int
    axis: int | None = 0
    projected: bool = False
    kept: tuple[int, ...] = (-1,)
    chunk: int | None = None
    unroll: int = 1


class Numbers(NamedTuple):
    """A surrogate without its arrays: static, so that Python numbers stay constants of the program."""

    treedef: Any
    constants: tuple[Any, ...]

    def surrogate(self, arrays: tuple[jax.Array, ...]) -> Any:
        """The surrogate with its arrays put back."""
        left = iter(arrays)
        return self.treedef.unflatten([next(left) if one is None else one for one in self.constants])


def split_numbers(surrogate: Any) -> tuple[Numbers, tuple[jax.Array, ...]]:
    """A surrogate's static part and its arrays, which may be traced."""
    leaves, treedef = jax.tree.flatten(surrogate)
    constants = tuple(None if hasattr(leaf, "dtype") else leaf for leaf in leaves)
    return Numbers(treedef, constants), tuple(leaf for leaf in leaves if hasattr(leaf, "dtype"))


def run(loop: Loop, surrogate: Any, params: PyTree, drive: jax.Array) -> tuple[State, ...]:
    """Run the stages; reverse-mode differentiable, once or repeatedly.

    Args:
        loop: what to run.
        surrogate: turns potentials into spikes.
        params: one dict per stage; that of a projected first stage needs no ``"input"``.
        drive: the input of the first stage, with its time axis at ``loop.axis``.

    Returns:
        For each kept stage, the entries of its state before the reset that determine its output, each
        ``(T, B, ...)``.
    """
    form, arrays = split_numbers(surrogate)
    return _run(loop, form, arrays, params, drive)


def run_plainly(loop: Loop, surrogate: Any, params: PyTree, drive: jax.Array) -> tuple[State, ...]:
    """The same, differentiated by JAX: forward mode too, and more memory."""
    return _span(loop, surrogate, params, drive, start(loop, params, drive), 0, loop.steps, _seen)[1]


def start(loop: Loop, params: PyTree, drive: jax.Array) -> tuple[Past, ...]:
    """The state of every stage before the first step."""
    below = jax.eval_shape(lambda drive: _at(loop, drive, 0), drive)
    carried = []
    for index, (stage, own) in enumerate(zip(loop.stages, params, strict=True)):
        below = jax.eval_shape(partial(_current, loop, index), own, below)
        carried.append(stage.start(below.shape, below.dtype))
    return tuple(carried)


# ---------------------------------------------------------------------------- forward

Carried = tuple[Past, ...]
Kept = tuple[State, ...]


class Stored(NamedTuple):
    """What the backward pass needs of every step, stage by stage.

    Attributes:
        membranes: the stored entries of the state before the reset.
        places: where max pooling found its maxima.
    """

    membranes: Kept
    places: tuple[Places, ...]


def _at(loop: Loop, drive: jax.Array, t: Any) -> jax.Array:
    if loop.axis is None:
        return drive
    return jax.lax.dynamic_index_in_dim(drive, t, loop.axis, keepdims=False)


def _current(loop: Loop, index: int, own: PyTree, below: jax.Array) -> jax.Array:
    return below if loop.projected and index == 0 else loop.stages[index].project(own, below)


def _step(loop: Loop, surrogate: Any, params: PyTree, carried: Carried, below: jax.Array) -> tuple[Carried, Stored]:
    befores, now, places = [], [], []
    for index, (stage, own, past) in enumerate(zip(loop.stages, params, carried, strict=True)):
        known = loop.projected and index == 0
        current, where = (below, ()) if known else stage.project_and_note(own, below)
        before = stage.charge(own, past, current)
        below, past = stage.fire(own, surrogate, before)
        befores.append(before)
        now.append(past)
        places.append(where)
    return tuple(now), Stored(tuple(befores), tuple(places))


def _seen(loop: Loop, found: Stored) -> Kept:
    """The returned entries of the states."""
    return tuple({name: found.membranes[i][name] for name in loop.stages[i].cell.seen} for i in loop.kept)


def _stored(loop: Loop, found: Stored) -> Stored:
    """The entries that the backward pass needs."""
    pairs = zip(loop.stages, found.membranes, strict=True)
    return Stored(tuple({name: before[name] for name in stage.cell.stored} for stage, before in pairs), found.places)


def _span(
    loop: Loop,
    surrogate: Any,
    params: PyTree,
    drive: jax.Array,
    carried: Carried,
    first: Any,
    n: int,
    keep: Callable[..., Any],
) -> tuple[Carried, Any]:
    """Steps ``first`` to ``first + n - 1``."""

    def body(carried: Carried, k: jax.Array) -> tuple[Carried, Any]:
        carried, found = _step(loop, surrogate, params, carried, _at(loop, drive, first + k))
        return carried, keep(loop, found)

    return jax.lax.scan(body, carried, jnp.arange(n), unroll=loop.unroll)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _run(loop: Loop, form: Numbers, arrays: Any, params: PyTree, drive: jax.Array) -> Kept:
    return run_plainly(loop, form.surrogate(arrays), params, drive)


def _run_forward(loop: Loop, form: Numbers, arrays: Any, params: PyTree, drive: jax.Array) -> tuple[Kept, Any]:
    surrogate, begin = form.surrogate(arrays), start(loop, params, drive)
    if loop.chunk is None:
        _, stored = _span(loop, surrogate, params, drive, begin, 0, loop.steps, _stored)
        return _seen(loop, stored), (arrays, params, drive, stored)
    kept, begins = _chunks(loop, surrogate, params, drive, begin)
    return kept, (arrays, params, drive, begins)


def _chunks(loop: Loop, surrogate: Any, params: PyTree, drive: jax.Array, begin: Carried) -> tuple[Kept, Carried]:
    """The returned entries, and the initial state of each chunk.

    The last chunk runs beyond the end, with the last input; nothing of that is returned, so none of it has a cotangent.
    A separate loop with fewer steps would be compiled differently and round differently.
    """
    length, count = _cut(loop)

    def body(carried: Carried, c: jax.Array) -> tuple[Carried, Any]:
        after, kept = _span(loop, surrogate, params, drive, carried, c * length, length, _seen)
        return after, (carried, kept)

    _, (begins, kept) = jax.lax.scan(body, begin, jnp.arange(count))
    return jax.tree.map(lambda one: one.reshape(-1, *one.shape[2:])[: loop.steps], kept), begins


def _cut(loop: Loop) -> tuple[int, int]:
    """Length and number of the chunks."""
    length = loop.chunk or loop.steps
    return length, -(-loop.steps // length)


# ---------------------------------------------------------------------------- backward


class _Toward(NamedTuple):
    """Cotangents that go backward through time."""

    carried: Any
    params: Any
    arrays: Any


def _run_backward(loop: Loop, form: Numbers, residuals: Any, d_kept: Kept) -> tuple[Any, Any, Any]:
    arrays, params, drive, stored = residuals
    begin = start(loop, params, drive)
    toward = jax.tree.map(jnp.zeros_like, _Toward(begin, params, arrays))
    back = partial(_back, loop, form, arrays, params, drive)
    if loop.chunk is None:
        toward, d_drive = back(toward, begin, stored, d_kept, 0, loop.steps)
    else:
        toward, d_drive = _back_chunks(loop, form.surrogate(arrays), params, drive, toward, stored, d_kept, back)
    d_drive = d_drive.sum(axis=0) if loop.axis is None else jnp.moveaxis(d_drive, 0, loop.axis)
    return toward.arrays, toward.params, d_drive


def _back_chunks(
    loop: Loop, surrogate: Any, params: PyTree, drive: Any, toward: _Toward, begins: Carried, d_kept: Kept, back: Any
) -> tuple[_Toward, jax.Array]:
    """Rerun each chunk, from the last to the first."""
    length, count = _cut(loop)
    beyond = length * count - loop.steps
    padded = jax.tree.map(lambda one: jnp.pad(one, ((0, beyond), *[(0, 0)] * (one.ndim - 1))), d_kept)
    parts = jax.tree.map(lambda one: one.reshape(count, length, *one.shape[1:]), padded)

    def body(toward: _Toward, at: Any) -> tuple[_Toward, jax.Array]:
        c, begin, part = at
        _, stored = _span(loop, surrogate, params, drive, begin, c * length, length, _stored)
        return back(toward, begin, stored, part, c * length, length)

    toward, d_drive = jax.lax.scan(body, toward, (jnp.arange(count), begins, parts), reverse=True)
    return toward, d_drive.reshape(-1, *d_drive.shape[2:])[: loop.steps]


def _back(
    loop: Loop, form: Numbers, arrays: Any, params: PyTree, drive: jax.Array,
    toward: _Toward, begin: Carried, stored: Stored, d_kept: Kept, first: Any, n: int,
) -> tuple[_Toward, jax.Array]:  # fmt: skip
    """Steps ``first + n - 1`` down to ``first``; returns the cotangent of the drive too, time first."""
    surrogate = form.surrogate(arrays)

    def recalled(k: Any) -> Kept:
        one = jax.tree.map(partial(_of_step, k), stored.membranes)
        return tuple(stage.cell.recall(before) for stage, before in zip(loop.stages, one, strict=True))

    def past(k: jax.Array) -> Carried:
        """The input of step k, recomputed from the membranes of the previous step."""
        steps = zip(loop.stages, params, recalled(jnp.maximum(k - 1, 0)), strict=True)
        before = tuple(stage.fire(own, surrogate, one)[1] for stage, own, one in steps)
        return jax.tree.map(lambda given, told: jnp.where(k == 0, given, told), begin, before)

    def body(toward: _Toward, at: Any) -> tuple[_Toward, jax.Array]:
        k, d_seen = at
        below, places = _at(loop, drive, first + k), jax.tree.map(partial(_of_step, k), stored.places)
        return _back_step(loop, form, arrays, params, below, toward, past(k), recalled(k), places, d_seen)

    return jax.lax.scan(body, toward, (jnp.arange(n), d_kept), reverse=True, unroll=loop.unroll)


def _of_step(k: Any, all_steps: jax.Array) -> jax.Array:
    return jax.lax.dynamic_index_in_dim(all_steps, k, keepdims=False)


def _back_step(
    loop: Loop, form: Numbers, arrays: Any, params: PyTree, below: jax.Array,
    toward: _Toward, past: Carried, befores: Kept, places: tuple[Places, ...], d_seen: Kept,
) -> tuple[_Toward, jax.Array]:  # fmt: skip
    """One step backward, stage by stage from the last to the first."""
    inputs, fires = _fires(loop, form, arrays, params, below, befores)
    d_past, d_params, d_arrays = map(list, toward)
    outer = dict(zip((i % len(loop.stages) for i in loop.kept), d_seen, strict=True))
    d_out: Any = None
    for i in reversed(range(len(loop.stages))):
        d_fire = (d_out, d_past[i]) if d_out is not None else d_past[i]
        d_own, d_number, d_before = fires[i](d_fire)
        d_before = {name: d + outer[i][name] if name in outer.get(i, {}) else d for name, d in d_before.items()}
        charge = partial(_charge, loop, i, places[i])
        _, charged = jax.vjp(charge, params[i], past[i], inputs[i])
        d_charge, d_past[i], d_out = charged(d_before)
        d_params[i] = jax.tree.map(lambda total, a, b: total + (a + b), d_params[i], d_own, d_charge)
        d_arrays = jax.tree.map(jnp.add, d_arrays, list(d_number))
    return _Toward(tuple(d_past), tuple(d_params), tuple(d_arrays)), d_out


def _charge(loop: Loop, i: int, places: Places, own: PyTree, past: Past, below: jax.Array) -> State:
    stage = loop.stages[i]
    current = below if loop.projected and i == 0 else stage.project_by(own, below, places)
    return stage.charge(own, past, current)


def _fires(
    loop: Loop, form: Numbers, arrays: Any, params: PyTree, below: jax.Array, befores: Kept
) -> tuple[list[jax.Array], list[Any]]:
    """Every stage's input at this step, and the map from cotangents of its output and state to its membrane.

    The last stage's output leaves the loop through its membrane, so only its past has a cotangent.
    """

    def fire(stage: Stage, last: bool, own: PyTree, arrays: Any, before: State) -> Any:
        output, past = stage.fire(own, form.surrogate(arrays), before)
        return past if last else (output, past)

    inputs, fires = [below], []
    for i, (stage, own, before) in enumerate(zip(loop.stages, params, befores, strict=True)):
        last = i == len(loop.stages) - 1
        fired, back = jax.vjp(partial(fire, stage, last), own, arrays, before)
        fires.append(back)
        if not last:
            inputs.append(fired[0])
    return inputs, fires


_run.defvjp(_run_forward, _run_backward)
