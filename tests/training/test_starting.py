"""What a run starts from is computed at once, and has the bits that it has computed step by step."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neurai_core as neurai
from neurai_core.models.spiking import snn
from neurai_core.training.settings import choose
from neurai_core.training.starting import MOST, at_once
from neurai_core.training.step import begin
from neurai_core.training.task import prepare

IMAGES, VECTORS = (8, 8, 1), (64,)
MODELS = {
    "mlp": (neurai.models.mlp((64, 12, 7, 10), "tanh"), VECTORS),
    "resmlp": (neurai.models.resmlp(6, 3, 10), VECTORS),
    "cnn": (neurai.models.cnn((3, 5), 10), IMAGES),
    "snn": (snn((64, 6, 10), surrogate=neurai.surrogate("superspike"), steps=3, recurrent=True), VECTORS),
}


def same_bits(one: Any, other: Any) -> bool:
    raw = [[np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)] for tree in (one, other)]
    return jax.tree.structure(one) == jax.tree.structure(other) and raw[0] == raw[1]


@pytest.mark.few(1)
@pytest.mark.parametrize(("name", "x64"), [*((name, False) for name in MODELS), ("mlp", True)])
def test_parameters_have_the_same_bits(name: str, x64: bool) -> None:
    model, shape = MODELS[name]
    with jax.enable_x64(x64):
        key = jax.random.key(7)
        assert same_bits(at_once(lambda key: model.init(key, shape)[0], key), model.init(key, shape)[0])


def test_constants_of_neighbors_are_not_multiplied_together() -> None:
    """With JAX 0.10, they are if compiled as usual, which changes the bits: this is what the barriers are for."""

    def scaled(x: jax.Array) -> jax.Array:
        return x * 1.1 * 0.3

    x = jnp.linspace(0.1, 1, 100)
    assert same_bits(at_once(scaled, x), scaled(x))


def programs(caplog: pytest.LogCaptureFixture, compute: Callable[[], Any]) -> set[str]:
    """The programs that are compiled."""
    with jax.log_compiles(), caplog.at_level("WARNING"):
        compute()
    return set(re.findall(r"Finished XLA compilation of jit\((\w+)\)", caplog.text))


def test_a_function_of_many_operations_is_run_one_by_one(caplog: pytest.LogCaptureFixture) -> None:
    def counted(times: int) -> Callable[[jax.Array], jax.Array]:
        return lambda x: sum((x for _ in range(times)), x)

    x = jnp.zeros(3)
    assert "start" not in programs(caplog, lambda: at_once(counted(MOST + 1), x))
    assert "start" in programs(caplog, lambda: at_once(counted(MOST - 1), x))


def test_a_run_starts_with_arrays_of_its_own() -> None:
    """A step donates its progress, so no two arrays may share memory, nor any with the parameters of the task."""
    task = prepare(choose({"rule": "bipc", "model": "mlp:8"}, environ={}))
    start = begin(task)
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves((task.params, start))]
    assert len(pointers) == len({*pointers})
    assert same_bits(start.params, task.params)


def test_a_run_compiles_few_programs(caplog: pytest.LogCaptureFixture) -> None:
    found = programs(caplog, lambda: begin(prepare(choose({"model": "mlp:9"}, environ={}))))
    assert found - {"folded", "stage"} == {"start"}  # the key may be compiled already
