"""Specs: frozen, strict, and the same after a trip through JSON."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import Field, ValidationError

from neurai_core.specs import (
    AdapterSpec,
    AlgorithmSpec,
    Config,
    DatasetSpec,
    Origin,
    PluginSpec,
    Reference,
    SurrogateSpec,
)

pytestmark = pytest.mark.contract


class SignConfig(Config):
    scale: float = Field(0.02, gt=0, description="size of every gradient entry")


PAPER = Reference(title="A paper", authors="A. Author", year=1986, doi="10.1/x", bibtex="@article{x}")
FULL = {
    "config": SignConfig,
    "aliases": ("backprop",),
    "references": (PAPER,),
    "offers": {"BP": "package.module:BP"},
    "requires": {"equinox": "neurai[equinox]"},
}
SPECS: list[PluginSpec] = [
    AlgorithmSpec(name="bp", summary="Backpropagation", claims=("exact",), definition="package.equations:bp", **FULL),
    SurrogateSpec(name="superspike", summary="SuperSpike", derivative=r"1/(1+\alpha|u|)^2", **FULL),
    AdapterSpec(name="equinox", summary="Equinox", library="Equinox", models=("eqx.nn.MLP",), **FULL),
    DatasetSpec(name="digits", summary="Digits", shape=(8, 8), classes=("0", "1"), train=2, test=1, **FULL),
    PluginSpec(kind="another", name="x", summary="A kind of the future", **FULL),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)
def test_specs_round_trip_through_json(spec: PluginSpec) -> None:
    assert type(spec).model_validate_json(spec.model_dump_json()) == spec


def test_json_names_the_settings_class_by_module() -> None:
    assert '"config":"test_specs:SignConfig"' in SPECS[0].model_dump_json()


def test_a_settings_class_that_is_gone_is_named() -> None:
    text = SPECS[0].model_dump_json().replace("SignConfig", "GoneConfig")
    with pytest.raises(ValidationError, match="no settings class can be imported from 'test_specs:GoneConfig'"):
        AlgorithmSpec.model_validate_json(text)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)
def test_specs_are_frozen(spec: PluginSpec) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        spec.name = "other"


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "a b"},
        {"name": "a@b"},
        {"summary": ""},
        {"summary": "two\nlines"},
        {"needs": "layers"},
        {"colour": "red"},
        {"config": int},
        {"offers": {"BP": "no_colon"}},
        {"definition": "no_colon"},
        {"definition": "package..equations:bp"},
        {"definition": ".equations:bp"},
        {"kind": "surrogate"},
    ],
)
def test_wrong_fields_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        AlgorithmSpec.model_validate({"name": "bp", "summary": "Back propagation", **wrong})


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, "much"])
def test_settings_are_finite_and_in_range(value: Any) -> None:
    with pytest.raises(ValidationError):
        SignConfig(scale=value)


def test_an_origin_round_trips_through_json_and_hashes() -> None:
    origin = Origin(
        kind="algorithm",
        name="pc",
        distribution="neurai",
        version="1",
        settings={"eta": 0.1, "mode": "strict", "trace": None},
        context={"loss": "mse", "has_aux": False},
    )
    again = Origin.from_json(origin.to_json())
    assert again == origin
    assert hash(again) == hash(origin)
