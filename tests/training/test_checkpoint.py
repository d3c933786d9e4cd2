"""Checkpoints verify themselves, appear whole, and fall back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neurai_core.errors import DataError, ModelError, OutputError
from neurai_core.training.checkpoint import load, newest, save, save_step
from neurai_core.training.record import append_metrics

pytestmark = pytest.mark.contract


def tree(value: float = 1.5) -> dict[str, Any]:
    return {
        "w": jnp.full((3, 2), value),
        "half": jnp.full(3, value, jnp.bfloat16),
        "key": jax.random.key(3),
        "step": jnp.int32(7),
        "none": (),
        "empty": jnp.zeros((0, 4)),
    }


def as_numbers(one: Any) -> list[Any]:
    plain = one | {"key": jax.random.key_data(one["key"])}
    return [np.asarray(leaf) for leaf in jax.tree.leaves(plain)]


@pytest.mark.parametrize("kind", [Path, str])
def test_what_is_saved_comes_back_to_the_bit(tmp_path: Path, kind: type) -> None:
    path = kind(tmp_path / "a.safetensors")
    save(path, tree(), {"step": 7, "name": "µ"})
    back, facts = load(path, tree(0.0))
    assert facts == {"step": 7, "name": "µ"}
    for one, other in zip(as_numbers(back), as_numbers(tree()), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


LEAVES = [
    np.array([1.5, -2], ">f4"),
    np.array([2**62, -1], ">i8"),
    np.array([2**63 + 1], np.uint64),
    np.array([np.pi, np.nan, -0.0]),
    np.ones(2, np.complex64),
    np.arange(12, dtype=np.float32).reshape(3, 4).T[::2],
    np.broadcast_to(np.float32(3), (2, 2)),
    np.zeros((0, 4), np.float16),
    np.float32(2.5),
    2.5,
    7,
    True,
    *(jnp.arange(3).astype(dtype) for dtype in ("bfloat16", "float8_e4m3fn", "float8_e5m2", "int4", "uint4")),
]


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: str(getattr(leaf, "dtype", type(leaf).__name__)))
def test_every_leaf_that_is_saved_comes_back_to_the_bit(tmp_path: Path, leaf: Any) -> None:
    back, _ = load(save(tmp_path / "a.safetensors", {"w": leaf}), {"w": leaf})
    expected = np.asarray(leaf)
    expected = expected.astype(expected.dtype.newbyteorder("="))
    assert back["w"].dtype == expected.dtype and back["w"].shape == expected.shape
    assert np.asarray(back["w"]).tobytes() == expected.tobytes()


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_several_keys_come_back(tmp_path: Path, impl: str) -> None:
    keys = jax.random.split(jax.random.key(3, impl=impl), 4)
    back, _ = load(save(tmp_path / "a.safetensors", {"keys": keys}), {"keys": keys})
    assert back["keys"].dtype == keys.dtype
    np.testing.assert_array_equal(jax.random.key_data(back["keys"]), jax.random.key_data(keys))


@pytest.mark.parametrize(
    "leaf",
    [
        np.ones(2, complex),
        np.ones(2, np.longdouble),
        np.array([object()]),
        2**70,
        "text",
        np.array(["2020-01-01"], "M8[D]"),
        np.zeros(2, [("a", "f4")]),
    ],
    ids=lambda leaf: str(getattr(leaf, "dtype", type(leaf).__name__)),
)
def test_a_leaf_that_no_file_can_hold_is_named_and_nothing_is_written(tmp_path: Path, leaf: Any) -> None:
    with pytest.raises(ModelError, match=r"The leaf \['a'\]\[0\] is .*, which a checkpoint cannot hold"):
        save(tmp_path / "a.safetensors", {"a": [leaf]})
    assert not list(tmp_path.iterdir())


def test_no_flipped_bit_goes_unnoticed(tmp_path: Path) -> None:
    path = save(tmp_path / "a.safetensors", {"w": jnp.arange(20.0), "b": jnp.ones(3)}, {"step": 1})
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for position in {*rng.integers(0, len(whole), 150), *range(8, 60)}:
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(rng.integers(0, 8))
        path.write_bytes(damaged)
        with pytest.raises((DataError, ModelError)):
            load(path, {"w": jnp.zeros(20), "b": jnp.zeros(3)})


@pytest.mark.parametrize("length", [0, 4, 100, -1])
def test_a_file_that_was_cut_off_is_named(tmp_path: Path, length: int) -> None:
    path = save(tmp_path / "a.safetensors", {"w": jnp.arange(20.0)})
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DataError, match=r"a\.safetensors"):
        load(path, {"w": jnp.zeros(20)})


@pytest.mark.parametrize(
    ("like", "said"),
    [
        ({"w": jnp.zeros(3)}, r"float32\[2\] at \['w'\], expected float32\[3\]"),
        ({"w": jnp.zeros(2, int)}, r"expected int32\[2\]"),
        ({"w": jnp.zeros(2), "b": jnp.zeros(1)}, r"holds nothing at \['b'\]"),
        ({}, r"at \['w'\], expected nothing"),
    ],
)
def test_a_tree_of_another_structure_is_refused(tmp_path: Path, like: Any, said: str) -> None:
    path = save(tmp_path / "a.safetensors", {"w": jnp.ones(2)})
    with pytest.raises(ModelError, match=said):
        load(path, like)


def test_a_part_that_may_differ_keeps_what_the_file_lacks_and_ignores_what_it_has_besides(tmp_path: Path) -> None:
    path = save(
        tmp_path / "a.safetensors", {"w": jnp.ones(2), "totals": {"loss": jnp.float32(3), "gone": jnp.ones(())}}
    )
    like = {"w": jnp.zeros(2), "totals": {"loss": jnp.zeros(()), "new": jnp.float32(jnp.nan)}}
    kept, _ = load(path, like, may_differ="totals")
    assert kept["w"].tolist() == [1, 1] and kept["totals"]["loss"] == 3 and jnp.isnan(kept["totals"]["new"])
    with pytest.raises(ModelError, match=r"nothing at \['totals'\]\['new'\]"):
        load(path, like)
    with pytest.raises(ModelError, match=r"nothing at \['more'\]"):
        load(path, like | {"more": jnp.ones(1)}, may_differ="totals")


def test_the_newest_undamaged_checkpoint_is_used_and_older_ones_go(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    paths = [save_step(folder, step, {"w": jnp.full(2, step)}, {"step": step}) for step in (5, 10, 200)]
    assert sorted(folder.iterdir()) == paths[1:]
    assert newest(folder, {"w": jnp.zeros(2, int)})[1:] == ({"step": 200}, [])
    paths[2].write_bytes(paths[2].read_bytes()[:-1])
    found, facts, passed_over = newest(folder, {"w": jnp.zeros(2, int)})
    assert facts == {"step": 10}
    assert found["w"].tolist() == [10, 10]
    assert "step-000000200" in passed_over[0].message
    paths[1].write_bytes(b"")
    with pytest.raises(DataError, match="no checkpoint to continue from"):
        newest(folder, {"w": jnp.zeros(2, int)})


def test_a_place_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        save(tmp_path / "missing" / "a.safetensors", {"w": jnp.ones(2)})
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be made"):
        save_step(tmp_path / "file", 1, {"w": jnp.ones(2)})


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a disk that is always full")
def test_metrics_on_a_full_disk_are_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(OutputError, match=r"metrics\.jsonl cannot be written: No space left on device"):
        append_metrics(tmp_path, {"epoch": 1, "step": 22})
