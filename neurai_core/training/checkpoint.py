"""Trees of arrays on disk that verify themselves: one safetensors file, its SHA-256 in its own header.

A file appears whole or not at all (written beside its place, flushed, renamed). Neither safetensors nor the
file system detects a flipped bit, so the hash covers names, dtypes, shapes, bytes and facts, and is checked
when reading. No pickle, and nothing in a file names code to import.

A tree with arrays that no process holds whole is a folder, which appears whole as well: such a file with all else,
whose facts tell the SHA-256 of every other file, and the arrays, see `neurai_core.training.split`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from neurai_core.arrays import PyTree
from neurai_core.errors import DataError, ModelError, OutputError
from neurai_core.training import split
from neurai_core.training.team import ALONE, Team
from neurai_core.training.writing import writing_to

Arrays = dict[str, NDArray[Any]]
SUFFIX, IN_PARTS = ".safetensors", ".parts"
REST = f"rest{SUFFIX}"  # of a folder: all that is not split
HELD = frozenset(f"{kind}{bits}" for kind in ("int", "uint", "float") for bits in (8, 16, 32, 64)) | {
    "bool",
    "complex64",
}
KEPT = 2  # by default: the newest, and the one to fall back to


def save(path: str | Path, tree: PyTree, facts: Mapping[str, Any] | None = None) -> Path:
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
    return _save(Path(path), {name: _plain(name, leaf) for name, leaf in _named_leaves(tree)}, facts or {})


def _save(path: Path, arrays: Arrays, facts: Mapping[str, Any]) -> Path:
    text = json.dumps(dict(facts), sort_keys=True)
    # One entry, because safetensors writes several in arbitrary order and equal runs must give equal files.
    manifest = json.dumps({"facts": text, "sha256": _digest(arrays, text)}, sort_keys=True)
    content = to_bytes(arrays, metadata={"neurai": manifest})
    with writing_to(path):
        _write_whole(path, content)
    return path


def load(path: str | Path, like: PyTree, *, may_differ: str = "", team: Team = ALONE) -> tuple[PyTree, dict[str, Any]]:
    """Read a tree of arrays, verified.

    Args:
        path: the file, or the folder.
        like: a tree of the same structure, shapes and dtypes; its values do not matter. Arrays that were written in
            parts come to the devices where it has them.
        may_differ: key of a part of the tree in which the file may lack leaves, which keep the values of ``like``, and
            may hold others, which are ignored.
        team: the processes that read it together.

    Returns:
        ``(tree, facts)``; arrays of JAX, or of NumPy where JAX would round them to a narrower type.

    Raises:
        DataError: the file cannot be read, or is damaged.
        ModelError: it holds a tree of a different structure.
    """
    path = Path(path)
    arrays, facts = _verified(_file(path))
    parts = facts.pop("parts", {"files": {}, "arrays": {}})
    if parts["files"]:
        split.check(path, parts["files"], team)
    leaves = _named_leaves(like)
    if may_differ:
        part = f"[{may_differ!r}]"
        ours = {name: _plain(name, leaf).copy() for name, leaf in leaves if name.startswith(part)}
        arrays = ours | {name: array for name, array in arrays.items() if name in ours or not name.startswith(part)}
    found = {name: _form(array) for name, array in arrays.items()} | parts["arrays"]
    _check_same(path, found, {name: _form(leaf) for name, leaf in leaves})
    apart = {name: leaf for name, leaf in leaves if name in parts["arrays"]}
    whole = split.read(path / split.FOLDER, apart) if apart else {}
    restored = [whole[name] if name in whole else _restored(arrays[name], leaf) for name, leaf in leaves]
    return jax.tree.unflatten(jax.tree.structure(like), restored), facts


def save_step(
    folder: Path, step: int, tree: PyTree, facts: Mapping[str, Any] | None = None, *, keep: int = KEPT
) -> Path:
    """Write the checkpoint of a step into a folder; remove all but the newest ones, and incomplete files."""
    _make(folder)
    path = save(folder / f"step-{step:09d}{SUFFIX}", tree, facts)
    _tidy(folder, keep)
    return path


def save_parts(
    folder: Path,
    step: int,
    tree: PyTree,
    facts: Mapping[str, Any],
    parts: split.Parts,
    *,
    keep: int = KEPT,
    team: Team = ALONE,
) -> Callable[[], Path]:
    """`save_step` of a tree with arrays that no process holds whole. All processes call it, and what it returns.

    Returns:
        A function that waits until it is written, for any thread; training may go on before.
    """
    path = folder / f"step-{step:09d}{IN_PARTS}"
    beside = path.with_name(f".{path.name}")
    with team.together():
        if team.writes:
            _make(folder)
            shutil.rmtree(beside, ignore_errors=True)  # of a process that was killed
            _make(beside)
    leaves = _named_leaves(tree)
    apart = {name: leaf for name, leaf in leaves if split.is_split(leaf)}
    arrays = {name: _form(leaf) for name, leaf in apart.items()}
    rest = {name: _plain(name, leaf).copy() for name, leaf in leaves if team.writes and name not in apart}
    wait = parts.begin(beside / split.FOLDER, apart)

    def finish() -> Path:
        wait()
        if team.writes:
            told = {"files": split.digests(beside), "arrays": arrays}
            _save(beside / REST, rest, {**facts, "parts": told})
            _take_place(beside, path)
            _tidy(folder, keep)
        return path

    return finish


def any_in(folder: Path) -> bool:
    """Whether a folder holds a checkpoint, damaged or not."""
    return any(_newest_first(folder))


def facts_of(folder: Path) -> dict[str, Any]:
    """The facts of the newest undamaged checkpoint of a folder; none if there is none."""
    for path in _newest_first(folder):
        try:
            return _verified(_file(path))[1]
        except DataError:
            continue
    return {}


def newest(
    folder: Path, like: PyTree, *, may_differ: str = "", team: Team = ALONE
) -> tuple[PyTree, dict[str, Any], list[DataError]]:
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
            return *load(path, like, may_differ=may_differ, team=team), damaged
        except DataError as error:
            damaged.append(error)
    found = damaged[0].message if damaged else "It holds none."
    raise DataError(f"{folder} has no checkpoint to continue from. {found}", "Start the run again from the beginning.")


def _newest_first(folder: Path) -> Iterator[Path]:
    found = [*folder.glob(f"step-*{SUFFIX}"), *folder.glob(f"step-*{IN_PARTS}")]
    return iter(sorted(found, reverse=True))


def _file(path: Path) -> Path:
    """The file that verifies itself, of a checkpoint that is one, or a folder."""
    return path / REST if path.suffix == IN_PARTS else path


def _make(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made: {error.strerror or error}.", "Is the disk full?") from error


def _tidy(folder: Path, keep: int) -> None:
    """Remove all but the newest checkpoints, and incomplete ones."""
    for old in [*list(_newest_first(folder))[keep:], *folder.glob(f".*{SUFFIX}.*"), *folder.glob(f".*{IN_PARTS}")]:
        if old.is_dir():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.unlink()


def _take_place(beside: Path, path: Path) -> None:
    """Give a complete folder its name; one that is there, of another number of processes, gives way."""
    _flush_folder(beside)
    with writing_to(path):
        shutil.rmtree(path, ignore_errors=True)
        os.replace(beside, path)
        _flush_folder(path.parent)


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


def _form(leaf: Any) -> str:
    """Dtype and shape of a leaf as a file stores it."""
    known = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
    dtype = np.dtype(known.dtype) if hasattr(known, "dtype") else np.asarray(known).dtype
    name = np.dtype(f"u{dtype.itemsize}") if _is_extension(dtype) else dtype.newbyteorder("=")
    return f"{name}{list(np.shape(known))}"


def _restored(array: NDArray[Any], like: Any) -> Any:
    if _is_key(like):
        return jax.random.wrap_key_data(jax.numpy.asarray(array), impl=jax.random.key_impl(like))
    dtype = like.dtype if hasattr(like, "dtype") else np.asarray(like).dtype
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


def _check_same(path: Path, found: Mapping[str, str], expected: Mapping[str, str]) -> None:
    for name in [*expected, *found]:
        held, wanted = found.get(name, "nothing"), expected.get(name, "nothing")
        if held != wanted:
            raise ModelError(
                f"{path} holds {held} at {name}, expected {wanted}.",
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
