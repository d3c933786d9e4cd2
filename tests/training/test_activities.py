"""What relaxes in the model of a run: how rules are shown models, and what is listed of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import neurai_core as neurai
from neurai_core.errors import ModelError, SettingsError
from neurai_core.layered import Layered, dense
from neurai_core.models import mlp
from neurai_core.network import PredictedFrom
from neurai_core.training.activities import listed, seen
from neurai_core.training.settings import choose

X = jax.ShapeDtypeStruct((8, 4), "float32")


def naming(params: Any, x: jax.Array) -> jax.Array:
    h = neurai.activity(jnp.tanh(x @ params["w1"]), "h")
    k = neurai.activity(jnp.tanh(h @ params["w2"]), "k")
    neurai.activity(jnp.tanh(k @ params["back"]), "h")
    return (h + k) @ params["w3"]


PARAMS = {"w1": jnp.ones((4, 3)), "w2": jnp.ones((3, 3)), "back": jnp.ones((3, 3)), "w3": jnp.ones((3, 2))}


@pytest.mark.parametrize(
    ("how", "names"),
    [(None, ["layers.0"]), ("layers", ["layers.0"]), ("named", ["layers.0"]), ("modules", ["layers.0"]),
     ("auto", ["0.w"])],
)  # fmt: skip
def test_a_chain_of_layers_works_with_every_choice(how: str | None, names: list[str]) -> None:
    model = mlp((4, 3, 2))
    adapted = seen(model, how, needs="network")
    params, model_state = adapted.split(model.init(jax.random.key(0), (4,))[0])
    found = listed(adapted.model, params, X, model_state=model_state)
    assert [one.name for one in found.activities] == names
    assert isinstance(adapted.model, Layered) == (how in (None, "layers"))


def test_a_layered_model_that_is_named_keeps_the_names_inside_its_layers() -> None:
    from neurai_core.layered import function

    inside = function(lambda params, x: jnp.tanh(neurai.activity(x @ params, "inside")))
    adapted = seen(Layered((inside, dense(2))), "named", needs="network")
    params = (jnp.ones((4, 3)), {"w": jnp.ones((3, 2)), "b": jnp.ones(2)})
    assert [one.name for one in listed(adapted.model, params, X).activities] == ["inside", "layers.0"]


def test_a_list_says_what_every_prediction_and_the_outputs_come_from() -> None:
    found = listed(seen(naming, "named", needs="network").model, PARAMS, X)
    assert [(one.name, one.shape, one.predictions) for one in found.activities] == [
        ("h", (8, 3), (PredictedFrom(("w1",), (), True), PredictedFrom(("back",), ("k",), False))),
        ("k", (8, 3), (PredictedFrom(("w2",), ("h",), False),)),
    ]
    assert found.outputs == PredictedFrom(("w3",), ("h", "k"), False)
    assert found.output_shapes == ((8, 2),)


@pytest.mark.parametrize(("how", "said"), [("layers", "needs a model in layers"), ("modules", "contains no modules")])
def test_a_function_has_neither_layers_nor_modules_and_auto_is_named_as_the_way_out(how: str, said: str) -> None:
    with pytest.raises(ModelError, match=said) as caught:
        seen(naming, how, needs="network")
    assert "--activities auto" in caught.value.hint


def test_a_model_without_names_is_told_both_ways_out() -> None:
    with pytest.raises(ModelError, match="names no value") as caught:
        listed(seen(lambda params, x: x @ params, "named", needs="network").model, jnp.ones((4, 2)), X)
    assert "neurai.activity(" in caught.value.hint and "--activities auto" in caught.value.hint


# ---------------------------------------------------------------------------- the setting


def test_the_choice_is_a_setting_like_the_others(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('activities = "modules"\n')
    environ = {"NEURAI_ACTIVITIES": "layers"}
    assert choose(environ={}).settings.activities is None
    assert choose(environ=environ).settings.activities == "layers"
    assert choose(file=file, environ=environ).settings.activities == "modules"
    assert choose({}, ["activities=named"], file, environ).settings.activities == "named"
    chosen = choose({"activities": "auto"}, ["activities=named"], file, environ)
    assert (chosen.settings.activities, chosen.sources["activities"]) == ("auto", "--activities")


def test_another_choice_is_refused() -> None:
    with pytest.raises(SettingsError, match="'layers', 'named', 'modules' or 'auto'"):
        choose({"activities": "magic"}, environ={})


@pytest.mark.parametrize("rule", ["bp", "bipc"])
def test_rules_that_take_no_networks_refuse_it_and_those_that_do_are_named(rule: str, tmp_path: Path) -> None:
    for flags, sets, flag in (
        ({"activities": "auto"}, [], "--activities"),
        ({}, ["activities=auto"], "--set activities"),
    ):
        with pytest.raises(SettingsError, match=f"^{flag} .*{rule!r} takes no networks") as caught:
            choose({"rule": rule, **flags}, sets, environ={})
        assert "Rules that do: " in caught.value.hint and "pc" in caught.value.hint
    file = tmp_path / "c.toml"
    file.write_text(f'rule = "{rule}"\nactivities = "auto"\n')
    with pytest.raises(SettingsError, match="takes no networks"):
        choose(file=file, environ={})


def test_a_choice_meant_for_another_rule_falls_away(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('rule = "pc"\nactivities = "auto"\n')
    for chosen in (
        choose({"rule": "bp"}, file=file, environ={}),
        choose({"rule": "bp"}, environ={"NEURAI_ACTIVITIES": "auto"}),
    ):
        assert (chosen.settings.activities, chosen.sources["activities"]) == (None, "default")
