"""Settings in words, and JAX scalars among them."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import Enum
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pydantic import Field, model_validator

from neurai_core.errors import SettingsError
from neurai_core.explain import describe_settings, recorded_settings, validate_settings
from neurai_core.specs import Config


class Mode(Enum):
    STRICT = "strict"
    FIXED = "fixed"


class Settings(Config):
    eta: float = Field(0.1, gt=0, le=2, description="step size")
    n: int = Field(20, ge=1, description="steps")
    mode: Literal["strict", "fixed"] = "strict"
    path: str | None = None
    momentum: float = Field(gt=0.5, lt=1)


def wrong(**given: Any) -> SettingsError:
    with pytest.raises(SettingsError) as raised:
        validate_settings(Settings, {"momentum": 0.9, **given}, name="pc")
    return raised.value


def test_a_value_out_of_range_is_one_line_and_the_hint_is_the_range() -> None:
    error = wrong(eta=-1)
    assert error.message == "eta: input should be greater than 0 (got -1)"
    assert error.hint == "eta: float > 0, <= 2, default 0.1 (step size)"


def test_a_misspelled_setting_gets_a_suggestion() -> None:
    error = wrong(etta=0.1)
    assert error.message == "etta: not a setting of 'pc'; did you mean 'eta'?"
    assert error.hint.startswith("Settings: eta: float > 0, <= 2, default 0.1; n: int >= 1, default 20; mode: 'strict'")


def test_every_wrong_setting_gets_a_line() -> None:
    error = wrong(eta=0, n="many", mode="loose", colour="red")
    assert error.message.splitlines() == [
        "eta: input should be greater than 0 (got 0)",
        "n: input should be a valid integer, unable to parse string as an integer (got 'many')",
        "mode: input should be 'strict' or 'fixed' (got 'loose')",
        "colour: not a setting of 'pc'",
    ]


def test_a_required_setting_must_be_given() -> None:
    with pytest.raises(SettingsError, match="momentum: must be given"):
        validate_settings(Settings, {}, name="pc")


def test_a_class_without_settings_says_so() -> None:
    with pytest.raises(SettingsError, match="It has no settings"):
        validate_settings(Config, {"eta": 1}, name="bp")


def test_an_error_of_several_settings_names_their_owner() -> None:
    class Both(Config):
        low: float = 0.0
        high: float = 1.0

        @model_validator(mode="after")
        def _ordered(self) -> Both:
            if self.low > self.high:
                raise ValueError("low lies above high")
            return self

    with pytest.raises(SettingsError, match=r"^'pc': low lies above high"):
        validate_settings(Both, {"low": 2}, name="pc")


def test_settings_are_described_in_words() -> None:
    class Described(Config):
        mode: Mode = Mode.STRICT
        shape: tuple[int, ...] = (1, 2)
        when: float | None = Field(None, description="time in s")

    rows = {row.name: row for row in describe_settings(Described)}
    assert str(rows["mode"]) == "mode: 'strict' or 'fixed', default 'strict'"
    assert str(rows["shape"]) == "shape: tuple[int, ...], default (1, 2)"
    assert str(rows["when"]) == "when: float or None, default None"
    assert rows["when"].description == "time in s"


@pytest.mark.parametrize("value", [np.float32(0.5), np.float64(0.5), np.array(0.5)])
def test_numbers_of_numpy_are_checked_and_become_plain(value: Any) -> None:
    filled = validate_settings(Settings, {"eta": value, "momentum": 0.9}, name="pc")
    assert type(filled.eta) is float
    assert filled.eta == 0.5
    assert "greater than 0" in wrong(eta=-value).message
    assert validate_settings(Settings, {"n": np.int64(3), "momentum": 0.9}, name="pc").n == 3


def test_a_jax_scalar_is_checked_kept_and_recorded_as_a_number() -> None:
    value = jnp.float32(0.5)
    filled = validate_settings(Settings, {"eta": value, "momentum": 0.9}, name="pc")
    assert filled.eta is value
    assert recorded_settings(filled)["eta"] == 0.5
    assert wrong(eta=jnp.float32(-1)).message.startswith("eta: input should be greater than 0 (got -1.0)")


@pytest.mark.parametrize("transform", [jax.jit, jax.vmap, jax.grad], ids=["jit", "vmap", "grad"])
def test_a_traced_scalar_may_stand_for_a_float(transform: Any) -> None:
    records = []

    def scaled(eta: jax.Array) -> jax.Array:
        filled = validate_settings(Settings, {"eta": eta, "momentum": eta}, name="pc")
        records.append(recorded_settings(filled))
        return filled.eta * filled.momentum

    transform(scaled)(jnp.full(3 if transform is jax.vmap else (), 0.75))
    assert records[0]["eta"] == records[0]["momentum"] == "traced"
    assert records[0]["n"] == 20


def test_a_traced_scalar_cannot_choose_code() -> None:
    def steps(n: jax.Array) -> jax.Array:
        validate_settings(Settings, {"n": n, "momentum": 0.9}, name="pc")
        return n

    with pytest.raises(SettingsError, match=r"n: takes a Python value .got a traced one."):
        jax.jit(steps)(3)


def test_a_known_jax_integer_may_stand_for_an_int() -> None:
    assert validate_settings(Settings, {"n": jnp.int32(3), "momentum": 0.9}, name="pc").n == 3


@pytest.mark.parametrize("make", [np.array, jnp.array, list], ids=["numpy", "jax", "list"])
def test_arrays_are_refused_unless_they_are_asked_for(make: Any) -> None:
    given = {"momentum": 0.9, "eta": make([0.5, 2.0])}
    with pytest.raises(SettingsError, match="eta: input should be a valid number"):
        validate_settings(Settings, given, name="pc")
    filled = validate_settings(Settings, given, name="pc", arrays=True)
    assert filled.eta is given["eta"]
    assert recorded_settings(filled)["eta"] == [0.5, 2.0]
    with pytest.raises(SettingsError, match=r"^eta\[2\]: input should be less than or equal to 2 \(got 3.0\)"):
        validate_settings(Settings, {**given, "eta": make([0.5, 2.0, 3.0])}, name="pc", arrays=True)


def test_recorded_settings_are_json() -> None:
    class Described(Config):
        mode: Mode = Mode.FIXED
        shape: tuple[int, ...] = (1, 2)
        activation: Callable[[float], float] | None = None

    filled = validate_settings(Described, {"activation": math.tanh}, name="ep")
    assert recorded_settings(filled) == {"mode": "fixed", "shape": [1, 2], "activation": "math:tanh"}
