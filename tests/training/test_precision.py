"""Computing in bfloat16, with parameters and optimizer in float32."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neurai_core as neurai
from neurai_core.errors import SettingsError
from neurai_core.rule import Estimate, Rule, State
from neurai_core.training.precision import computing_in
from neurai_core.training.settings import choose
from neurai_core.training.step import begin, step_function
from neurai_core.training.task import prepare

pytestmark = pytest.mark.usefixtures("quick_compile")

DATA = (np.random.default_rng(0).normal(size=(40, 4)).astype("float32"), np.arange(40, dtype="int32") % 3)


def dtypes(tree: Any) -> set[str]:
    return {leaf.dtype.name for leaf in jax.tree.leaves(tree)}


@pytest.mark.parametrize(("rule", "share"), [("bp", all), ("pc", any)])  # pc keeps its activities in float32
def test_products_are_in_bfloat16_and_what_is_kept_in_float32(rule: str, share: Callable[[Any], bool]) -> None:
    task = prepare(choose({"rule": rule, "model": "mlp:8", "dtype": "bfloat16", "batch_size": 10}, environ={}))
    progress = begin(task)
    x, y = task.data.x_train[:10], task.data.y_train[:10]
    program = jax.make_jaxpr(step_function(task))(progress, x, y)
    products = [line for line in str(program).splitlines() if "= dot_general[" in line]
    assert products and share(":bf16[" in line for line in products)
    assert dtypes((progress.params, progress.opt_state)) <= {"float32", "int32"}
    assert dtypes(task.rule.predict(task.model, task.params, x[:2])) == {"float32"}


def test_training_in_bfloat16_is_close_and_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    def fit(epochs: int, dtype: str | None, **more: Any) -> neurai.Fitted:
        given = {"optimizer": "adam", "lr": 0.01, "schedule": "constant", "batch_size": 64}
        return neurai.fit("bp", "mlp:16", None, "digits", epochs=epochs, dtype=dtype, **given, **more)

    whole, usual = fit(3, "bfloat16"), fit(3, None)
    assert abs(whole.metrics[-1]["test_accuracy"] - usual.metrics[-1]["test_accuracy"]) < 0.03
    assert whole.metrics[-1]["train_loss"] != usual.metrics[-1]["train_loss"]
    fit(1, "bfloat16", out=tmp_path / "run")
    rest = fit(3, "bfloat16", out=tmp_path / "run", resume=True)
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a == b).all()), rest.params, whole.params)))
    with pytest.raises(SettingsError, match="dtype was bfloat16 and is nothing"):
        fit(4, None, out=tmp_path / "run", resume=True)


def test_a_state_that_a_rule_does_not_change_is_not_rounded() -> None:
    seen: list[str] = []

    def estimate(model: Any, params: Any, state: State, batch: Any, *, key: Any = None) -> tuple[Estimate, State]:
        seen.append(state.own["fixed"].dtype.name)
        own = {"fixed": state.own["fixed"], "counted": state.own["counted"] + 1}
        return Estimate(params, jnp.sum(params), jnp.float32(-1), {}), State(state.model_state * 1.5, own)

    rule = computing_in(Rule(lambda *_, **__: (), estimate, lambda model, params, x, state=(): x), "bfloat16")
    tenth = jnp.float32(0.1)
    state = State(tenth, {"fixed": tenth, "counted": jnp.float32(2.0)})
    found, after = rule.estimate(None, tenth, state, (jnp.ones((1, 1)), jnp.zeros(1)))
    assert seen == ["bfloat16"]
    assert (float(after.own["fixed"]), float(after.own["counted"])) == (float(tenth), 3.0)
    assert float(after.model_state) == float(tenth * 1.5)  # the model's collections are not rounded
    assert dtypes((found, after)) == {"float32"}


def test_another_dtype_is_refused() -> None:
    with pytest.raises(SettingsError, match="dtype: input should be 'bfloat16'"):
        choose({"dtype": "float17"}, environ={})
