"""Numbers are traced and code is static: a class of the class API compiles one step, whatever its numbers are."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neurai_core as neurai
from neurai_core.explain import takes_float
from neurai_core.grads import GradeBase, autograd, base
from neurai_core.models import mlp

MODEL = mlp((4, 6, 6, 3), "tanh")
BATCH = jax.random.normal(jax.random.key(1), (6, 4)), jnp.arange(6) % 3
# What a number must stand beside to mean something, and modes whose code is another.
BESIDE: dict[tuple[str, str], dict[str, Any]] = {
    ("pc", "beta"): {"nudge": "centered"},
    ("ep", "tau"): {"dt": 0.01},
}
SAME = ("tol",)  # changes no gradient while it is small
MODES = [("pc", "eta", {"mode": mode}) for mode in ("fixed_pred", "incremental", "error")]
MODES += [("bipc", "alpha_b", {"mode": "bistrict"}), ("ep", "beta", {"mode": "richardson"})]


def numbers() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every setting of every offered class that takes a float."""
    for name in neurai.names("algorithm"):
        config = neurai.spec("algorithm", name).config
        for setting in config.model_fields:
            if takes_float(config, setting) and classes_of(name):
                yield name, setting, BESIDE.get((name, setting), {})


def classes_of(name: str) -> list[type[GradeBase]]:
    found = [getattr(autograd, offered) for offered in neurai.spec("algorithm", name).offers]
    return [one for one in found if inspect.isclass(one) and issubclass(one, GradeBase)]


def traces(name: str, setting: str, beside: dict[str, Any], values: Any) -> int:
    """How often a step is traced while a number takes these values."""
    (offered,) = classes_of(name)
    losses = [key for key in inspect.signature(offered).parameters if key.startswith("loss_f")]
    base._estimated.clear_cache()
    found = []
    with patch.object(base, "estimated", wraps=base.estimated) as inside:
        for value in values:
            method = offered(*["sum_squared_error" for _ in losses], **{setting: float(value)}, **beside)
            params = method.init(MODEL, jax.random.key(0), (4,)) if hasattr(method, "init") else plain_params()
            found.append(jax.tree.leaves(method.get_grads(MODEL, params, BATCH)[0])[0])
    assert not np.array_equal(found[0], found[-1]) or setting in SAME
    return inside.call_count


def plain_params() -> Any:
    return MODEL.init(jax.random.key(0), (4,))[0]


@pytest.mark.few(5)
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.usefixtures("quick_compile")
@pytest.mark.parametrize(("name", "setting", "beside"), [*numbers(), *MODES])
def test_a_step_is_traced_once_for_all_values_of_a_number(name: str, setting: str, beside: dict[str, Any]) -> None:
    assert traces(name, setting, beside, np.linspace(0.031, 0.27, 12)) == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("name", "setting", "beside"), [*numbers()])
def test_a_thousand_values_are_one_trace(name: str, setting: str, beside: dict[str, Any]) -> None:
    assert traces(name, setting, beside, np.linspace(0.03, 0.26, 1000)) == 1


def test_every_class_with_numbers_is_among_them() -> None:
    assert {(name, setting) for name, setting, _ in numbers()} >= {
        *(("pc", setting) for setting in ("eta", "loss_scale", "beta", "tol")),
        *(("bipc", setting) for setting in ("eta", "alpha_f", "alpha_b", "precision", "loss_scale")),
        *(("ep", setting) for setting in ("beta", "dt", "tau", "tol")),
    }
