"""The registry: build, know where from, build again; plugins of this process; documented classes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pytest
from pydantic import Field

import neurai_core as neurai
from neurai_core.errors import (
    BlockedName,
    DuplicateName,
    PluginError,
    SettingsError,
    UnknownName,
    UsageError,
)
from neurai_core.plugin import Plugin
from neurai_core.registry import Registry
from neurai_core.specs import AlgorithmSpec, Config, Origin, PluginSpec

pytestmark = pytest.mark.contract


def done(*args: Any, **kwargs: Any) -> None:
    """Stands for each function of a rule."""


class Made(NamedTuple):
    """What the plugins of this file build: it has the fields of a rule, and more."""

    config: Any
    context: Mapping[str, Any]
    init: Callable[..., Any] = done
    estimate: Callable[..., Any] = done
    predict: Callable[..., Any] = done
    origin: Origin | None = None


class Marked:
    """An object with a method for its origin."""

    origin: Origin | None = None

    def with_origin(self, origin: Origin) -> Marked:
        marked = Marked()
        marked.origin = origin
        return marked


class Settings(Config):
    eta: float = Field(0.1, gt=0, description="step size")
    n: int = Field(20, ge=1)


def make(config: Config, **context: Any) -> Made:
    return Made(config, context)


def plugin(name: str = "mine", target: Callable[..., Any] = make, **facts: Any) -> Plugin:
    return Plugin(AlgorithmSpec(name=name, summary="A rule", config=Settings, **facts), target)


class TestCreate:
    """From a name to an object that knows its origin."""

    def test_an_object_knows_where_it_comes_from(self, site: Any, registry: Registry) -> None:
        site.add("dist-a", entries={"aaa": "plugin"}, version="2.5")
        with registry.temporary(plugin()):
            origin = registry.create("algorithm", "mine", {"loss": len, "k": 3}, {"eta": 0.5}).origin
        assert origin == Origin(
            kind="algorithm",
            name="mine",
            distribution="in-process",
            version="",
            settings={"eta": 0.5, "n": 20},
            context={"loss": "builtins:len", "k": 3},
        )

    def test_a_method_takes_the_origin_where_there_is_no_field(self, registry: Registry) -> None:
        with registry.temporary(plugin(target=lambda config, **context: Marked())):
            assert registry.create("algorithm", "mine").origin.name == "mine"

    def test_anything_else_is_returned_as_it_is(self, registry: Registry) -> None:
        with registry.temporary(plugin(target=lambda config, **context: 7)):
            assert registry.create("algorithm", "mine") == 7

    def test_settings_are_checked_before_anything_is_built(self, registry: Registry) -> None:
        with (
            registry.temporary(plugin(target=lambda config, **context: pytest.fail("built"))),
            pytest.raises(SettingsError) as raised,
        ):
            registry.create("algorithm", "mine", settings={"etta": 1, "n": 0})
        assert raised.value.message.splitlines() == [
            "n: input should be greater than or equal to 1 (got 0)",
            "etta: not a setting of 'mine'; did you mean 'eta'?",
        ]


class TestRebuild:
    """An object from what it knew about itself."""

    def test_the_origin_is_enough(self, registry: Registry) -> None:
        with registry.temporary(plugin()):
            first = registry.create("algorithm", "mine", {"k": 1}, {"eta": 0.5})
            origin = Origin.from_json(first.origin.to_json())
            again = registry.rebuild(origin, {"k": 1})
            changed = registry.rebuild(origin, {"k": 1}, {"n": 3})
        assert again == first
        assert (changed.config.eta, changed.config.n) == (0.5, 3)

    def test_a_missing_distribution_is_named_with_its_version(self, registry: Registry) -> None:
        origin = Origin(kind="algorithm", name="bp", distribution="gone-dist", version="1.2")
        with pytest.raises(UnknownName, match=r"It came from gone-dist==1.2: python -m pip install 'gone-dist==1.2'"):
            registry.rebuild(origin)

    def test_a_blocked_one_is_said_to_be_blocked(self, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NEURAI_BLOCK", "bp")
        with pytest.raises(BlockedName):
            registry.rebuild(Origin(kind="algorithm", name="bp", distribution="neurai", version="0"))

    def test_a_traced_setting_must_be_given(self, registry: Registry) -> None:
        origin = Origin(
            kind="algorithm", name="mine", distribution="in-process", version="", settings={"eta": "traced"}
        )
        with registry.temporary(plugin()):
            with pytest.raises(SettingsError, match="eta: was traced when 'mine' was built") as raised:
                registry.rebuild(origin)
            assert registry.rebuild(origin, settings={"eta": 0.2}).config.eta == 0.2
        assert raised.value.hint == "Give it: rebuild(origin, eta=...)."


class TestInProcess:
    """Plugins that were never installed."""

    def test_a_registered_plugin_is_found_under_its_name_and_aliases(self, registry: Registry) -> None:
        spec = registry.register(plugin(aliases=("my-own",)))
        assert registry.spec("algorithm", "mine") is registry.spec("algorithm", "MyOwn") is spec
        assert "mine" in registry.names("algorithm")
        row = next(row for row in registry.plugins(static=True) if row.name == "mine")
        assert (row.status, row.distribution) == ("ok", "in-process")

    def test_the_name_of_an_installed_plugin_is_refused(self, registry: Registry) -> None:
        with pytest.raises(DuplicateName, match="'BP' cannot be registered: bp@neurai"):
            registry.register(plugin("BP"))
        with pytest.raises(DuplicateName), registry.temporary(plugin("BP")):
            pass
        with pytest.raises(DuplicateName):
            registry.register(plugin("mine", aliases=("bp",)))

    def test_a_temporary_plugin_may_hide_an_installed_one(self, registry: Registry) -> None:
        with registry.temporary(plugin("BP"), replace=True) as spec:
            assert registry.spec("algorithm", "bp") is spec
        assert registry.find("algorithm", "bp").distribution == "neurai"

    def test_a_temporary_plugin_is_gone_after_the_block_even_on_error(self, registry: Registry) -> None:
        with pytest.raises(ZeroDivisionError), registry.temporary(plugin()):
            raise ZeroDivisionError
        assert "mine" not in registry.names("algorithm")

    def test_a_cell_may_run_again(self, registry: Registry) -> None:
        first = plugin(aliases=("other",))
        assert registry.register(first) is registry.register(first)
        with pytest.raises(DuplicateName):
            registry.register(plugin())
        second = registry.register(plugin(), replace=True)
        assert registry.spec("algorithm", "mine") is second
        assert "other" not in registry.names("algorithm")

    def test_replacing_does_not_hide_installed_plugins(self, registry: Registry) -> None:
        with pytest.raises(DuplicateName):
            registry.register(plugin("bp"), replace=True)

    def test_a_broken_one_is_refused_at_once_and_leaves_no_trace(self, registry: Registry) -> None:
        before = registry.plugins(static=True)
        for broken in (
            object(),
            Plugin(lambda: None, "a:b"),
            Plugin(PluginSpec(kind="x", name="x", summary="x"), "a:b"),
        ):
            with pytest.raises(PluginError):
                registry.register(broken)
        assert registry.plugins(static=True) == before

    def test_switches_concern_installed_plugins_only(self, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NEURAI_ONLY", "")
        registry.register(plugin())
        assert registry.spec("algorithm", "mine").name == "mine"

    def test_it_outlives_a_rescan(self, site: Any, registry: Registry) -> None:
        registry.register(plugin())
        site.add("dist-a", entries={"aaa": "plugin"})
        assert registry.spec("algorithm", "aaa").name == "aaa"
        assert registry.spec("algorithm", "mine").name == "mine"


class TestOffered:
    """Documented classes, found by their own names."""

    def test_the_plugin_of_that_name_is_asked_first(self, site: Any, registry: Registry, source: Any) -> None:
        site.add("dist-a", source("pretty"), entries={"pretty": "plugin"})
        site.add("dist-b", "raise RuntimeError('imported')", entries={"other": "plugin"})
        assert registry.offered("Pretty").__module__ == "dist_a"
        row = next(row for row in registry.plugins(static=True) if row.name == "other")
        assert row.status == "unloaded"

    def test_a_class_of_any_plugin_appears(self, site: Any, registry: Registry) -> None:
        site.add("dist-a", entries={"aaa": "plugin"})
        site.add("dist-b", "raise RuntimeError", entries={"bbb": "plugin"})
        assert registry.offered("Pretty", "algorithm").__module__ == "dist_a"
        assert registry.offers()["Pretty"] == "aaa"

    def test_a_class_of_another_kind_does_not(self, site: Any, registry: Registry) -> None:
        site.add("dist-a", entries={"aaa": "plugin"})
        with pytest.raises(UnknownName):
            registry.offered("Pretty", "surrogate")

    def test_an_unknown_class_gets_a_suggestion(self, site: Any, registry: Registry) -> None:
        site.add("dist-a", entries={"aaa": "plugin"})
        with pytest.raises(UnknownName, match=r"No plugin offers a class named 'Prety'. Did you mean 'Pretty'?"):
            registry.offered("Prety")

    def test_a_class_that_cannot_be_imported_is_the_plugins_failure(self, registry: Registry) -> None:
        with (
            registry.temporary(plugin(offers={"Gone": "os:Gone"})),
            pytest.raises(PluginError, match="'Gone'"),
        ):
            registry.offered("Gone")


def test_names_may_be_chosen_by_what_their_specs_claim(site: Any, registry: Registry, source: Any) -> None:
    site.add("dist-a", source("aaa", claims=("local", "per-example")), entries={"aaa": "plugin"})
    site.add("dist-b", source("bbb"), entries={"bbb": "plugin"})
    local = registry.names("algorithm", supports="local")
    assert "aaa" in local and "bbb" not in local
    assert registry.names("algorithm", supports="per_example") == ("aaa",)
    assert registry.names("algorithm", supports="unheard-of") == ()
    assert {"aaa", "bbb"} <= set(registry.names("algorithm", supports="callable"))


def test_the_static_list_imports_nothing(site: Any, registry: Registry, source: Any) -> None:
    site.add("dist-a", "raise RuntimeError('imported')", entries={"aaa": "plugin"}, version="3.1")
    row = next(row for row in registry.plugins(static=True) if row.name == "aaa")
    assert (row.kind, row.distribution, row.version) == ("algorithm", "dist-a", "3.1")
    assert (row.status, row.value) == ("unloaded", "dist_a:plugin")


def test_many_threads_load_a_plugin_once(site: Any, registry: Registry) -> None:
    site.add(
        "slow-dist",
        """
        import time
        time.sleep(0.05)
        from neurai_core.plugin import Plugin
        from neurai_core.specs import AlgorithmSpec
        made = []
        plugin = Plugin(lambda: made.append(1) or AlgorithmSpec(name="slow", summary="s"), "a:b")
        """,
        entries={"slow": "plugin"},
    )
    specs: list[PluginSpec] = []
    threads = [threading.Thread(target=lambda: specs.append(registry.spec("algorithm", "slow"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(specs) == 8
    assert len({id(spec) for spec in specs}) == 1
    assert __import__("slow_dist").made == [1]


class TestFrontDoor:
    """The functions a user calls."""

    def test_an_algorithm_records_its_loss_by_name_and_is_rebuilt(self) -> None:
        with neurai.temporary(plugin()):
            rule: Any = neurai.algorithm("mine", loss="mse", accuracy="accuracy", eta=0.3)
            again = neurai.rebuild(rule.origin.to_json())
            changed = neurai.rebuild(rule, loss="mae", eta=0.4)
        assert rule.origin.context == {"loss": "mse", "accuracy": "accuracy", "has_aux": False}
        assert callable(rule.context["loss"])
        assert again == rule
        assert (changed.origin.context["loss"], changed.config.eta) == ("mae", 0.4)

    def test_a_loss_of_ones_own_must_be_passed_again(self) -> None:
        def my_loss(outputs: Any, targets: Any) -> Any:
            return 0.0

        with neurai.temporary(plugin()):
            rule: Any = neurai.algorithm("mine", loss=my_loss)
            with pytest.raises(UsageError, match="my_loss") as raised:
                neurai.rebuild(rule)
            assert neurai.rebuild(rule, loss=my_loss) == rule
        assert raised.value.hint == "Pass it: rebuild(origin, loss=...)."

    def test_what_has_no_origin_cannot_be_rebuilt(self) -> None:
        with pytest.raises(UsageError, match="has no origin"):
            neurai.rebuild(3)
        with pytest.raises(UsageError, match="not the JSON of an origin"):
            neurai.rebuild("{}")

    def test_a_registered_plugin_is_found_by_the_front_door(self) -> None:
        with neurai.temporary(plugin()) as spec:
            assert neurai.spec("algorithm", "mine") is spec
            assert "mine" in neurai.names("algorithms")
            assert any(row.name == "mine" for row in neurai.plugins(static=True))

    def test_a_wrong_setting_of_an_algorithm_is_found_without_jax(self, python: Callable[..., str]) -> None:
        printed = python(
            """
            import sys
            import neurai_core as neurai
            try:
                neurai.algorithm("bp", etta=1)
            except neurai.SettingsError as error:
                print(error.message, "jax" in sys.modules)
            """
        )
        assert printed.strip() == "etta: not a setting of 'bp' False"
