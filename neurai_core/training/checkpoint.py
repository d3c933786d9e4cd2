"""Trees of arrays on disk that verify themselves: one safetensors file, its SHA-256 in its own header.

A file appears whole or not at all (written beside its place, flushed, renamed). Neither safetensors nor the
file system detects a flipped bit, so the hash covers names, dtypes, shapes, bytes and facts, and is checked
when reading. No pickle, and nothing in a file names code to import.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from neurai_core.arrays import PyTree
from neurai_core.errors import DataError, ModelError, OutputError

Arrays = dict[str, NDArray[Any]]
SUFFIX = ".safetensors"
HELD = frozenset(f"{kind}{bits}" for kind in ("int", "uint", "float") for bits in (8, 16, 32, 64)) | {
    "bool",
    "complex64",
}
KEPT = 2  # by default: the newest, and the one to fall back to


def save(path: Path, tree: PyTree, facts: Mapping[str, Any] | None = None) -> Path:
    """Write a tree of arrays.

    Args:
        path: the file; an existing one is replaced.
        tree: a tree of arrays; PRNG keys are stored as their data.
        facts: JSON data stored with the arrays.

    Raises:
        ModelError: a file cannot hold a leaf; names it.
        OutputError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "params.safetensors")
        >>> _ = save(path, {"w": np.ones(2, np.float32)}, {"step": 3})
        >>> load(path, {"w": np.zeros(2, np.float32)})
        ({'w': Array([1., 1.], dtype=float32)}, {'step': 3})
    """
    arrays = {name: _plain(name, leaf) for name, leaf in _named_leaves(tree)}
    text = json.dumps(dict(facts or {}), sort_keys=True)
    # One entry, because safetensors writes several in arbitrary order and equal runs must give equal files.
    manifest = json.dumps({"facts": text, "sha256": _digest(arrays, text)}, sort_keys=True)
    content = to_bytes(arrays, metadata={"neurai": manifest})
    try:
        _write_whole(path, content)
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error.strerror or error}.",
            "Is the disk full, or the folder read-only?",
        ) from error
    return path


def load(path: Path, like: PyTree, *, may_differ: str = "") -> tuple[PyTree, dict[str, Any]]:
    """Read a tree of arrays, verified.

    Args:
        path: the file.
        like: a tree of the same structure, shapes and dtypes; its values do not matter.
        may_differ: key of a part of the tree in which the file may lack leaves, which keep the values of ``like``, and
            may hold others, which are ignored.

    Returns:
        ``(tree, facts)``; arrays of JAX, or of NumPy where JAX would round them to a narrower type.

    Raises:
        DataError: the file cannot be read, or is damaged.
        ModelError: it holds a tree of a different structure.
    """
    arrays, facts = _verified(path)
    leaves = _named_leaves(like)
    if may_differ:
        part = f"[{may_differ!r}]"
        ours = {name: _plain(name, leaf).copy() for name, leaf in leaves if name.startswith(part)}
        arrays = ours | {name: array for name, array in arrays.items() if name in ours or not name.startswith(part)}
    _check_same(path, arrays, {name: _plain(name, leaf) for name, leaf in leaves})
    restored = [_restored(arrays[name], leaf) for name, leaf in leaves]
    return jax.tree.unflatten(jax.tree.structure(like), restored), facts


def save_step(
    folder: Path, step: int, tree: PyTree, facts: Mapping[str, Any] | None = None, *, keep: int = KEPT
) -> Path:
    """Write the checkpoint of a step into a folder; remove all but the newest ones, and incomplete files."""
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made: {error.strerror or error}.", "Is the disk full?") from error
    path = save(folder / f"step-{step:09d}{SUFFIX}", tree, facts)
    for old in [*list(_newest_first(folder))[keep:], *folder.glob(f".*{SUFFIX}.*")]:
        old.unlink()
    return path


def any_in(folder: Path) -> bool:
    """Whether a folder holds a checkpoint, damaged or not."""
    return any(_newest_first(folder))


def facts_of(folder: Path) -> dict[str, Any]:
    """The facts of the newest undamaged checkpoint of a folder; none if there is none."""
    for path in _newest_first(folder):
        try:
            return _verified(path)[1]
        except DataError:
            continue
    return {}


def newest(folder: Path, like: PyTree, *, may_differ: str = "") -> tuple[PyTree, dict[str, Any], list[DataError]]:
    """Load the newest undamaged checkpoint of a folder; arguments as for `load`.

    Returns:
        ``(tree, facts, passed_over)``, where ``passed_over`` lists damaged checkpoints, newest first.

    Raises:
        DataError: the folder holds no undamaged checkpoint.
        ModelError: the newest undamaged one holds a tree of a different structure.
    """
    damaged: list[DataError] = []
    for path in _newest_first(folder):
        try:
            return *load(path, like, may_differ=may_differ), damaged
        except DataError as error:
            damaged.append(error)
    found = damaged[0].message if damaged else "It holds none."
    raise DataError(f"{folder} has no checkpoint to continue from. {found}", "Start the run again from the beginning.")


def _newest_first(folder: Path) -> Iterator[Path]:
    return iter(sorted(folder.glob(f"step-*{SUFFIX}"), reverse=True))


def _named_leaves(tree: PyTree) -> list[tuple[str, Any]]:
    return [(jax.tree_util.keystr(path) or "value", leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _plain(name: str, leaf: Any) -> NDArray[Any]:
    """A leaf as a file stores it, not copied: keys as their data, bfloat16 as unsigned integers, little-endian."""
    array = np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf, order="C")
    if _is_extension(array.dtype):
        return array.view(f"u{array.dtype.itemsize}")
    dtype = array.dtype.newbyteorder("<")
    if dtype.name not in HELD:
        raise ModelError(
            f"The leaf {name} is {dtype}{list(array.shape)}, which a checkpoint cannot hold.",
            "It holds booleans, integers and floats of at most 64 bits, complex64 and PRNG keys.",
        )
    return array.astype(dtype, copy=False)


def _is_extension(dtype: np.dtype[Any]) -> bool:
    """Whether a dtype was added to NumPy by another library, such as bfloat16."""
    return dtype.isbuiltin == 2


def _restored(array: NDArray[Any], like: Any) -> Any:
    if _is_key(like):
        return jax.random.wrap_key_data(jax.numpy.asarray(array), impl=jax.random.key_impl(like))
    dtype = np.asarray(like).dtype
    array = array.view(dtype) if _is_extension(dtype) else array
    return jax.numpy.asarray(array) if jax.dtypes.canonicalize_dtype(array.dtype) == array.dtype else array


def _digest(arrays: Mapping[str, NDArray[Any]], facts: str) -> str:
    digest = hashlib.sha256(facts.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _verified(path: Path) -> tuple[Arrays, dict[str, Any]]:
    try:
        with safe_open(path, framework="numpy") as file:
            said = json.loads((file.metadata() or {})["neurai"])
            arrays: Arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (OSError, SafetensorError, ValueError, TypeError, KeyError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{path} cannot be read: {reason}.", "It is missing, cut off or damaged.") from error
    facts = str(said.get("facts"))
    if said.get("sha256") != _digest(arrays, facts):
        raise DataError(f"{path} is damaged: its content does not have the SHA-256 in its header.", "Use another.")
    return arrays, json.loads(facts)


def _check_same(path: Path, found: Arrays, expected: Arrays) -> None:
    for name in [*expected, *found]:
        pair = [
            f"{tree[name].dtype}{list(tree[name].shape)}" if name in tree else "nothing" for tree in (found, expected)
        ]
        if pair[0] != pair[1]:
            raise ModelError(
                f"{path} holds {pair[0]} at {name}, expected {pair[1]}.",
                "It was written with another model, rule or optimizer.",
            )


def _write_whole(path: Path, content: bytes) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(beside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    _flush_folder(path.parent)


def _flush_folder(folder: Path) -> None:
    """Make the rename survive a power cut, where folders can be flushed."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
