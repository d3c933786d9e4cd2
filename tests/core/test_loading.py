"""Loading: each way in which a plugin can be broken is contained, named by its step, and hurts no other."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import neurai_core as neurai
from neurai_core import specs
from neurai_core.errors import BlockedName, DuplicateName, MissingExtra, PluginError, UnknownName, UsageError
from neurai_core.plugin import Plugin
from neurai_core.registry import PluginStatus, Registry

HEAD = """
    from neurai_core.hookspecs import hookimpl
    from neurai_core.plugin import Plugin
    from neurai_core.specs import AlgorithmSpec
"""


@dataclass(frozen=True)
class Broken:
    """A module that is broken in one way, and what the ledger says about it."""

    source: str
    step: str
    error: str
    hint: str
    requires: tuple[str, ...] = field(default=())


BROKEN = {
    "missing dependency": Broken(
        "import not_installed.at_all",
        "import",
        "ModuleNotFoundError: No module named 'not_installed'",
        "'not_installed'",
    ),
    "syntax error": Broken("def plugin(:", "import", "SyntaxError", "Report it to its authors."),
    "sys.exit at import": Broken("raise SystemExit(3)", "import", "SystemExit: 3", "main function"),
    "missing attribute": Broken("plugins = 1", "import", "has no attribute 'plugin'", "'broken_dist:plugin'"),
    "invalid spec": Broken(
        HEAD + "    plugin = Plugin(AlgorithmSpec(name='broken', summary='', colour='red'), 'a:b')",
        "spec",
        "colour: not a field of AlgorithmSpec",
        "fields of its spec",
    ),
    "misspelled hook": Broken(
        HEAD
        + """
    class plugin:
        @staticmethod
        @hookimpl
        def neurai_specc(): ...
        @staticmethod
        @hookimpl
        def neurai_build(config, context): ...
        """,
        "register",
        "unknown hook 'neurai_specc'",
        "Did you mean 'neurai_spec'? The hook is neurai_spec().",
    ),
    "wrong hook argument": Broken(
        HEAD
        + """
    class plugin:
        @staticmethod
        @hookimpl
        def neurai_spec(): ...
        @staticmethod
        @hookimpl
        def neurai_build(config, settings): ...
        """,
        "register",
        "'settings'",
        "The hook is neurai_build(config, context).",
    ),
    "core requirement not met": Broken(
        "raise RuntimeError('imported')",
        "requirements",
        "it needs neurai>=99",
        "Install a version of broken-dist",
        requires=("numpy", "NeurAI >= 99 ; python_version > '3'"),
    ),
}
MORE = {
    "no hooks": Broken("plugin = object()", "register", "it implements no neurai_spec and no neurai_build", "authors"),
    "spec of another type": Broken(
        HEAD + "    plugin = Plugin(lambda: 'a rule', 'a:b')",
        "spec",
        "expected an instance of AlgorithmSpec",
        "authors",
    ),
    "spec of another kind": Broken(
        "from neurai_core.plugin import Plugin\nfrom neurai_core.specs import SurrogateSpec\n"
        "plugin = Plugin(SurrogateSpec(name='broken', summary='s'), 'a:b')",
        "spec",
        "expected an instance of AlgorithmSpec",
        "authors",
    ),
    "spec of another name": Broken(
        HEAD + "    plugin = Plugin(AlgorithmSpec(name='other', summary='s'), 'a:b')",
        "spec",
        "its spec is named 'other', and the entry point 'broken'",
        "authors",
    ),
    "spec that raises": Broken(
        HEAD + "    plugin = Plugin(lambda: 1 / 0, 'a:b')", "spec", "ZeroDivisionError", "authors"
    ),
    "entry point that names nothing": Broken("plugin = 1", "import", "'not:a:reference'", "authors"),
    "unreadable requirement": Broken("plugin = 1", "requirements", "InvalidRequirement", "", ("neurai >>> 1",)),
}


def install(site: Any, broken: Broken) -> None:
    value = "not:a:reference" if broken is MORE["entry point that names nothing"] else "plugin"
    site.add("broken-dist", broken.source, entries={"broken": value}, requires=broken.requires)
    site.add("fine-dist", entries={"fine": "plugin"})


def row_of(registry: Registry, name: str) -> PluginStatus:
    return next(row for row in registry.plugins() if row.name == name)


@pytest.mark.parametrize("broken", [*BROKEN.values(), *MORE.values()], ids=[*BROKEN, *MORE])
class TestBroken:
    """One broken plugin beside a working one."""

    def test_it_is_listed_with_its_step_and_a_hint(self, broken: Broken, site: Any, registry: Registry) -> None:
        install(site, broken)
        row = row_of(registry, "broken")
        assert (row.status, row.step, row.distribution) == ("failed", broken.step, "broken-dist")
        assert broken.error in row.error
        assert broken.hint in row.hint
        assert "NEURAI_BLOCK=broken-dist hides it." in row.hint

    def test_looking_it_up_raises_every_time(self, broken: Broken, site: Any, registry: Registry) -> None:
        install(site, broken)
        raised = []
        for _ in range(2):
            with pytest.raises(PluginError) as info:
                registry.spec("algorithm", "broken")
            raised.append(info.value)
        assert raised[0].step == raised[1].step == broken.step
        assert raised[0].distribution == "broken-dist"
        assert raised[0].__cause__ is raised[1].__cause__ is not None

    def test_the_others_keep_working(self, broken: Broken, site: Any, registry: Registry) -> None:
        install(site, broken)
        assert {"broken", "fine", "bp"} <= set(registry.names("algorithm"))
        assert row_of(registry, "fine").status == row_of(registry, "bp").status == "ok"
        assert registry.create("algorithm", "fine")["eta"] == 0.1
        assert "fine" in registry.names("algorithm", supports="callable")


def test_a_distribution_that_asks_for_another_core_is_not_imported(site: Any, registry: Registry) -> None:
    install(site, BROKEN["core requirement not met"])
    with pytest.raises(PluginError):
        registry.spec("algorithm", "broken")
    assert "broken_dist" not in sys.modules


@pytest.mark.parametrize(
    "requirement",
    [
        "neurai",
        "neurai>=0.0.1",
        "neurai[equinox]<99",
        "neurai>=99; extra == 'future'",
        "neurai>=99; python_version < '3'",
        "neurai-other>=99",
        "numpy>=99",
    ],
)
def test_only_requirements_on_the_core_that_apply_are_checked(requirement: str, site: Any, registry: Registry) -> None:
    site.add("fine-dist", entries={"fine": "plugin"}, requires=(requirement,))
    assert registry.spec("algorithm", "fine").name == "fine"


def test_ctrl_c_while_loading_is_not_swallowed(site: Any, registry: Registry) -> None:
    site.add("slow-dist", "raise KeyboardInterrupt", entries={"slow": "plugin"})
    with pytest.raises(KeyboardInterrupt):
        registry.spec("algorithm", "slow")


def test_a_module_may_carry_the_hooks_itself(site: Any, registry: Registry) -> None:
    source = """
    from neurai_core.hookspecs import hookimpl
    from neurai_core.specs import AlgorithmSpec

    @hookimpl
    def neurai_spec():
        return AlgorithmSpec(name="plain", summary="A module")

    @hookimpl
    def neurai_build(context):
        return context["loss"]
    """
    site.add("plain-dist", source)
    site.add_metadata("again", {"plain": "plain_dist"}, group="neurai.algorithms", version="1", requires=())
    assert registry.create("algorithm", "plain", context={"loss": 7}) == 7


class TestAlias:
    """Entry points of one distribution that name one object are one plugin."""

    SOURCE = HEAD + "    plugin = Plugin(AlgorithmSpec(name='long', aliases=('l-g',), summary='s'), 'builtins:dict')"

    @pytest.fixture(autouse=True)
    def installed(self, site: Any) -> None:
        site.add("alias-dist", self.SOURCE, entries={"long": "plugin", "lg": "plugin"})

    def test_it_is_found_and_loaded_as_the_plugin(self, registry: Registry) -> None:
        assert registry.find("algorithm", "L.G") is registry.find("algorithm", "long")
        assert registry.spec("algorithm", "lg") is registry.spec("algorithm", "long")

    def test_it_is_listed_once_by_its_name(self, registry: Registry) -> None:
        assert [entry.aliases for entry in registry.entries("algorithm") if entry.name == "long"] == [("lg",)]
        assert "lg" not in registry.names("algorithm")
        assert [row.name for row in registry.plugins(static=True) if row.distribution == "alias-dist"] == ["long"]

    def test_what_is_near_an_alias_is_answered_with_the_name(self, registry: Registry) -> None:
        with pytest.raises(UnknownName, match="Did you mean 'long'"):
            registry.find("algorithm", "lgg")

    def test_blocking_it_blocks_the_plugin(self, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NEURAI_BLOCK", "lg")
        with pytest.raises(BlockedName):
            registry.find("algorithm", "long")

    def test_another_distribution_may_clash_with_it(
        self, site: Any, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        site.add("other-dist", entries={"lg": "plugin"})
        with pytest.raises(DuplicateName, match=r"'lg' is offered by lg@other-dist .* and by long@alias-dist"):
            registry.find("algorithm", "lg")
        assert (row_of(registry, "long").status, row_of(registry, "lg").status) == ("ok", "duplicate")
        monkeypatch.setenv("NEURAI_PREFER", "lg=alias-dist")
        assert registry.find("algorithm", "lg").name == "long"

    def test_a_spec_that_does_not_name_it_is_refused(self, site: Any, registry: Registry) -> None:
        site.add("shy-dist", entries={"shy": "plugin", "bold": "plugin"})
        with pytest.raises(PluginError, match="its spec is named 'shy', and the entry point 'bold'"):
            registry.spec("algorithm", "shy")

    def test_the_name_is_that_of_the_object_wherever_it_stands(self, site: Any, registry: Registry) -> None:
        site.add("order-dist", "", entries={"aka": "rule", "rule": "rule"})
        assert registry.find("algorithm", "aka").name == "rule"


def test_a_plugin_is_loaded_once(site: Any, registry: Registry) -> None:
    site.add("fine-dist", entries={"fine": "plugin"})
    assert registry.spec("algorithm", "fine") is registry.spec("algorithm", "FINE")
    del sys.modules["fine_dist"]
    registry.spec("algorithm", "fine")
    assert "fine_dist" not in sys.modules


def test_a_failed_plugin_is_tried_again_when_something_was_installed(site: Any, registry: Registry) -> None:
    site.add("hungry-dist", "import food_dist\nfrom food_dist import plugin", entries={"hungry": "plugin"})
    with pytest.raises(PluginError, match="No module named 'food_dist'"):
        registry.spec("algorithm", "hungry")
    site.add("food-dist", entries={"hungry": "absent"}, group="none")
    assert registry.spec("algorithm", "hungry").name == "hungry"


class TestBuild:
    """What happens when the object itself is built."""

    def install(self, site: Any, body: str, requires: str = "{}") -> None:
        source = f"""
        from neurai_core.errors import ModelError
        from neurai_core.plugin import Plugin
        from neurai_core.specs import AlgorithmSpec, Config
        class Settings(Config):
            broken: bool = True
        def build(config, **context):
            {body}
        plugin = Plugin(AlgorithmSpec(name="rule", summary="s", config=Settings, requires={requires}), build)
        """
        site.add("rule-dist", source, entries={"rule": "plugin"})

    def test_a_failure_is_kept_until_building_succeeds(self, site: Any, registry: Registry) -> None:
        self.install(site, "return 1 / (0 if config.broken else 1)")
        with pytest.raises(PluginError, match="failed at step 'build': ZeroDivisionError") as raised:
            registry.create("algorithm", "rule")
        assert isinstance(raised.value.__cause__, ZeroDivisionError)
        assert (row_of(registry, "rule").status, row_of(registry, "rule").step) == ("failed", "build")
        assert registry.spec("algorithm", "rule").name == "rule"
        assert registry.create("algorithm", "rule", settings={"broken": False}) == 1
        assert row_of(registry, "rule").status == "ok"

    def test_a_broken_settings_class_is_the_plugins_failure(self, site: Any, registry: Registry) -> None:
        self.install(site, "return 1")
        path = site.path / "rule_dist.py"
        path.write_text(path.read_text().replace("broken: bool = True", "broken: 'Unheard' = True"))
        with pytest.raises(PluginError, match=r"failed at step 'settings'.*not fully defined"):
            registry.create("algorithm", "rule")
        assert row_of(registry, "rule").step == "settings"

    def test_errors_about_what_the_caller_gave_come_through(self, site: Any, registry: Registry) -> None:
        self.install(site, "raise ModelError('The model has no layers.')")
        with pytest.raises(UsageError, match="The model has no layers"):
            registry.create("algorithm", "rule")
        assert row_of(registry, "rule").status == "ok"

    def test_sys_exit_is_contained(self, site: Any, registry: Registry) -> None:
        self.install(site, "raise SystemExit")
        with pytest.raises(PluginError, match="SystemExit"):
            registry.create("algorithm", "rule")

    def test_building_nothing_is_a_failure(self, site: Any, registry: Registry) -> None:
        self.install(site, "return None")
        with pytest.raises(PluginError, match="neurai_build returned None"):
            registry.create("algorithm", "rule")

    @pytest.mark.parametrize(
        ("kind", "spec", "expected"),
        [
            ("surrogate", "SurrogateSpec", "a Surrogate"),
            ("adapter", "AdapterSpec", "an Adapter"),
            ("dataset", "DatasetSpec", "a Dataset"),
        ],
    )
    def test_building_something_else_is_a_failure(self, kind: str, spec: str, expected: str) -> None:
        plugin = Plugin(getattr(specs, spec)(name="wrong-thing", summary="s"), lambda config, **context: 42)
        with (
            neurai.temporary(plugin),
            pytest.raises(PluginError, match=f"wrong-thing@in-process .*returned 42, expected {expected}"),
        ):
            getattr(neurai, kind)("wrong-thing")

    def test_a_missing_library_names_the_extra_and_leaves_the_spec(self, site: Any, registry: Registry) -> None:
        self.install(site, "return 1", requires="{'os': 'neurai[os]', 'no_such_library': 'neurai[none]'}")
        with pytest.raises(MissingExtra) as raised:
            registry.create("algorithm", "rule")
        assert raised.value.message == "Algorithm 'rule' needs 'no_such_library', which is not installed."
        assert raised.value.hint == "python -m pip install 'neurai[none]'"
        row = row_of(registry, "rule")
        assert (row.status, row.hint) == ("ok", "python -m pip install 'neurai[none]'")
        assert registry.spec("algorithm", "rule").name == "rule"


class TestIsolated:
    """Each plugin in a process of its own."""

    @pytest.mark.usefixtures("alone")
    def test_a_segfault_is_survived_and_named(self, site: Any, registry: Registry) -> None:
        site.add("crash-dist", "import ctypes; ctypes.string_at(0)", entries={"crash": "plugin"})
        site.add("leave-dist", "import os; os._exit(5)", entries={"leave": "plugin"})
        install(site, BROKEN["syntax error"])
        rows = {row.name: row for row in registry.plugins(isolate=True) if row.distribution != "neurai"}
        assert (rows["crash"].status, rows["crash"].step) == ("crash", "import")
        assert rows["crash"].error == "Its process was ended by SIGSEGV (signal 11)."
        assert rows["crash"].hint.startswith("Innermost frame: File ")
        assert (rows["leave"].status, rows["leave"].error) == (
            "crash",
            "Its process ended with exit status 5.",
        )
        assert (rows["broken"].status, rows["broken"].step) == ("failed", "import")
        assert rows["fine"].status == "ok"
        assert not {"crash_dist", "fine_dist", "broken_dist"} & set(sys.modules)

    def test_blocked_and_clashing_plugins_are_not_started(
        self, site: Any, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("neurai_core.registry.isolation._run", lambda command: pytest.fail("started"))
        others = {row.distribution for row in registry.plugins(static=True)}
        monkeypatch.setenv("NEURAI_BLOCK", ",".join({*others, "dist-c"}))
        for name in "abc":
            site.add(f"dist-{name}", entries={"same": "plugin"})
        rows = {row.distribution: row.status for row in registry.plugins(isolate=True) if row.name == "same"}
        assert rows == {"dist-a": "duplicate", "dist-b": "duplicate", "dist-c": "blocked"}


def test_who_works_on_a_plugin_is_told_where_to_correct_it(site: Any, registry: Registry, tmp_path: Path) -> None:
    site.add("broken-dist", "raise ValueError", entries={"broken": "plugin"})
    origin = {"url": (tmp_path / "my work").as_uri(), "dir_info": {"editable": True}}
    (site.path / "broken_dist-1.0.dist-info" / "direct_url.json").write_text(json.dumps(origin))
    with pytest.raises(PluginError) as info:
        registry.spec("algorithm", "broken")
    assert info.value.hint == f"Correct it in {tmp_path}/my work, from where broken-dist is installed as editable."


def test_a_plugin_of_this_process_is_corrected_where_it_is_defined(registry: Registry) -> None:
    with pytest.raises(PluginError) as info:
        registry.register(Plugin(lambda: 1 / 0, "a:b"))
    assert info.value.hint == "Correct it where it is defined."
