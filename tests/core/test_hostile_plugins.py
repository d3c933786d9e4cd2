"""Plugins that crash, hang, print or change JAX: what is listed beside them, and what is said of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neurai_core.cli.metadata import damages
from neurai_core.registry import Registry, isolation
from neurai_core.registry.jax_configuration import configuration_changes

CRASHES = {
    "leaves": ("import os; os._exit(5)", "Its process ended with exit status 5."),
    "segfaults": ("import ctypes; ctypes.string_at(0)", "Its process was ended by SIGSEGV (signal 11)."),
    "hangs": ("import time; time.sleep(100)", "No answer within 1 s."),
    "exits": ("import sys; sys.exit(0)", "SystemExit: 0."),
}
PRINTS = "import os; print('import'); os.write(1, b'below'); os.system('echo child')\n"


def install(site: Any, source: Callable[..., str]) -> None:
    for name, (body, _) in CRASHES.items():
        site.add(f"{name}-dist", body, entries={name: "plugin"})
    site.add(
        "prints-dist",
        PRINTS + "\n".join(line[8:] for line in source("prints").splitlines()),
        entries={"prints": "plugin"},
    )
    site.add("fine-dist", entries={"fine": "plugin"})


COMMANDS = """
    import contextlib, io, json, os, sys
    from neurai_core.registry import isolation
    from neurai_core.cli import main
    isolation.TIMEOUT = 1.0
    assert not {"jax", "fine_dist"} & set(sys.modules)
    kept = os.dup(1)
    codes, told = [], []
    for words in (["rules"], ["plugins"], ["doctor"]):
        read, write = os.pipe()
        os.dup2(write, 1), os.close(write)
        codes.append(main([*words, "--json"]))
        os.dup2(kept, 1)
        told.append(json.loads(open(read).read()))
    print(json.dumps([codes, told]))
