"""Where the arrays of a run are: on one device, or on several that share every batch.

The devices form a mesh with one automatic axis, over which the rows of every batch are split. Everything else is on all
of them; large parameters, with what the optimizer keeps for them, may be split as well. A program says what one device
would compute, and XLA divides the work and adds up over devices: no rule and no loss knows how many there are.

All functions take the mesh first. Without one they do what JAX does without being told: they use its default device.
Arrays are built from the rows that each process asks for, so the mesh may span several processes.
"""

from __future__ import annotations

import math
from typing import Any, Literal, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from neurai_core.arrays import PyTree, Shape
from neurai_core.errors import DataError, SettingsError, UsageError

AXIS = "data"  # of the mesh
SMALL = 2**16  # entries: arrays with fewer are on every device

Shard = Literal["params"] | None


def mesh_of(devices: int | str | None) -> Mesh | None:
    """The mesh of a run.

    Args:
        devices: how many, the first that JAX has; or ``all``.

    Returns:
        The mesh; None for a single device, which needs none.

    Raises:
        SettingsError: there are fewer.

    >>> mesh_of(1) is None, mesh_of(None) is None
    (True, True)
    """
    if devices is None:
        return None
    found = jax.devices()
    wanted = len(found) if devices == "all" else int(devices)
    if wanted > len(found):
        kind, few = found[0].platform, "1 device" if len(found) == 1 else f"{len(found)} devices"
        split = (
            f" JAX_NUM_CPU_DEVICES={wanted}, or XLA_FLAGS=--xla_force_host_platform_device_count={wanted}, set before "
            f"Python starts, splits a CPU into {wanted}."
        )
        raise SettingsError(
            f"{wanted} devices were requested, but JAX has {few} ({kind}).",
            "--devices all (devices='all') takes those that there are." + (split if kind == "cpu" else ""),
        )
    if wanted == 1:
        return None
    return jax.make_mesh((wanted,), (AXIS,), axis_types=(AxisType.Auto,), devices=found[:wanted])


def unused(devices: int | str | None) -> str:
    """A sentence about devices that a run leaves idle without having been asked to; empty if there are none.

    >>> unused(1)
    ''
    """
    count = jax.device_count()
    if devices is not None or count == 1:
        return ""
    return f"One of {count} devices is used; --devices all (devices='all') splits every batch over all of them."


def check_divides(mesh: Mesh | None, batch_size: int, *, stream: bool = False) -> None:
    """Check that the devices can share a batch equally.

    Args:
        mesh: the mesh.
        batch_size: examples of a batch.
        stream: whether batches come with this size, instead of being asked for.

    Raises:
        SettingsError: they cannot, and the size is a setting.
        DataError: they cannot, and the data have the size.

    >>> check_divides(None, 63)
    """
    if mesh is None or batch_size % mesh.size == 0:
        return
    below = batch_size // mesh.size * mesh.size
    near = " and ".join(str(size) for size in (below, below + mesh.size) if size)
    error: type[UsageError] = DataError if stream else SettingsError
    what = "The first batch has" if stream else "batch_size is"
    raise error(
        f"{what} {batch_size}, which {mesh.size} devices cannot share equally.",
        f"The nearest sizes that do: {near}.",
    )


# ---------------------------------------------------------------------------- arrays on the mesh


def place_params(mesh: Mesh | None, tree: PyTree, shard: Shard = None) -> PyTree:
    """Parameters, or a whole progress of training, on the mesh, in memory of their own.

    Args:
        mesh: the mesh; None returns the tree as it is.
        tree: arrays that are the same in every process, or that are on the mesh already.
        shard: ``params`` splits large arrays, see `shardings`.

    >>> place_params(None, {"w": 1.0})
    {'w': 1.0}
    """
    if mesh is None:
        return tree
    where = shardings(mesh, tree, shard)
    on_mesh = jax.tree.map(_on_mesh, tree, where)
    # A copy, because parts may still be memory of NumPy or of several devices, and steps donate what they are given.
    return jax.jit(lambda tree: jax.tree.map(jnp.copy, tree), out_shardings=where)(on_mesh)


def own_rows(mesh: Mesh | None, count: int) -> slice:
    """The rows of a batch that this process needs: those of its devices, and any between them.

    Args:
        mesh: the mesh.
        count: rows of the batch; every device gets all of them if they do not divide.

    >>> own_rows(None, 64)
    slice(0, 64, None)
    """
    if mesh is None or count % mesh.size:
        return slice(0, count)
    found = NamedSharding(mesh, PartitionSpec(AXIS)).addressable_devices_indices_map((count,))
    ranges = [index[0].indices(count)[:2] for index in found.values() if index is not None]
    return slice(min(start for start, _ in ranges), max(stop for _, stop in ranges))


