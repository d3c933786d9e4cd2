"""`neurai check`: what it prints, and how it answers to bad input."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import pytest

import neurai_core
from neurai_core.plugin import Plugin
from neurai_core.specs import Config, SurrogateSpec
from neurai_core.surrogates import custom
from neurai_core.testing import conformance
from neurai_core.testing.checking import Broken, Check, Measured

Run = Callable[..., Any]


def _hangs(subject: Any) -> None:
    time.sleep(1.0)


def _breaks(subject: Any) -> None:
    raise Broken("it is broken")


CHECKS = (
    Check("sound", lambda subject: None, "", ""),
    Check("small", lambda subject: Measured(0.25, 0.5), "", "hint"),
    Check("unknown-figure", lambda subject: Measured(math.nan, 0.5), "", "Look for NaN."),
    Check("broken", _breaks, "", "Mend it."),
    Check("held", lambda subject: None, "", "", claim="round", remark=True),
)
KNOWN = {"broken": "it was always broken"}


def plugin(name: str, **facts: Any) -> Plugin:
    spec = SurrogateSpec(name=name, summary="One of the tests.", config=Config, **facts)
    return Plugin(spec, lambda config: custom(derivative=jnp.cos))


@pytest.fixture
def kit(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Check], None]]:
    """Two surrogates, and a kit of five checks that are quick; calling it adds a check."""
    checks = list(CHECKS)

    def use() -> None:
        kits = {"surrogate": conformance.KITS["surrogate"]._replace(checks=tuple(checks))}
        monkeypatch.setattr(conformance, "KITS", kits)

    def add(one: Check) -> None:
        checks.append(one)
        use()

    use()
    with ExitStack() as stack:
        for one in (plugin("first", known_failures=KNOWN), plugin("second", aliases=("other",))):
            stack.enter_context(neurai_core.temporary(one))
        yield add


def test_one_row_per_subject_then_failures_expected_ones_and_remarks(neurai: Run, kit: Any) -> None:
    done = neurai("check", "first", "second")
    lines = [line.split()[:-1] for line in done.out.splitlines()]  # without the time it took
    assert done.code == 1
    assert ["surrogate", "first", "2", "1", "1", "1"] in lines
    assert ["surrogate", "second", "2", "2", "0", "1"] in lines
    assert (
        "FAILED surrogate first, unknown-figure (figure nan, tolerance 0.5)\n  nan, expected at most 0.5\n"
        "  Look for NaN.\nFAILED surrogate second, unknown-figure"
    ) in done.out
    assert "FAILED surrogate second, broken\n  it is broken\n  Mend it.\n" in done.out
    assert "Expected failures:\n  surrogate first, broken: it was always broken\n" in done.out
    assert "Remarks:\n  surrogate first, held: round is not claimed, although it holds here\n" in done.out
    assert done.out.endswith("4 passed, 3 failed, 1 expected failure, 2 skipped\n")


def test_verbose_shows_every_check(neurai: Run, kit: Any) -> None:
    done = neurai("check", "first", "--verbose", "--only", "small", "--only", "sound")
    rows = [line.split() for line in done.out.splitlines() if line.startswith(" surrogate")]
    assert done.code == 0
    assert rows == [
        ["surrogate", "first", "sound", "passed", "-", "-", "-"],
        ["surrogate", "first", "small", "passed", "0.25", "0.5", "-"],
    ]


def test_json_has_a_record_per_check_also_of_figures_that_json_cannot_hold(neurai: Run, kit: Any) -> None:
    done = neurai("check", "first", "--json", "--only", "unknown-figure")
    (record,) = done.json
    assert done.code == 1 and record.pop("seconds") >= 0
    assert record == {
        "subject": "surrogate first",
        "check": "unknown-figure",
        "status": "failed",
        "figure": "nan",
        "tolerance": 0.5,
        "reason": "nan, expected at most 0.5",
        "hint": "Look for NaN.",
    }


def test_what_is_named_twice_or_by_an_alias_is_checked_once(neurai: Run, kit: Any) -> None:
    names = ("second", "other", "second", "second@in-process")
    done = neurai("check", *names, "--json", "--only", "sound")
    assert [one["subject"] for one in done.json] == ["surrogate second"]


def test_a_qualified_name_is_checked_under_that_name(neurai: Run, kit: Any) -> None:
    done = neurai("check", "superspike@neurai", "--json", "--only", "sound")
    assert [(one["subject"], one["status"]) for one in done.json] == [("surrogate superspike@neurai", "passed")]


def test_a_check_that_runs_too_long_is_bounded_and_reported(neurai: Run, kit: Any) -> None:
    kit(Check("slow", _hangs, "", ""))
    done = neurai("check", "first", "--only", "slow", "--timeout", "0.1")
    assert done.code == 1 and "not finished after 0.1 s\n  Look for a loop that does not end" in done.out
    assert "allow more time: --timeout 60 on the command line, timeout=60 in Python.\n" in done.out


def test_a_check_that_was_left_behind_does_not_disturb_the_end_of_the_command() -> None:
    program = (
        "import atexit, os, sys\natexit.register(os._exit, 134)  # as where Python ends while XLA computes\n"
        "from neurai_core.cli import main\nsys.exit(main())"
    )
    arguments = ["check", "bp", "--only", "learns", "--timeout", "0.02"]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout[-9:]) == (1, "1 failed\n"), done.stderr


def test_everything_is_checked_and_a_plugin_that_cannot_be_loaded_fails(
    neurai: Run, kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = conformance.REGISTRY.spec

    def spec(kind: str, name: str) -> Any:
        if name == "second":
            raise neurai_core.errors.PluginError("Plugin second could not be imported.", "Ask its authors.")
        return real(kind, name)

    monkeypatch.setattr(conformance.REGISTRY, "spec", spec)
    done = neurai("check", "--all", "--only", "sound")
    assert done.code == 1
    assert "FAILED surrogate second, loads\n  Plugin second could not be imported.\n  Ask its authors.\n" in done.out
    assert done.out.endswith(f"{len(neurai_core.names('surrogate')) - 1} passed, 1 failed\n")
    named = neurai("check", "first", "second")
    assert named.code == 1 and named.out == "" and "Plugin second could not be imported." in named.err


def test_a_check_of_one_kind_leaves_out_the_others(neurai: Run) -> None:
    done = neurai("check", "bp", "superspike", "--only", "peak", "--json")
    assert [one["subject"] for one in done.json] == ["surrogate superspike"]


def installed(folder: Path, source: str) -> dict[str, str]:
    """The environment in which a distribution with a rule ``outside`` is installed."""
    (folder / "outside.py").write_text(source)
    info = folder / "outside-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[neurai.algorithms]\noutside = outside:plugin\n")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}


PLUGIN = """
from neurai_core.plugin import Plugin
from neurai_core.specs import AlgorithmSpec, Config
plugin = Plugin(AlgorithmSpec(name="outside", summary="A rule", config=Config), "outside:build")
"""


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("source", "arguments", "code", "said"),
    [
        ("import time\ntime.sleep(1000)", ("--timeout", "2"), 1, "No answer within 2 s."),
        ("import jax\n" + PLUGIN, ("--only", "light"), 1, "loading outside:plugin imports JAX, in {file}, line 1\n"),
        ("\nfrom neurai_core import rule\n" + PLUGIN, ("--only", "light"), 1, "{file}, line 2\n"),
        (PLUGIN, ("--only", "light"), 0, "1 passed"),
    ],
    ids=["hangs", "imports JAX", "imports JAX by way of NeurAI", "sound"],
)
def test_a_plugin_is_loaded_in_a_process_of_its_own_first(
    tmp_path: Path, source: str, arguments: tuple[str, ...], code: int, said: str
) -> None:
    command = [sys.executable, "-m", "neurai_core", "check", "outside", *arguments]
    environment = installed(tmp_path, source)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr
    assert said.format(file=tmp_path / "outside.py") in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["check"], "neurai check takes names or --all, and got neither."),
        (["check", "bp", "--all"], "neurai check takes names or --all, and got both."),
        (["check", "superspik"], "There is nothing to check by the name 'superspik'. Did you mean 'superspike'?"),
        (["check", "superspike@nowhere"], "There is nothing to check by the name 'superspike@nowhere'."),
        (["check", "superspike", "--only", "peek"], "There is no check 'peek'. Did you mean 'peak'?"),
        (["check", "superspike", "--timeout", "0"], "--timeout 0, expected a number of seconds above 0."),
        (["check", "superspike", "--timeout", "-3"], "--timeout -3, expected a number of seconds above 0."),
        (["check", "superspike", "--timeout", "nan"], "--timeout nan, expected a number of seconds above 0."),
        (["check", "superspike", "--timeout", "inf"], "--timeout inf, expected a number of seconds above 0."),
        (["check", "superspike", "--timeout", "soon"], "Invalid value for '--timeout'"),
    ],
)
def test_bad_input_is_one_clear_sentence(neurai: Run, words: list[str], expected: str) -> None:
    done = neurai(*words)
    assert (done.code, done.out) == (2, "") and expected in done.err and "Traceback" not in done.err


@pytest.mark.slow
def test_the_command_spreads_batches_over_several_devices() -> None:
    program = (
        "from neurai_core.cli import main\ntry:\n    main()\nfinally:\n    import jax\n    print(jax.device_count())"
    )
    arguments = ["check", "bp", "--only", "sharded-explicit", "--only", "shard-map"]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=300, check=True
    )
    assert "2 passed" in done.stdout and done.stdout.strip().endswith("8"), done.stdout
