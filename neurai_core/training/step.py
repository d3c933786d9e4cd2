"""The compiled training step and the state that it carries.

The whole training set is on the device, where the step gathers its batch and sums losses, or it gets its batch from the
host. A non-finite loss is detected at its step, and the last parameters with a finite loss are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

from neurai_core import contract
from neurai_core.arrays import PyTree, Scalar, shape_text
from neurai_core.errors import ModelError
from neurai_core.rising import unwatched
from neurai_core.rule import Estimate, initial_state
from neurai_core.training.devices import on_every_device, place_params, shardings, split_over_devices, split_rows
from neurai_core.training.host_data import on_device
from neurai_core.training.split import is_split
from neurai_core.training.starting import at_once, folded
from neurai_core.training.stream import Stream
from neurai_core.training.task import Task


class Snapshot(NamedTuple):
    """Parameters with the state that goes with them: the last that had a finite loss, or those at the end."""

    params: PyTree
    state: PyTree


class Progress(NamedTuple):
    """The state of training: together with the settings, it determines all that follows, bit for bit.

    Attributes:
        params: the parameters.
        opt_state: the optimizer's state.
        state: the rule's state.
        step: number of steps done.
        totals: sums over the epoch so far of loss, accuracy and all scalars that the rule reports.
        last: loss and accuracy of the last step.
        bad: the first step whose loss was not finite; -1 if there was none.
        last_finite: the parameters to keep if a loss is not finite.
    """

    params: PyTree
    opt_state: PyTree
    state: PyTree
    step: Scalar
    totals: dict[str, Scalar]
    last: tuple[Scalar, Scalar]
    bad: Scalar
    last_finite: Snapshot


def begin(task: Task) -> Progress:
    """The initial progress: the task's parameters, fresh states, and no step done.

    Raises:
        PluginError: the rule breaks its contract; found without computing.
    """
    started: Progress = at_once(start_function(task), task.params, task.model_state, np.int64(task.seed))
    return placed(task, started)


def placed(task: Task, progress: Progress) -> Progress:
    """The progress on the devices of the task."""
    on_devices: Progress = place_params(task.mesh, progress, task.shard)
    return on_devices


def start_function(task: Task) -> Callable[..., Progress]:
    """The initial progress as a pure function ``(params, model_state, seed) -> progress``.

    Raises:
        PluginError: the rule breaks its contract; found without computing.
    """
    problem = task.problem
    _, found = contract.check(task.rule, task.model, task.params, task.model_state, *problem)

    def start(params: PyTree, model_state: PyTree, seed: Any) -> Progress:
        key = folded(seed, 1)
        state = initial_state(task.rule, task.model, params, key=key, model_state=model_state, problem=problem)
        zero = jnp.zeros(())
        return _copied(
            Progress(
                params=params,
                opt_state=task.optimizer.init(params),
                state=state,
                step=jnp.int32(0),
                totals=dict.fromkeys(_reported(found), zero),
                last=(zero, zero),
                bad=jnp.int32(-1),
                last_finite=Snapshot(params, state),
            )
        )

    return start


def compiled(task: Task, progress: Progress) -> Callable[..., Progress]:
    """Compile the step: ``(progress, x, y, rows) -> progress``; ``(progress, x, y) -> progress`` for data on the host.

    The progress passed in is donated. The step of a stream is compiled again for a batch of another size.

    Raises:
        ModelError: the optimizer changes the form of the parameters or of its state.
    """
    data = task.data
    step = jax.jit(step_function(task), donate_argnums=0, out_shardings=shardings(task.mesh, progress, task.shard))
    if isinstance(data, Stream):
        check_closed(progress, step.trace(progress, *task.problem.batch).out_info)
        return step
    if on_device(data):
        everywhere = on_every_device(task.mesh)
        rows = np.zeros(rows_used(task), np.int32)
        given = [_shape_of(part, everywhere) for part in (data.x_train, data.y_train, rows)]
    else:
        given = [_shape_of(part, split_over_devices(task.mesh)) for part in task.problem.batch]
    traced = step.trace(progress, *given)
    check_closed(progress, traced.out_info)
    return traced.lower().compile()


def step_function(task: Task) -> Callable[..., Progress]:
    """One step of training as a pure function ``(progress, x, y, rows) -> progress``.

    ``rows`` is the order of the epoch, ``(steps * batch_size,)``; x and y are the whole training set. Without rows,
    they are the batch.
    """

    def step(progress: Progress, x: jax.Array, y: jax.Array, rows: jax.Array | None = None) -> Progress:
        position = progress.step % task.epoch_steps
        if rows is None:
            batch = (x, y)
        else:
            batch_rows = jax.lax.dynamic_slice(rows, (position * task.batch_size,), (task.batch_size,))
            batch = (x[batch_rows], y[batch_rows])
        estimate, state = _estimated(task, progress, split_rows(task.mesh, batch))
        reported = {name: jnp.asarray(value, jnp.zeros(()).dtype) for name, value in _reported(estimate).items()}
        updates, opt_state = task.optimizer.update(
            estimate.grads, progress.opt_state, progress.params, value=estimate.loss
        )
        finite = jnp.isfinite(estimate.loss) & (progress.bad < 0)
        return Progress(
            params=optax.apply_updates(progress.params, updates),
            opt_state=opt_state,
            state=state,
            step=progress.step + 1,
            totals={
                name: jnp.where(position == 0, 0.0, total) + reported[name] for name, total in progress.totals.items()
            },
            last=(reported["train_loss"], reported["train_accuracy"]),
            bad=jnp.where(finite | (progress.bad >= 0), progress.bad, progress.step),
            last_finite=_choose(finite, Snapshot(progress.params, progress.state), progress.last_finite),
        )

    return step


def saved(progress: Progress) -> PyTree:
    """The contents of a checkpoint: everything but ``last_finite``."""
    return progress._asdict() | {"last_finite": ()}


def kept(progress: Progress, *, writes: bool = True) -> PyTree:
    """`saved`, `whole` and in memory of its own, for a thread that writes it while training goes on."""
    return whole(jax.jit(_copied)(saved(progress)), writes=writes)


def whole(tree: PyTree, *, writes: bool = True) -> PyTree:
    """The tree with arrays that are spread over several processes put together on the host of the one that writes.

    All processes have to ask for it. Arrays are put together one after another, so that no device holds two of them.
    """

    def put_together(leaf: Any) -> Any:
        if not is_split(leaf):
            return leaf
        where = NamedSharding(leaf.sharding.mesh, PartitionSpec())
        found = jax.jit(_copied, out_shardings=where)(leaf).block_until_ready()
        return np.asarray(found) if writes else leaf

    return jax.tree.map(put_together, tree)


def restored(task: Task, tree: PyTree) -> Progress:
    """The progress stored in a checkpoint, on the devices of the task and in memory of its own."""
    progress = Progress(**tree | {"last_finite": Snapshot(tree["params"], tree["state"])})
    return cast(Progress, jax.jit(_copied)(progress)) if task.mesh is None else placed(task, progress)


def rows_used(task: Task) -> int:
    """Number of training rows that one epoch uses: those that fill batches."""
    return task.epoch_steps * task.batch_size


# ---------------------------------------------------------------------------- parts of a step


def _estimated(task: Task, progress: Progress, batch: PyTree) -> tuple[Estimate, PyTree]:
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(task.seed), 2), progress.step)
    with unwatched():  # `fit` uses the mean over the epoch
        found: tuple[Estimate, PyTree] = task.rule.estimate(task.model, progress.params, progress.state, batch, key=key)
    return found


def _reported(estimate: Estimate) -> dict[str, Any]:
    """Every scalar that an estimate reports, by name."""
    scalars = {
        f"aux/{jax.tree_util.keystr(path, simple=True, separator='/')}": leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(estimate.aux)
        if jax.typeof(leaf).shape == () and jnp.issubdtype(jax.typeof(leaf).dtype, jnp.number)
    }
    return {"train_loss": estimate.loss, "train_accuracy": estimate.accuracy} | scalars


def _choose(condition: Scalar, yes: PyTree, no: PyTree) -> PyTree:
    return jax.tree.map(lambda one, other: jnp.where(condition, one, other), yes, no)


def check_closed(before: Progress, after: Progress) -> None:
    """Check that a step preserves the form of its state; for the rule, its contract ensures that."""
    for what in ("params", "opt_state", "state"):
        given, got = (jax.tree.map(_shape_of, getattr(one, what)) for one in (before, after))
        if given != got:
            raise ModelError(
                f"A step of the optimizer turns {what} {_text(given)} into {_text(got)}.",
                "Use parameters and settings of the optimizer of one dtype.",
            )


def _copied(progress: PyTree) -> PyTree:
    """Copies of all arrays, in memory that nothing else uses, because a step donates its arguments."""
    copied: PyTree = jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), progress)
    return copied


def _shape_of(leaf: Any, where: Any = None) -> jax.ShapeDtypeStruct:
    # Data of numpy may be wider than JAX takes them; the dtypes of JAX, keys included, are as they should be.
    dtype = jax.dtypes.canonicalize_dtype(leaf.dtype) if isinstance(leaf, np.ndarray) else leaf.dtype
    return jax.ShapeDtypeStruct(np.shape(leaf), dtype, sharding=where)


def _text(tree: PyTree) -> str:
    text = shape_text(tree)
    return text if len(text) < 200 else f"{text[:200]}..."
