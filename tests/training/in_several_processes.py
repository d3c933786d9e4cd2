"""Claims about processes that train together, run in each of them by `test_processes.py`.

python in_several_processes.py FOLDER CLAIM...    prints what went wrong with each claim, as JSON
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

import neurai_core as neurai
from neurai_core.errors import NeurAIError, OutputError
from neurai_core.stored import StoredArray
from neurai_core.training.joining import COORDINATOR, NUMBER, PROCESSES, joined, place_of
from neurai_core.training.team import team

FOLDER = Path(sys.argv[1])
SETTINGS: dict[str, dict[str, Any]] = {"pc": {"n": 5}, "ep": {"n_relax": 8}}


def trained(rule: str, **more: Any) -> neurai.Fitted:
    given = {"model": "mlp:8", "data": "digits", "settings": SETTINGS.get(rule, {}), "epochs": 2, "seed": 3} | more
    return neurai.fit(rule, given.pop("model"), None, given.pop("data"), **given)


def assert_close(one: Any, other: Any) -> None:
    for left, right in zip(*map(jax.tree.leaves, (one, other)), strict=True):
        np.testing.assert_allclose(np.asarray(left), np.asarray(right), rtol=0, atol=1e-5)


def as_one_process(rule: str) -> None:
    """The parameters of one process, and a folder that only one of them has written."""
    together = trained(rule, devices="all", out=FOLDER / rule)
    assert jax.tree.leaves(together.params)[0].sharding.device_set == set(jax.devices())
    digest = hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(together.params)))
    team().check_same({"parameters": digest.hexdigest()})
    if team().writes:
        assert_close(together.params, trained(rule).params)
        kept = neurai.load_run(FOLDER / rule)
        same = jax.tree.map(lambda one, other: bool((np.asarray(one) == other).all()), together.params, kept.params)
        assert all(jax.tree.leaves(same))
        assert [row["epoch"] for row in kept.metrics] == [1, 2]
        assert kept.metrics[-1]["test_loss"] == together.metrics[-1]["test_loss"]


class Counted:
    """Rows that are read when they are used, and counted."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows, self.read = rows, 0
        self.shape, self.dtype, self.ndim, self.size = rows.shape, rows.dtype, rows.ndim, rows.size

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> np.ndarray:
        found = self.rows[index]
        self.read += len(found)
        return found

    def reshape(self, *shape: int) -> Counted:
        self.rows, self.shape, self.ndim = self.rows.reshape(*shape), shape, len(shape)
        return self


def each_reads_its_rows_of_a_batch() -> None:
    digits = neurai.dataset("digits")
    rows = Counted(np.asarray(digits.x_train))
    stored = replace(digits, x_train=StoredArray(rows), origin=None)
    before: list[int] = []

    class Watch:
        @neurai.hookimpl
        def neurai_before_epoch(self, epoch: int) -> None:
            before.append(rows.read)

    found = trained("bp", data=stored, devices="all", observers=(Watch(),))
    if team().writes:  # which has observers
        assert_close(found.params, neurai.load_run(FOLDER / "bp").params)
        assert rows.read - before[-1] == 22 * 64 // team().size, (rows.read, before)
    digest = hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(found.params)))
    team().check_same({"parameters": digest.hexdigest()})


def split_parameters_are_saved_in_parts() -> None:
    plain = {"model": "mlp:1024", "batch_size": 200, "schedule": "constant"}
    flags = plain | {"devices": "all", "shard": "params"}
    split = trained("bp", out=FOLDER / "split", **flags)
    weights = split.params[0]["w"]
    assert weights.addressable_shards[0].data.size == weights.size / team().size
    saved = sorted(path.name for path in (FOLDER / "split" / "checkpoints").iterdir())
    assert saved == ["step-000000007.parts", "step-000000014.parts"], saved
    trained("bp", out=FOLDER / "goes-on", **flags | {"epochs": 1})
    again = trained("bp", out=FOLDER / "goes-on", resume=True, **flags)
    for one, other in zip(*map(jax.tree.leaves, (split.params, again.params)), strict=True):
        assert (one.addressable_shards[0].data == other.addressable_shards[0].data).all()
    if team().writes:
        assert_close(neurai.load_run(FOLDER / "split").params, trained("bp", **plain).params)


def errors_of_one_end_all() -> None:
    """A folder that process 0 cannot use: all say why, and none waits for another."""
    if team().writes:
        (FOLDER / "taken").mkdir()
        (FOLDER / "taken" / "mine.txt").write_text("mine")
    try:
        trained("bp", devices="all", out=FOLDER / "taken")
    except NeurAIError as error:
        assert isinstance(error, OutputError) == team().writes
        assert "is not empty" in error.message and error.exit_code == 2
    else:
        raise AssertionError("the folder was taken")


def all_devices_are_needed() -> None:
    try:
        trained("bp", devices=1, out=FOLDER / "few")
    except NeurAIError as error:
        assert "--devices all" in error.hint, error
    else:
        raise AssertionError("each trained alone")


def an_observer_of_one_stops_all() -> None:
    class Bored:
        @neurai.hookimpl
        def neurai_after_epoch(self, epoch: int) -> str | None:
            assert team().writes
            return "bored" if epoch == 2 else None

    stopped = trained("bp", devices="all", epochs=5, out=FOLDER / "bored", observers=(Bored(),))
    assert stopped.steps == 44 and bool(stopped.stopped)


def texts_of_any_length_are_gathered() -> None:
    for length in (0, 1, 255, 256, 257, 5000):
        texts = [str(number) * length for number in range(team().size)]
        assert team().gather(texts[team().number]) == texts
    assert team().gather("β") == ["β"] * team().size


def only_the_loopback_address_listens() -> None:
    """Of the sockets of this process, in Linux's own table."""
    links = (os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink())
    inodes = {link[8:-1] for link in links if link.startswith("socket:[")}
    for table, loopback in (("tcp", "0100007F"), ("tcp6", "0000000000000000FFFF00000100007F")):
        for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:  # listening
                assert fields[1].partition(":")[0] == loopback, line


def failure(claim: Callable[..., None], *arguments: str) -> str:
    try:
        claim(*arguments)
    except BaseException:
        return traceback.format_exc()
    return ""


if __name__ == "__main__":
    place = place_of(os.environ[COORDINATOR], int(os.environ[PROCESSES]), int(os.environ[NUMBER]))
    with joined(place, 60):
        found = {}
        for claim in sys.argv[2:]:
            name, _, argument = claim.partition(":")
            found[claim] = failure(globals()[name], *([argument] if argument else []))
    print(json.dumps(found))
