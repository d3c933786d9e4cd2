"""Optax's objects as text: read without running anything, made when asked for, written back."""

from __future__ import annotations

import optax
import pytest

from neurai_algorithms.optax_texts import Transformation, made, parse, written
from neurai_core.errors import UnknownName

pytestmark = pytest.mark.golden


def test_a_call_has_literal_arguments_only():
    assert parse("adam(1e-3, b1=0.8)").kwargs == {"b1": 0.8}
    for text in (
        "adam",
        "adam(x)",
        "a.b(1)",
        "adam(1e-3)(2)",
        "__import__('os').system('x')",
        "",
        "a b:c",
        "adam(*[1])",
    ):
        with pytest.raises(ValueError, match="neither a call of optax"):
            parse(text)


def test_an_object_is_made_from_its_text():
    assert float(made("piecewise_constant_schedule(0.5, {3: 0.1})")(4)) == pytest.approx(0.05)
    assert isinstance(made("sgd(0.1, momentum=0.9)"), Transformation)
    assert made("optax:adam") is optax.adam
    for text in ("no_such_module:x", "optax:no_such_name"):
        with pytest.raises(UnknownName, match="Nothing can be imported"):
            made(text)


def test_an_object_is_written_by_its_name():
    assert written("adam(0.1)") == "adam(0.1)" and written(None) is None
    assert written(optax.sgd(0.1)).startswith("optax.") and written(optax.cosine_decay_schedule(1.0, 2)).endswith(
        "schedule"
    )
