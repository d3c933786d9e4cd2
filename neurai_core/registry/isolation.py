"""Loading a plugin in another process, which may crash or hang without affecting this one."""

from __future__ import annotations

import faulthandler
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from neurai_core.errors import NeurAIError, PluginError
from neurai_core.registry.entries import Entry
from neurai_core.registry.kinds import Kind
from neurai_core.registry.loading import load
from neurai_core.registry.scan import Index

TIMEOUT = 10.0  # seconds per plugin; loading one does not import JAX
_CHILD = """\
import json, sys
request = json.load(open(sys.argv[1]))
sys.path[:] = request["path"]
from neurai_core.registry.isolation import answer
answer(request, sys.argv[2])
"""


def load_isolated(entry: Entry, kind: Kind, timeout: float | None = None) -> dict[str, str]:
    """Load a plugin in a child process.

    Returns:
        The fields ``status`` (``ok``, ``failed`` or ``crash``), ``step``, ``error`` and ``hint``, and ``jax`` if it is
        ok: the file and line that imported JAX, or an empty text.
    """
    request = {
        "path": sys.path,
        "kind": [kind.name, kind.plural, kind.group, kind.spec],
        "entry": [entry.name, entry.value, entry.distribution],
    }
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder, "request.json"), Path(folder, "answer.json")
        asked.write_text(json.dumps(request))
        died = _run([sys.executable, "-X", "faulthandler", "-c", _CHILD, str(asked), str(answered)], timeout or TIMEOUT)
        said = json.loads(answered.read_text()) if answered.exists() else _answer("crash", step="import")
    return said if said["status"] != "crash" else said | died


def vet(asked: Sequence[tuple[Entry, Kind]], timeout: float | None = None) -> dict[Entry, PluginError]:
    """The plugins that crash or hang when loaded, found without loading any in this process.

    A fork of this process loads them all, one after another, which saves starting an interpreter. Where forking is
    not possible, because of the platform or of threads, each is loaded in a separate process.
    """
    if asked and (not hasattr(os, "fork") or threading.active_count() > 1 or "jax" in sys.modules):
        with ThreadPoolExecutor() as pool:
            said = list(pool.map(lambda one: load_isolated(one[0], one[1], timeout), asked))
        pairs = [(entry, one) for (entry, _), one in zip(asked, said, strict=True) if one["status"] == "crash"]
        return {entry: _failure(entry, one) for entry, one in pairs}
    found: dict[Entry, PluginError] = {}
    left = list(asked)
    while left:
        loaded, died = _load_in_copy(left, timeout or TIMEOUT)
        if died:
            found[left[loaded][0]] = _failure(left[loaded][0], died)
        left = left[loaded + 1 :]
    return found


def _failure(entry: Entry, said: dict[str, str]) -> PluginError:
    step = said["step"] or "import"
    message = f"Plugin {entry} failed at step {step!r}: {said['error']}"
    hint = f"{said['hint']} NEURAI_BLOCK={entry.distribution} hides it.".lstrip()
    return PluginError(message, hint, distribution=entry.distribution, step=step)


def _load_in_copy(asked: Sequence[tuple[Entry, Kind]], timeout: float) -> tuple[int, dict[str, str]]:
    """The number of plugins that a fork of this process loads, and how it died, if it did."""
    receive, send = os.pipe()
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if child == 0:
            _be_the_copy(asked, send, said.fileno())
        os.close(send)
        with open(receive, "rb", buffering=0) as pipe:
            steps = _listen(pipe, child, timeout)
        _, status = os.waitpid(child, 0)
        loaded = steps.count("loaded")
        if loaded == len(asked):
            return loaded, {}
        said.seek(0)
        code = os.waitstatus_to_exitcode(status)
        hung = code == -signal.SIGKILL and steps[-1:] == ["hung"]
        died = _silent(timeout) if hung else _dead(code, said.read())
        at = [step for step in steps if step not in ("loaded", "hung")]
        return loaded, _answer("crash", step=at[-1] if at else "import") | died


def _be_the_copy(asked: Sequence[tuple[Entry, Kind]], send: int, said: int) -> NoReturn:
    """Load one after another, silently, and report progress over a pipe."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor, target in ((0, nothing), (1, nothing), (2, said)):
        os.dup2(target, descriptor)
    faulthandler.enable(said)
    try:
        for entry, kind in asked:
            with suppress(BaseException):  # it did not crash; the error comes up again when it is loaded
                load(entry, kind, lambda step: os.write(send, f"{step}\n".encode()))
            os.write(send, b"loaded\n")
    finally:
        os._exit(0)


def _listen(pipe: Any, child: int, timeout: float) -> list[str]:
    """Read the reports of a fork until it ends; end it if it is silent for too long."""
    text, deadline = b"", time.monotonic() + timeout
    while True:
        ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
        heard = pipe.read(4096) if ready else None
        if not heard:
            break
        text += heard
        deadline = time.monotonic() + timeout
    if heard is None:
        os.kill(child, signal.SIGKILL)
        text += b"hung\n"
    return text.decode().split()


def answer(request: dict[str, Any], path: str) -> None:
    """Load a plugin in the child process, and record progress in a file."""

    def say(said: dict[str, str]) -> None:
        Path(path).write_text(json.dumps(said))

    kind = Kind(*request["kind"])
    watch = _Watch("jax", request["entry"][1].partition(":")[0].partition(".")[0])
    sys.meta_path.insert(0, watch)
    try:
        load(_same(request["entry"], kind), kind, lambda step: say(_answer("crash", step=step)))
        say(_answer("ok") | {"jax": watch.asked})
    except PluginError as error:
        say(_answer("failed", step=error.step, error=error.message, hint=error.hint))
    except NeurAIError as error:
        say(_answer("failed", error=error.message, hint=error.hint))


class _Watch:
    """A finder that finds nothing, and remembers which line of a package led to the first import of a module."""

    def __init__(self, module: str, package: str) -> None:
        self.module, self.package, self.asked = module, package, ""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name == self.module and not self.asked:
            walked = [*traceback.walk_stack(None)]
            own = [one for one in walked if str(one[0].f_globals.get("__name__")).partition(".")[0] == self.package]
            frame, line = (own or walked)[0]
            self.asked = f"{frame.f_code.co_filename}, line {line}"


def _same(asked: list[str], kind: Kind) -> Entry:
    for entry in Index([kind]).entries(kind.name):
        if [entry.name, entry.value, entry.distribution] == asked:
            return entry
    raise NeurAIError(f"The child process does not find {asked[0]}@{asked[2]}.", "Is its folder still on sys.path?")


def _answer(status: str, *, step: str = "", error: str = "", hint: str = "") -> dict[str, str]:
    return {"status": status, "step": step, "error": error, "hint": hint}


def _run(command: list[str], timeout: float) -> dict[str, str]:
    """Run the child process; return how and where it died, if it did."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        return _silent(timeout)
    return _dead(done.returncode, done.stderr)


def _silent(timeout: float) -> dict[str, str]:
    return {"error": f"No answer within {timeout:g} s.", "hint": "Its code waits for something when imported."}


def _dead(code: int, said: bytes) -> dict[str, str]:
    frames = [line.strip() for line in said.decode(errors="replace").splitlines() if "File " in line]
    return {"error": f"{_death(code)}.", "hint": f"Innermost frame: {frames[0]}." if frames else ""}


def _death(code: int) -> str:
    if code >= 0:
        return f"Its process ended with exit status {code}"
    try:
        return f"Its process was ended by {signal.Signals(-code).name} (signal {-code})"
    except ValueError:
        return f"Its process was ended by signal {-code}"
