"""The ready-made plugin object."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from neurai_core.plugin import Plugin, resolve
from neurai_core.specs import AlgorithmSpec, Config

pytestmark = pytest.mark.contract

SPEC = AlgorithmSpec(name="rule", summary="A rule")


def test_the_target_is_called_with_settings_and_context() -> None:
    plugin = Plugin(SPEC, lambda config, *, loss, **context: (config, loss, context))
    config = Config()
    assert plugin.neurai_build(config, {"loss": 1, "has_aux": False}) == (config, 1, {"has_aux": False})


def test_a_spec_may_be_made_when_it_is_asked_for() -> None:
    made: list[int] = []
    plugin = Plugin(lambda: made.append(1) or SPEC, "a:b")
    assert made == []
    assert plugin.neurai_spec() is SPEC
    assert made == [1]


def test_the_target_is_not_imported_before_it_is_needed(site: Any) -> None:
    module = site.add("late-dist", "def build(config): return 'built'")
    plugin = Plugin(SPEC, f"{module}:build")
    assert plugin.neurai_spec() is SPEC
    assert module not in sys.modules
    assert plugin.neurai_build(Config(), {}) == "built"


def test_a_target_names_an_attribute_at_any_depth() -> None:
    assert resolve("os:path.join") is __import__("os").path.join
    assert resolve("os") is __import__("os")
    assert resolve(len) is len


def test_the_representation_names_the_target() -> None:
    assert repr(Plugin(SPEC, "a:b")) == "Plugin('rule', 'a:b')"
    assert repr(Plugin(SPEC, len)) == "Plugin('rule', 'len')"
