"""Optax's objects as text: read without running anything, made when asked for, written back."""

from __future__ import annotations

import optax
import pytest

from neurai_core.errors import UnknownName, UsageError
from neurai_core.optax_texts import Transformation, lacks, made, parse, written


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
        "adam(**{'b1': 0.8})",
        "adam(b1=1, b1=2)",
        "chain(sgd(x))",
        "chain(lambda: 1)",
        "chain(open('x').read())",
        "(" * 9999,
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


def test_calls_are_nested_and_what_they_lack_is_given():
    text = (
        "optax.chain(clip_by_global_norm(max_norm=1.0), adamw(weight_decay=1e-2, b1=warmup_constant_schedule(0, 1, 2)))"
    )
    clip, adam = parse(text).args
    assert (clip.kwargs, adam.kwargs["b1"].name) == ({"max_norm": 1.0}, "warmup_constant_schedule")
    found = made("chain(sgd(momentum=0.9), sgd(0.5), contrib.sgd())", learning_rate=0.1)
    updates, _ = found.update(1.0, found.init(0.0), 0.0)
    assert float(updates) == pytest.approx(-0.1 * 0.5 * 0.1)
    assert lacks("chain(sgd(0.5), sgd())", "learning_rate") and not lacks("chain(sgd(0.5))", "learning_rate")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("chain(adm(0.1))", "no function named 'adm'. Did you mean 'adam'"),
        ("adamw(0.1, weight_decy=1)", "weight_decy: not an argument of adamw of optax. Did you mean 'weight_decay'"),
        ("warmup_cosine_decay_schedule(0)", "optax cannot make 'warmup_cosine_decay_schedule(0)': "),
        ("chain(1)", "optax cannot make 'chain(1)': "),
    ],
)
def test_a_wrong_text_says_what_is_wrong(text, said):
    with pytest.raises(UsageError) as caught:
        made(text)
    assert said in caught.value.message


def test_an_object_is_written_by_its_name():
    assert written("adam(0.1)") == "adam(0.1)" and written(None) is None
    assert written(optax.sgd(0.1)).startswith("optax.") and written(optax.cosine_decay_schedule(1.0, 2)).endswith(
        "schedule"
    )
