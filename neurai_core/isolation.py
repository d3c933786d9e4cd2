"""Loading a plugin in a process of its own, which may die without taking ours along."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from neurai_core.discovery import OBSERVER, Entry, Index, Kind
from neurai_core.errors import NeurAIError, PluginError
from neurai_core.loading import load, load_observer

TIMEOUT = 120.0
_CHILD = """\
import json, sys
request = json.load(open(sys.argv[1]))
sys.path[:] = request["path"]
from neurai_core.isolation import answer
answer(request, sys.argv[2])
"""


def load_isolated(entry: Entry, kind: Kind) -> dict[str, str]:
    """Load a plugin in a child process.

    Returns:
        The fields ``status`` (``ok``, ``failed`` or ``crash``), ``step``, ``error`` and ``hint``.
    """
    request = {
        "path": sys.path,
        "kind": [kind.name, kind.plural, kind.group, kind.spec],
        "entry": [entry.name, entry.value, entry.distribution],
    }
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder, "request.json"), Path(folder, "answer.json")
        asked.write_text(json.dumps(request))
        died = _run([sys.executable, "-X", "faulthandler", "-c", _CHILD, str(asked), str(answered)])
        said = json.loads(answered.read_text()) if answered.exists() else _answer("crash", step="import")
    return said if said["status"] != "crash" else said | died


def answer(request: dict[str, Any], path: str) -> None:
    """What the child does: load, and keep a file that says how far it came."""

    def say(said: dict[str, str]) -> None:
        Path(path).write_text(json.dumps(said))

    kind = Kind(*request["kind"])
    try:
        _load(_same(request["entry"], kind), kind, lambda step: say(_answer("crash", step=step)))
        say(_answer("ok"))
    except PluginError as error:
        say(_answer("failed", step=error.step, error=error.message, hint=error.hint))
    except NeurAIError as error:
        say(_answer("failed", error=error.message, hint=error.hint))


def _load(entry: Entry, kind: Kind, watch: Any) -> None:
    if kind.group == OBSERVER.group:
        load_observer(entry, watch)
    else:
        load(entry, kind, watch)


def _same(asked: list[str], kind: Kind) -> Entry:
    for entry in Index([kind]).entries(kind.name):
        if [entry.name, entry.value, entry.distribution] == asked:
            return entry
    raise NeurAIError(f"The child process does not find {asked[0]}@{asked[2]}.", "Is its folder still on sys.path?")


def _answer(status: str, *, step: str = "", error: str = "", hint: str = "") -> dict[str, str]:
    return {"status": status, "step": step, "error": error, "hint": hint}


def _run(command: list[str]) -> dict[str, str]:
    """Run the child; how it died and where, for the case that it did."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        return {
            "error": f"No answer within {TIMEOUT:g} s.",
            "hint": "Its code waits for something when imported.",
        }
    frames = [line.strip() for line in done.stderr.decode(errors="replace").splitlines() if "File " in line]
    return {
        "error": f"{_death(done.returncode)}.",
        "hint": f"Innermost frame: {frames[0]}." if frames else "",
    }


def _death(code: int) -> str:
    if code >= 0:
        return f"Its process ended with exit status {code}"
    try:
        return f"Its process was ended by {signal.Signals(-code).name} (signal {-code})"
    except ValueError:
        return f"Its process was ended by signal {-code}"
