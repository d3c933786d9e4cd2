"""Discovery: what is found, without importing or parsing more than needed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neurai_core.errors import BlockedName, DuplicateName, UnknownName, UsageError
from neurai_core.registry import Registry
from neurai_core.registry.kinds import KINDS, find_kind
from neurai_core.registry.scan import Index
from neurai_core.registry.switches import Switches


def test_names_are_listed_without_importing_them(site: Any, registry: Registry) -> None:
    module = site.add("dist-a", "raise RuntimeError('imported')", entries={"aaa": "plugin"})
    assert "aaa" in registry.names("algorithm")
    assert module not in sys.modules


@pytest.mark.parametrize("kind", ["algorithm", "algorithms", "Algorithms"])
def test_a_kind_may_be_given_in_the_plural(kind: str, registry: Registry) -> None:
    assert "bp" in registry.names(kind)


def test_an_unknown_kind_gets_a_suggestion(registry: Registry) -> None:
    with pytest.raises(UnknownName, match=r"No kind is named 'algorythm'. Did you mean 'algorithm'?"):
        registry.names("algorythm")


def test_kinds_are_rows_of_a_table() -> None:
    table = {kind.name: kind for kind in KINDS}
    assert [find_kind(table, kind.plural) for kind in KINDS] == list(KINDS)


@pytest.mark.parametrize("spelling", ["long_name", "LongName", "long-name", "LONG.NAME"])
def test_any_spelling_finds_a_name(spelling: str, site: Any, registry: Registry) -> None:
    site.add("dist-a", entries={"long-name": "plugin"})
    assert registry.find("algorithm", spelling).name == "long-name"


def test_metadata_is_parsed_only_when_a_distribution_is_asked_for(
    site: Any, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib_metadata

    site.add("dist-a", entries={"aaa": "plugin"})
    parsed: list[Any] = []
    original = importlib_metadata.Distribution.metadata
    monkeypatch.setattr(
        importlib_metadata.Distribution,
        "metadata",
        property(lambda self: parsed.append(self) or original.__get__(self)),
    )
    entry = registry.find("algorithm", "aaa")
    assert parsed == []
    assert (entry.distribution, entry.version) == ("dist-a", "1.0")
    assert len(parsed) > 0


def test_one_distribution_seen_twice_counts_once(
    site: Any, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.add("dist-a", entries={"aaa": "plugin"})
    link = site.path.parent / "lib64"
    link.symlink_to(site.path)
    monkeypatch.syspath_prepend(str(link))
    assert [entry.name for entry in registry.entries("algorithm")].count("aaa") == 1
    assert registry.spec("algorithm", "aaa").name == "aaa"


def test_an_unreadable_distribution_is_listed_and_hides_no_other(site: Any, registry: Registry) -> None:
    site.add("dist-a", entries={"aaa": "plugin"})
    site.add("dist-b", entries={"bbb": "plugin"})
    (site.path / "dist_b-1.0.dist-info" / "entry_points.txt").write_text("[neurai.algorithms]\nno equals sign\n")
    assert {"aaa", "bp"} <= set(registry.names("algorithm"))
    row = next(row for row in registry.plugins(static=True) if row.distribution == "dist-b")
    assert (row.status, row.step) == ("failed", "scan")


def test_a_distribution_without_metadata_is_listed_and_hides_no_other(site: Any, registry: Registry) -> None:
    site.add("dist-a", entries={"aaa": "plugin"})
    (site.path / "dist_a-1.0.dist-info" / "METADATA").unlink()
    row = next(row for row in registry.plugins() if row.name == "aaa")
    assert (row.distribution, row.version) == ("?", "?")
    assert "bp" in registry.names("algorithm")


def test_the_index_is_stale_when_a_folder_on_the_path_changes(site: Any) -> None:
    index = Index(KINDS)
    assert not index.stale()
    site.add("dist-a")
    assert index.stale()


def test_a_miss_rescans_when_something_was_installed(site: Any, registry: Registry) -> None:
    with pytest.raises(UnknownName):
        registry.spec("algorithm", "late")
    site.add("dist-late", entries={"late": "plugin"})
    assert registry.spec("algorithm", "late").name == "late"


def test_a_miss_does_not_rescan_when_nothing_changed(
    site: Any, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert registry.names("algorithm")
    monkeypatch.setattr("neurai_core.registry.lookup.Index", lambda kinds: pytest.fail("scanned again"))
    for _ in range(3):
        with pytest.raises(UnknownName):
            registry.find("algorithm", "missing")


def test_a_name_of_another_kind_is_pointed_out(registry: Registry) -> None:
    with pytest.raises(UnknownName) as raised:
        registry.find("algorithm", "superspike")
    assert raised.value.message == "No algorithm is named 'superspike': 'superspike' is a surrogate."
    assert raised.value.hint == "neurai.surrogate('superspike') finds it."
    with pytest.raises(UnknownName, match=r"Did you mean the surrogate 'superspike'?"):
        registry.find("algorithm", "superspik")


def test_an_unknown_name_gets_a_suggestion_and_the_list(site: Any, registry: Registry) -> None:
    site.add("dist-a", entries={"predictive": "plugin"})
    with pytest.raises(UnknownName) as raised:
        registry.find("algorithm", "predictiv")
    assert raised.value.message == "No algorithm is named 'predictiv'. Did you mean 'predictive'?"
    assert raised.value.hint.startswith("Installed algorithms: ") and " bp, " in raised.value.hint
    assert "predictive" in raised.value.hint


def test_a_name_that_is_no_string_is_refused(registry: Registry) -> None:
    with pytest.raises(UsageError, match="The name of an algorithm is a int, expected a string"):
        registry.find("algorithm", 3)  # type: ignore[arg-type]


class TestDuplicates:
    """Two distributions offer one name."""

    @pytest.fixture(autouse=True)
    def two(self, site: Any) -> None:
        site.add("dist-a", entries={"dup": "plugin"}, version="0.1")
        site.add("dist-b", entries={"DUP": "plugin"}, version="0.2")

    def test_it_is_an_error_that_names_both_before_either_is_imported(self, registry: Registry) -> None:
        with pytest.raises(DuplicateName) as raised:
            registry.spec("algorithm", "dup")
        assert "dup@dist-a 0.1" in raised.value.message
        assert "DUP@dist-b 0.2" in raised.value.message
        assert not {"dist_a", "dist_b"} & set(sys.modules)

    def test_the_error_says_the_three_ways_to_choose(self, registry: Registry) -> None:
        with pytest.raises(DuplicateName) as raised:
            registry.spec("algorithm", "dup")
        for way in ("'dup@dist-", "NEURAI_PREFER=dup=dist-", "NEURAI_BLOCK=dist-"):
            assert way in raised.value.hint.replace("DUP", "dup")

    def test_a_qualified_name_chooses(self, registry: Registry) -> None:
        assert registry.find("algorithm", "dup@Dist_B").version == "0.2"
        registry.spec("algorithm", "dup@dist-a")
        assert "dist_a" in sys.modules
        assert "dist_b" not in sys.modules

    def test_a_preference_chooses(self, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NEURAI_PREFER", "other=x, Dup=dist.b")
        assert registry.find("algorithm", "dup").distribution == "dist-b"

    def test_a_preference_for_a_stranger_chooses_nothing(
        self, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("NEURAI_PREFER", "dup=dist-c")
        with pytest.raises(DuplicateName):
            registry.find("algorithm", "dup")

    def test_blocking_one_leaves_the_other(self, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NEURAI_BLOCK", "dup@dist-a")
        assert registry.find("algorithm", "dup").distribution == "dist-b"

    def test_names_lists_it_once_and_plugins_shows_both(self, registry: Registry) -> None:
        assert [name.lower() for name in registry.names("algorithm")].count("dup") == 1
        rows = [row for row in registry.plugins() if row.name.lower() == "dup"]
        assert [row.status for row in rows] == ["duplicate", "duplicate"]
        assert not {"dist_a", "dist_b"} & set(sys.modules)

    def test_plugins_shows_the_preferred_one_as_fine(self, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NEURAI_PREFER", "dup=dist-b")
        rows = {row.distribution: row.status for row in registry.plugins() if row.name.lower() == "dup"}
        assert rows == {"dist-a": "duplicate", "dist-b": "ok"}


def test_a_qualified_name_of_a_stranger_says_who_offers_it(registry: Registry) -> None:
    with pytest.raises(UnknownName) as raised:
        registry.find("algorithm", "bp@stranger")
    assert raised.value.message == "Algorithm 'bp' is not offered by 'stranger'."
    assert raised.value.hint == "It is offered by neurai."


class TestSwitches:
    """The environment decides what may be loaded, before it is imported."""

    @pytest.fixture(autouse=True)
    def outsider(self, site: Any) -> None:
        site.add("dist-a", "raise RuntimeError('imported')", entries={"aaa": "plugin"})

    @pytest.mark.parametrize(
        ("switch", "value"),
        [
            ("NEURAI_ONLY", ""),
            ("NEURAI_ONLY", "other,another"),
            ("NEURAI_BLOCK", "x,Dist_A"),
            ("NEURAI_BLOCK", "A-A-A"),
            ("NEURAI_BLOCK", "aaa@dist-a"),
            ("NEURAI_DISABLE_PLUGIN_AUTOLOAD", "1"),
        ],
    )
    def test_what_is_blocked_is_not_imported_and_says_by_what(
        self, switch: str, value: str, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(switch, value)
        assert "aaa" not in registry.names("algorithm")
        with pytest.raises(BlockedName, match=f"'aaa' is installed but blocked by {switch}="):
            registry.spec("algorithm", "aaa")
        row = next(row for row in registry.plugins() if row.name == "aaa")
        assert row.status == "blocked"
        assert switch in row.error
        assert "dist_a" not in sys.modules

    @pytest.mark.parametrize(("switch", "value"), [("NEURAI_ONLY", ""), ("NEURAI_DISABLE_PLUGIN_AUTOLOAD", "1")])
    def test_built_ins_stay(self, switch: str, value: str, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(switch, value)
        assert registry.spec("algorithm", "bp").name == "bp"

    @pytest.mark.parametrize("value", ["dist-a", "DIST_A", "aaa", "x,aaa@dist.a"])
    def test_the_allow_list_takes_names_and_distributions(
        self, value: str, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("NEURAI_ONLY", value)
        assert "aaa" in registry.names("algorithm")

    def test_a_built_in_can_be_blocked(self, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NEURAI_BLOCK", "bp")
        with pytest.raises(BlockedName, match="NEURAI_BLOCK=bp"):
            registry.spec("algorithm", "bp")

    def test_the_one_place_that_imports_asks_the_switches_itself(
        self, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from neurai_core.registry.loading import load

        entry = registry.find("algorithm", "aaa")
        monkeypatch.setenv("NEURAI_BLOCK", "dist-a")
        with pytest.raises(BlockedName):
            load(entry, KINDS[0])
        assert "dist_a" not in sys.modules


def test_a_preference_without_a_distribution_is_refused() -> None:
    with pytest.raises(UsageError, match="NEURAI_PREFER holds 'pc', expected name=distribution"):
        Switches.read({"NEURAI_PREFER": "pc"})


def test_500_distributions_are_listed_and_looking_up_one_imports_one(site: Any, python: Callable[..., str]) -> None:
    for index in range(500):
        site.add(f"dummy-{index:03}", entries={f"rule{index:03}": "plugin"})
    printed = python(
        """
        import sys
        from neurai_core.registry import REGISTRY
        names = REGISTRY.names("algorithm")
        assert sum(name.startswith("rule") for name in names) == 500
        assert REGISTRY.spec("algorithm", "rule123").name == "rule123"
        print([module for module in sys.modules if module.startswith("dummy")])
        """
    )
    assert printed.strip() == "['dummy_123']"


def test_the_trace_says_what_is_loaded(
    site: Any, registry: Registry, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    site.add("dist-a", entries={"aaa": "plugin"})
    monkeypatch.setenv("NEURAI_TRACE", "1")
    registry.spec("algorithm", "aaa")
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "neurai: scan entry points" in printed.err
    assert "neurai: import aaa@dist-a 1.0 dist_a:plugin" in printed.err


def test_a_folder_that_is_gone_from_the_path_does_no_harm(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path / "gone"))
    assert "bp" in registry.names("algorithm")
