"""Optimizers, learning rates and parts of the parameters as text."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import neurai_core as neurai
from neurai_core.errors import NeurAIError, SettingsError, UnknownName
from neurai_core.optimizers import optimizer, per_part
from neurai_core.training.settings import choose

pytestmark = pytest.mark.usefixtures("quick_compile")

DATA = (np.random.default_rng(0).normal(size=(40, 4)).astype("float32"), np.arange(40, dtype="int32") % 3)
CHAIN = "chain(clip_by_global_norm(1.0), adamw(weight_decay=1e-2))"
WARMUP = "warmup_cosine_decay_schedule(0, 1e-2, 2, 4)"


def fit(**given: Any) -> neurai.Fitted:
    return neurai.fit("bp", "mlp:5", None, DATA, **{"epochs": 2, "batch_size": 20} | given)


def assert_same_bits(one: Any, other: Any) -> None:
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a == b).all()), one.params, other.params)))


def test_calls_and_schedules_train_as_the_objects_do() -> None:
    rate = optax.warmup_cosine_decay_schedule(0, 1e-2, 2, 4)
    chained = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=1e-2))
    assert_same_bits(fit(optimizer=CHAIN, lr=WARMUP), fit(optimizer=chained))
    inside = fit(optimizer=f"chain(clip_by_global_norm(1.0), adamw({WARMUP}, weight_decay=1e-2))")
    assert_same_bits(inside, fit(optimizer=chained))
    assert_same_bits(fit(optimizer="sgd()", lr=0.1), fit(optimizer="sgd", lr=0.1))  # the schedule of the run holds too


def test_parts_have_optimizers_of_their_own() -> None:
    def after(*parts: str) -> Any:
        return fit(optimizer="sgd(0.1)", optimizer_for=dict.fromkeys(parts, "set_to_zero()"), epochs=1).params

    before = jax.tree.map(np.asarray, fit(optimizer="set_to_zero()", epochs=1).params)
    for parts, still in (
        (["0"], {"0/w", "0/b"}),
        (["layers/1/w"], {"1/w"}),
        (["0", "0/b"], {"0/w", "0/b"}),
        (["0", "1"], {"0/w", "0/b", "1/w", "1/b"}),
    ):
        same = jax.tree.map(lambda a, b: bool((a == b).all()), before, after(*parts))
        found = jax.tree.leaves_with_path(same)
        assert {jax.tree_util.keystr(path, simple=True, separator="/") for path, one in found if one} == still


def test_the_most_precise_part_wins_and_the_loss_is_passed_on() -> None:
    params = {"layers": {"0": jnp.ones(2), "01": jnp.ones(2)}, "out": jnp.ones(2)}
    parts = {"layers": "sgd(1.0)", "layers/0": "chain(sgd(10.0), contrib.reduce_on_plateau())"}
    both = per_part(optax.sgd(0.1), {part: optimizer(text, 0.0) for part, text in parts.items()}, params)
    updates, _ = both.update(params, both.init(params), params, value=jnp.ones(()))
    assert jax.tree.map(lambda leaf: round(-float(leaf[0]), 3), updates) == {
        "layers": {"0": 10.0, "01": 1.0},
        "out": 0.1,
    }


def test_a_module_that_can_be_called_is_no_obstacle() -> None:
    equinox = pytest.importorskip("equinox")
    mlp = equinox.nn.MLP(4, 3, 5, 1, key=jax.random.key(0))
    trained = neurai.fit(
        "bp", mlp, None, DATA, epochs=1, batch_size=20, optimizer="sgd(0.1)",
        optimizer_for={"layers/0": "set_to_zero()"},
    ).params  # fmt: skip
    assert (trained.layers[0].weight == mlp.layers[0].weight).all()
    assert (trained.layers[1].weight != mlp.layers[1].weight).any()


def test_texts_are_recorded_and_a_run_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    given = {"optimizer": CHAIN, "lr": WARMUP, "optimizer_for": {"0": "sgd", "1/b": "adam(0.1)"}}
    whole = fit(**given)
    fit(**given, epochs=1, out=tmp_path / "run")
    content = tomllib.loads((tmp_path / "run" / "config.toml").read_text())
    assert (content["optimizer"], content["lr"], content["optimizer_for"]) == (
        CHAIN,
        WARMUP,
        ["0=sgd", "1/b=adam(0.1)"],
    )
    assert_same_bits(fit(**given, out=tmp_path / "run", resume=True), whole)
    repeated = choose(file=tmp_path / "run" / "config.toml", objects=("data",), environ={}).settings
    assert (repeated.optimizer, repeated.lr) == (CHAIN, WARMUP)
    with pytest.raises(SettingsError, match="optimizer_for was"):
        fit(**given | {"optimizer_for": {"0": "sgd"}}, out=tmp_path / "run", resume=True)


def test_a_rule_made_by_hand_takes_texts_too() -> None:
    rule = neurai.algorithm("bp", loss="cross_entropy")._replace(origin=None)
    for given in ({"lr": WARMUP}, {"optimizer": "sgd(0.1)"}):
        neurai.fit(rule, "mlp:5", None, DATA, epochs=1, batch_size=20, loss="cross_entropy", **given)


# ---------------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"optimizer": "chain(adm(0.1))"}, "optax has no function named 'adm'. Did you mean 'adam'?"),
        ({"optimizer": "adamw(weight_decy=1)"}, "weight_decy: not an argument of adamw of optax. Did you mean"),
        ({"optimizer": "adam(__import__('os'))"}, "optax has no function named '__import__'"),
        ({"optimizer": "my_module:make"}, "neither the name of an optimizer nor a call"),
        ({"optimizer": "cosine_decay_schedule(0.1, 10)"}, "makes no optimizer"),
        ({"optimizer": "sgd(0.1)", "lr": 0.1}, "--lr gives a learning rate, and the optimizer 'sgd(0.1)' has its own"),
        (
            {"optimizer": "sgd()", "optimizer_settings": {"momentum": 0.9}},
            "optimizer.momentum is set, and the optimizer",
        ),
        ({"optimizer": "lbfgs()"}, "The optimizer 'lbfgs()' cannot be used"),
        ({"lr": "fast"}, "lr: expected a number, or a call of optax"),
        ({"lr": -1.0}, "lr: input should be greater than 0 (got -1.0)"),
        ({"lr": float("inf")}, "lr: input should be a finite number (got inf)"),
        ({"lr": "adam(0.1)"}, "The learning rate 'adam(0.1)' is not a schedule of optax"),
        ({"lr": WARMUP, "schedule": "cosine"}, "--schedule is given, and the learning rate is a schedule itself"),
        ({"optimizer_for": {"2": "sgd(0.1)"}}, "The parameters have no part '2'."),
        ({"optimizer_for": {"0/v": "sgd(0.1)"}}, "Did you mean"),
        ({"optimizer_for": {"0": "sgd(("}}, "neither the name of an optimizer nor a call"),
        ({"optimizer_for": {"0": ""}}, "expected PART=OPTIMIZER"),
    ],
)
def test_a_wrong_text_is_refused_before_anything_is_trained(given: dict[str, Any], said: str) -> None:
    with pytest.raises(NeurAIError) as caught:
        fit(**given)
    assert said in caught.value.message


def test_an_unknown_part_lists_those_that_exist() -> None:
    with pytest.raises(UnknownName) as caught:
        fit(optimizer_for={"layers/7": "sgd"})
    assert caught.value.hint == "Parts: 0, 0/b, 0/w, 1, 1/b, 1/w."


def test_a_part_is_named_once() -> None:
    with pytest.raises(SettingsError, match="names '0' twice"):
        choose({"optimizer_for": ("0=sgd", "0=adam")}, environ={})


@pytest.mark.parametrize(("name", "value"), [("optimizer", "adm"), ("optimizer.b3", 0.9), ("loss", "cros_entropy")])
def test_what_the_spec_of_a_rule_names_in_vain_is_blamed_on_the_spec(name: str, value: Any) -> None:
    spec = neurai.AlgorithmSpec(name="unsuited", summary="A rule", defaults={name: value})
    with neurai.temporary(neurai.Plugin(spec, "neurai_algorithms.backprop.rule:build")):
        with pytest.raises(neurai.PluginError, match="spec of unsuited@in-process has defaults that a run refuses"):
            neurai.fit("unsuited", "mlp:5", None, DATA, batch_size=20)
        with pytest.raises(UnknownName, match="sgdd"):
            neurai.fit("unsuited", "mlp:5", None, DATA, batch_size=20, loss="cross_entropy", optimizer="sgdd")