"""


def test_commands_survive_them_and_print_json_alone(site: Any, source: Any, python: Callable[..., str]) -> None:
    install(site, source)
    codes, (rules, plugins, doctor) = json.loads(python(COMMANDS))
    assert codes == [0, 1, 1]
    assert {"fine", "prints", "bp"} <= {one["name"] for one in rules}
    rows = {one["name"]: one for one in plugins}
    assert rows["fine"]["status"] == rows["prints"]["status"] == "ok"
    for name, (_, said) in CRASHES.items():
        assert (rows[name]["status"], rows[name]["step"]) == ("failed", "import")
        assert said in rows[name]["error"]
        assert f"NEURAI_BLOCK={name}-dist hides it." in rows[name]["hint"]
        assert any(line.startswith(f"algorithm {name}: ") for line in doctor["wrong"])
    assert len(doctor["wrong"]) == len(CRASHES)


def test_training_by_another_rule_loads_none_of_them(site: Any, source: Any, python: Callable[..., str]) -> None:
    install(site, source)
    printed = python(
        """
        import sys
        import neurai_core as neurai
        from neurai_core.training.settings import choose
        chosen = choose({"rule": "bp", "model": "mlp:4"}, environ={})
        neurai.dataset(chosen.settings.data)
        neurai.algorithm(chosen.settings.rule)
        neurai.adapt(lambda params, x: x)
        neurai.grads.BP("mse").rule()
        print([name for name in sys.modules if name.endswith("_dist")])
        """
    )
    assert printed.strip() == "[]"


def test_where_no_copy_can_be_made_each_has_a_process_of_its_own(
    site: Any, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    import jax  # noqa: F401

    site.add("leaves-dist", CRASHES["leaves"][0], entries={"leaves": "plugin"})
    monkeypatch.setattr("os.fork", lambda: pytest.fail("forked beside threads"))
    monkeypatch.setattr(isolation, "TIMEOUT", 60.0)
    registry.vet("algorithm")
    row = next(row for row in registry.plugins() if row.name == "leaves")
    assert (row.status, "exit status 5" in row.error) == ("failed", True)


def test_without_plugins_of_others_no_process_is_started(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    others = {row.distribution for row in registry.plugins(static=True)} - {"neurai"}
    monkeypatch.setenv("NEURAI_BLOCK", ",".join(others))
    monkeypatch.setattr("os.fork", lambda: pytest.fail("forked"))
    monkeypatch.setattr("neurai_core.registry.isolation._run", lambda command: pytest.fail("started"))
    registry.vet()


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("import jax; jax.config.update('jax_debug_infs', True)", "jax_debug_infs: False -> True"),
        ("import os; os.environ['JAX_ENABLE_X64'] = '1'", "JAX_ENABLE_X64: None -> '1'"),
    ],
    ids=["option", "variable"],
)
def test_a_plugin_that_changes_jax_is_reported(body: str, said: str, site: Any, source: Any, python: Any) -> None:
    site.add("loud-dist", body + source("loud").replace("\n        ", "\n"), entries={"loud": "plugin"})
    printed = python(
        """
        from neurai_core.cli import main
        print(main(["plugins"]))
        """
    )
    assert said in " ".join(printed.split())
    assert printed.splitlines()[-1] == "1"


def test_what_changes_while_jax_is_imported_is_no_change(python: Callable[..., str]) -> None:
    printed = python(
        """
        from neurai_core.registry.jax_configuration import configuration_changes
        with configuration_changes() as changes:
            import jax
        with configuration_changes() as more:
            jax.config.update("jax_debug_infs", True)
        print(changes, more)
        """
    )
    assert printed.strip() == "[] ['jax_debug_infs: False -> True']"
    with configuration_changes() as changes:
        pass
    assert changes == []


class TestMetadata:
    """What decides which plugins are found may itself be damaged, or older than the code."""

    def of(self, name: str) -> list[str]:
        return [problem for distribution, problem in damages() if name in distribution]

    def test_a_sound_installation_has_no_damage(self, site: Any) -> None:
        site.add("fine-dist", entries={"fine": "plugin"})
        assert list(damages()) == []

    def test_a_core_without_plugins_is_damaged(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("neurai_core.registry.scan._entry_points", lambda: ([], []))
        (problem,) = self.of("neurai")
        assert problem.startswith(
            "They list no algorithms and no surrogates and no adapters and no datasets and no observers."
        )

    def test_a_distribution_without_a_name_is_damaged(self, site: Any) -> None:
        site.add("fine-dist", entries={"fine": "plugin"})
        (site.path / "fine_dist-1.0.dist-info" / "METADATA").unlink()
        assert "no METADATA" in self.of("fine_dist-1.0.dist-info")[0]

    def test_two_versions_in_one_folder_are_told(self, site: Any) -> None:
        site.add("fine-dist", entries={"fine": "plugin"})
        site.add("fine-dist", entries={"fine": "plugin"}, version="2.0")
        assert "They are there twice" in self.of("fine-dist")[0]

    @pytest.mark.parametrize(("name", "said"), [("late", "They lack late"), ("fine", "They still list fine")])
    def test_an_editable_installation_is_compared_with_its_source(
        self, name: str, said: str, site: Any, tmp_path: Path
    ) -> None:
        site.add("fine-dist", entries={"fine": "plugin"})
        other = {"late": 'fine = "a:b"\nlate = "a:b"', "fine": 'other = "a:b"'}[name]
        (tmp_path / "pyproject.toml").write_text(f'[project.entry-points."neurai.algorithms"]\n{other}\n')
        told = {"url": tmp_path.as_uri(), "dir_info": {"editable": True}}
        (site.path / "fine_dist-1.0.dist-info" / "direct_url.json").write_text(json.dumps(told))
        assert any(said in problem for problem in self.of("fine-dist"))


def test_a_stranger_that_breaks_every_scan_is_blamed_and_not_our_plugin(site: Any, python: Callable[..., str]) -> None:
    site.add("torn-dist", "", entries={"torn": "plugin"}, group="others")
    (site.path / "torn_dist-1.0.dist-info" / "entry_points.txt").write_text("[others]\nno equals sign\n")
    printed = python(
        """
        import neurai_core as neurai
        try:
            neurai.dataset("digits")
            neurai.algorithm("pc")
        except neurai.PluginError as error:
            print(error.distribution, error.message, error.hint)
        """
    )
    assert printed.startswith("torn-dist Plugin ")
    assert "the metadata of the distribution torn-dist 1.0 are damaged" in printed
    assert "Install torn-dist again, or remove it." in printed