def place_batch(mesh: Mesh | None, batch: Any, count: int | None = None) -> tuple[Any, ...]:
    """The arrays of a batch, split by their rows; on every device if these do not divide, which gives the same numbers.

    Args:
        mesh: the mesh; None is the default device.
        batch: arrays with the batch axis first.
        count: rows of the batch, if the arrays hold only `own_rows` of it; None if they hold all.

    >>> [part.shape for part in place_batch(None, (np.ones((4, 2)), np.ones(4)))]
    [(4, 2), (4,)]
    """
    if mesh is None:
        return cast(tuple[Any, ...], jax.device_put(tuple(batch)))
    return tuple(_spread_rows(mesh, np.asarray(part), len(part) if count is None else count) for part in batch)


def place_everywhere(mesh: Mesh | None, array: Any) -> jax.Array:
    """An array on every device.

    >>> place_everywhere(None, np.ones(3)).shape
    (3,)
    """
    placed: jax.Array = jax.device_put(array) if mesh is None else _spread(array, NamedSharding(mesh, PartitionSpec()))
    return placed


def split_rows(mesh: Mesh | None, batch: PyTree) -> PyTree:
    """`place_batch`, inside a program.

    >>> split_rows(None, (1.0, 2.0))
    (1.0, 2.0)
    """
    if mesh is None:
        return batch
    split: PyTree = jax.lax.with_sharding_constraint(batch, NamedSharding(mesh, PartitionSpec(AXIS)))
    return split


def shardings(mesh: Mesh | None, tree: PyTree, shard: Shard = None) -> PyTree:
    """How a tree of parameters lies on the mesh, for ``jax.jit``; None without one.

    With ``params``, an array of at least `SMALL` entries is split along the longest axis whose length the devices
    divide, the first of several; one without such an axis is on every device, and so are all others.

    >>> mesh = jax.make_mesh((1,), (AXIS,), axis_types=(AxisType.Auto,))
    >>> where = shardings(mesh, {"w": np.ones((256, 512)), "b": np.ones(512)}, "params")
    >>> tuple(where["w"].spec), tuple(where["b"].spec)
    ((None, 'data'), ())
    """
    if mesh is None:
        return None
    return jax.tree.map(
        lambda leaf: NamedSharding(mesh, _split(mesh, np.shape(leaf)) if shard else PartitionSpec()), tree
    )


def on_every_device(mesh: Mesh | None) -> NamedSharding | None:
    """The sharding of an array that is on every device, for ``jax.ShapeDtypeStruct``; None without a mesh.

    >>> on_every_device(None) is None
    True
    """
    return None if mesh is None else NamedSharding(mesh, PartitionSpec())


def split_over_devices(mesh: Mesh | None) -> NamedSharding | None:
    """The sharding of a batch whose rows the devices share, for ``jax.ShapeDtypeStruct``; None without a mesh.

    >>> split_over_devices(None) is None
    True
    """
    return None if mesh is None else NamedSharding(mesh, PartitionSpec(AXIS))


def _split(mesh: Mesh, shape: Shape) -> PartitionSpec:
    able = [axis for axis, size in enumerate(shape) if size % mesh.size == 0]
    if math.prod(shape) < SMALL or not able:
        return PartitionSpec()
    longest = max(able, key=lambda axis: shape[axis])
    return PartitionSpec(*[None] * longest, AXIS)


def _spread_rows(mesh: Mesh, array: Any, count: int) -> jax.Array:
    """A batch of so many rows on the mesh, of which the array holds all, or those of this process."""
    first = 0 if len(array) == count else own_rows(mesh, count).start
    where = NamedSharding(mesh, PartitionSpec() if count % mesh.size else PartitionSpec(AXIS))
    held = array.astype(jax.dtypes.canonicalize_dtype(array.dtype), copy=False)

    def rows(index: Any) -> Any:
        start, stop, _ = index[0].indices(count)
        return held[start - first : stop - first]

    return jax.make_array_from_callback((count, *array.shape[1:]), where, rows)


def _on_mesh(leaf: Any, where: NamedSharding) -> Any:
    """An array somewhere on the mesh: spread now, unless it is there."""
    there = isinstance(leaf, jax.Array) and leaf.sharding.device_set == where.device_set
    return leaf if there else _spread(leaf, where)


def _spread(leaf: Any, where: NamedSharding) -> Any:
    if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(_spread(jax.random.key_data(leaf), where), impl=jax.random.key_impl(leaf))
    array = np.asarray(leaf)
    array = array.astype(jax.dtypes.canonicalize_dtype(array.dtype), copy=False)
    return jax.make_array_from_callback(array.shape, where, lambda rows: array[rows])
