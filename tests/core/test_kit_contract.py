"""Every check of what all rules promise catches a rule with one planted defect; a sound rule passes all of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from planted import scaled
from pydantic import Field

import neurai_core as neurai
from neurai_core.plugin import Plugin
from neurai_core.rule import (
    Estimate,
    Rule,
    State,
    feedforward_init,
    feedforward_predict,
    model_state_of,
    objective,
    true_gradient,
)
from neurai_core.specs import AlgorithmSpec, Config
from neurai_core.testing import check_algorithm
from neurai_core.testing.rule_contract import CHECKS as CONTRACT
from neurai_core.testing.rule_transforms import CHECKS as TRANSFORMS

pytestmark = pytest.mark.usefixtures("quick_compile")
NAME = "planted"
CHECKS = [one.name for one in (*CONTRACT, *TRANSFORMS)]
DRAWN = itertools.count(1)


class Settings(Config):
    scale: float = Field(1.5, gt=0, description="factor of every gradient")


class Undescribed(Config):
    scale: float = 1.5


Defect = Callable[..., tuple[Estimate, Any]]


def build(config: Settings, *, loss: Any, accuracy: Any = None, has_aux: bool = False, defect: Any, **_: Any) -> Rule:
    """Back-propagation times a number, and then the defect."""
    score = objective(loss, accuracy, has_aux)

    def estimate(model: Any, params: Any, state: Any, batch: Any, *, key: Any = None) -> tuple[Estimate, Any]:
        if defect is EMPTY and not len(batch[0]):
            return Estimate(jax.tree.map(jnp.zeros_like, params), jnp.zeros(()), jnp.zeros(()), {}), state
        before = model_state_of(state)
        found, after = true_gradient(score, model, params, before, batch, key=key)
        state = state._replace(model_state=after) if isinstance(state, State) else after
        found = found._replace(
            grads=scaled(found.grads, _detached(config.scale) if defect is DETACHED else config.scale)
        )
        given = {"params": params, "batch": batch, "config": config, "model_state": before}
        return defect(found, state, **given) if defect else (found, state)

    def init(model: Any, params: Any, *, key: Any, model_state: Any = ()) -> Any:
        return (
            State(model_state, Counted(0))
            if defect is COUNTED
            else feedforward_init(model, params, model_state=model_state)
        )

    return Rule(init, estimate, feedforward_predict)


def with_factor(factor: Callable[..., Any]) -> Defect:
    """Every gradient times what the function of state, params, batch and config says."""

    def defect(found: Estimate, state: Any, **given: Any) -> tuple[Estimate, Any]:
        return found._replace(grads=scaled(found.grads, factor(**given))), state

    return defect


@partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["steps"])
@dataclass
class Counted:
    steps: int


def _detached(number: Any) -> Any:
    return jax.lax.stop_gradient(number)


def _count(found: Estimate, state: Any, **_: Any) -> tuple[Estimate, Any]:
    return found, state._replace(own=Counted(state.own.steps + 1))


def _grow(found: Estimate, state: Any, **_: Any) -> tuple[Estimate, Any]:
    return found, State(model_state_of(state), getattr(state, "own", jnp.zeros(())) + 1)


def _forget(found: Estimate, state: Any, model_state: Any, **_: Any) -> tuple[Estimate, Any]:
    """Leave the collections as they were."""
    return found, model_state


def _first_is_infinite(found: Estimate, state: Any, **_: Any) -> tuple[Estimate, Any]:
    leaves, tree = jax.tree.flatten(found.grads)
    return found._replace(grads=tree.unflatten([leaves[0].at[0].set(jnp.inf), *leaves[1:]])), state


def _call_back(found: Estimate, state: Any, **_: Any) -> tuple[Estimate, Any]:
    jax.debug.callback(lambda loss: None, found.loss)
    return found, state


@jax.custom_batching.custom_vmap
def _double_if_mapped(number: jax.Array) -> jax.Array:
    return number


@_double_if_mapped.def_vmap
def _(size: int, mapped: Any, number: jax.Array) -> Any:
    return 2 * number, mapped[0]


def _if_traced(params: Any, **_: Any) -> float:
    return 2.0 if isinstance(jax.tree.leaves(params)[0], jax.core.Tracer) else 1.0


def _in_a_mesh(**_: Any) -> float:
    return 1.0 if jax.sharding.get_abstract_mesh().empty else 2.0


def _in_shard_map(**_: Any) -> float:
    try:
        return 1.0 + jax.lax.axis_size("data")
    except NameError:
        return 1.0


def _dtype(params: Any) -> Any:
    return jax.tree.leaves(params)[0].dtype


EMPTY: Defect = lambda found, state, **_: (found, state)  # noqa: E731
UNDESCRIBED: Defect = lambda found, state, **_: (found, state)  # noqa: E731
DETACHED: Defect = lambda found, state, **_: (found, state)  # noqa: E731
COUNTED: Defect = _count
MUTANTS: dict[str, Defect] = {
    "structure": lambda found, state, **_: (found._replace(grads=jax.tree.leaves(found.grads)), state),
    "settings": UNDESCRIBED,
    "scalar-loss": lambda found, state, **_: (found._replace(loss=jnp.nan * found.loss), state),
    "finite": _first_is_infinite,
    "deterministic": with_factor(lambda **_: next(DRAWN)),
    "batch-order": with_factor(lambda batch, **_: 2 + jnp.tanh(batch[0].ravel()[0])),
    "repeated-batch": with_factor(lambda batch, **_: len(batch[0])),
    "float32": with_factor(lambda params, **_: 1 + 0.1 * (_dtype(params) == jnp.float32)),
    "bfloat16": with_factor(lambda params, **_: 1 - 2 * (_dtype(params) == jnp.bfloat16)),
    "collections": _forget,
    "other-layers": with_factor(lambda params, **_: 1 + 0 * params[1]["w"].sum()),
    "loss-pair": lambda found, state, **_: (found._replace(aux={}), state),
    "bad-input": EMPTY,
    "jit": with_factor(_if_traced),
    "vmap": with_factor(lambda params, **_: _double_if_mapped(1 + 0 * jax.tree.leaves(params)[0].sum())),
    "scan": _grow,
    "traced-numbers": with_factor(lambda config, **_: float(config.scale)),
    "differentiable-numbers": DETACHED,
    "one-trace": COUNTED,
    "no-callbacks": _call_back,
    "sharded-auto": with_factor(_in_a_mesh),
    "sharded-explicit": with_factor(_in_a_mesh),
    "shard-map": with_factor(_in_shard_map),
}
# Checks that a defect cannot pass either: those that need what it breaks.
ALSO = {
    "structure": set(CHECKS),
    "scalar-loss": {"repeated-batch", "batch-order", "sharded-auto", "sharded-explicit"},
    "finite": set(CHECKS),
    "deterministic": set(CHECKS),
    "batch-order": {"shard-map"},
    "repeated-batch": {"shard-map"},
    "vmap": {"traced-numbers"},
    "jit": {"traced-numbers"},
    "scan": set(CHECKS),
    "other-layers": {"collections"},
    "one-trace": {"scan", "structure", "other-layers"},
    "traced-numbers": {"differentiable-numbers"},
    "sharded-auto": {"sharded-explicit", "shard-map"},
    "sharded-explicit": {"sharded-auto", "shard-map"},
}


@pytest.fixture
def planted(request: pytest.FixtureRequest) -> Iterator[str]:
    config = Undescribed if request.param is UNDESCRIBED else Settings
    spec = AlgorithmSpec(name=NAME, summary="A rule with a defect", config=config)
    with neurai.temporary(Plugin(spec, partial(build, defect=request.param))):
        yield NAME


@pytest.mark.parametrize("planted", [None], indirect=True)
def test_a_sound_rule_passes_every_check(planted: str) -> None:
    outcomes = check_algorithm(planted, only=CHECKS)
    assert {one.check: one.reason for one in outcomes if one.status != "passed"} == {}


@pytest.mark.parametrize(
    ("planted", "check"), [(MUTANTS[name], name) for name in MUTANTS], indirect=["planted"], ids=[*MUTANTS]
)
def test_a_defect_is_caught_by_its_check(planted: str, check: str) -> None:
    (outcome,) = check_algorithm(planted, only=[check])
    assert outcome.status == "failed", outcome
    assert outcome.reason and outcome.hint
    assert not outcome.reason[0].isdigit(), "a figure without words"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("planted", "check"), [(MUTANTS[name], name) for name in MUTANTS], indirect=["planted"], ids=[*MUTANTS]
)
def test_a_defect_is_caught_by_no_other_check(planted: str, check: str) -> None:
    caught = {one.check for one in check_algorithm(planted, only=CHECKS) if one.status == "failed"}
    assert {check} <= caught <= {check} | ALSO.get(check, set())
