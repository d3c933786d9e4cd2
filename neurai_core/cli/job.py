"""Processes that do one job together, started and watched: one that dies or gets stuck ends all of them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

from neurai_core.training.heartbeat import Heart
from neurai_core.training.stopping import INTERRUPTED, TERMINATED, StopRequest

LOST = 3  # the exit code of a job that lost a process
LOOK_EVERY = 0.1  # seconds
GRACE = 3.0  # seconds in which the others may end by themselves after one has failed
STARTING = 10.0  # heartbeats that may pass before the first
_ALMOST = 0.9  # of the time: who is silent for so long when another is for too long is told of too
_STOPPED = (INTERRUPTED, TERMINATED)
# What the runtime below JAX writes for its developers, above all when another process has died.
_NOISE = re.compile(
    r"[IWEF]\d{4} \d\d:\d\d:|[IWEF]0000 00:00:|\*\*\* |@ +0x|    @ |WARNING: All log messages before absl"
)


class Ending(NamedTuple):
    """How a job ended.

    Attributes:
        code: its exit code.
        reason: what went wrong, as a sentence; empty if nothing did.
        lost: whether a process was lost, so that starting again may help.
        words: what the process to blame wrote last, unless that was shown.
    """

    code: int
    reason: str = ""
    lost: bool = False
    words: tuple[str, ...] = ()


@dataclass
class Member:
    """One process of a job."""

    number: int
    process: subprocess.Popen[str]
    heart: Heart
    shown: bool
    started: float = field(default_factory=time.monotonic)
    words: deque[str] = field(default_factory=lambda: deque(maxlen=20))

    @property
    def code(self) -> int | None:
        """Its exit code, negative after a signal; None while it runs."""
        return self.process.poll()

    def silence(self, heartbeat: float) -> tuple[float, float]:
        """For how many seconds it has been silent, and the share of what it may be that this is."""
        age = self.heart.age
        if age is not None:
            self.started = time.monotonic()  # at the end it may take as long as at the beginning
            return age, age / heartbeat
        waited = time.monotonic() - self.started
        return waited, waited / (STARTING * heartbeat)


class Job:
    """Processes of one command, numbered from 0, as a context: none is left when it ends.

    Args:
        command: program and arguments, the same for all.
        environments: what is added to the environment of each.
        place: folder of their signs of life.
        heartbeat: seconds without such a sign after which a process counts as stuck.
        show: called with every line that process 0 writes to stderr.
    """

    def __init__(
        self,
        command: Sequence[str],
        environments: Sequence[Mapping[str, str]],
        place: Path,
        heartbeat: float,
        show: Callable[[str], None],
    ) -> None:
        self._command, self._environments, self._place = list(command), environments, place
        self._heartbeat, self._show = heartbeat, show
        self.members: list[Member] = []
        self._readers: list[threading.Thread] = []

    def __enter__(self) -> Job:
        try:
            for number, environment in enumerate(self._environments):
                self._start(number, environment)
        except BaseException:
            self.end()
            raise
        return self

    def _start(self, number: int, environment: Mapping[str, str]) -> None:
        Heart(self._place, number).rest()
        process = subprocess.Popen(
            self._command,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=None if number == 0 else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C reaches this process alone, which passes it on once
        )
        member = Member(number, process, Heart(self._place, number), shown=number == 0)
        self.members.append(member)
        reader = threading.Thread(target=self._read, args=(member, process.stderr), daemon=True)
        reader.start()
        self._readers.append(reader)

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Kill those that still run, and read what is left of their words."""
        for member in self.members:
            if member.code is None:
                member.process.kill()
        for member, reader in zip(self.members, self._readers, strict=True):
            member.process.wait()
            reader.join(timeout=2.0)

    def wait(self, asked: StopRequest) -> Ending:
        """Wait until the job ends, by itself, by a failure, or because it was asked to stop; none runs afterwards."""
        leaving: float | None = None  # since when it is to end
        passed_on = False
        while any(member.code is None for member in self.members):
            codes = self._codes(asked)
            if any(code not in (None, 0, *_STOPPED) for code in codes):
                self._wait_briefly()
                break
            if asked() and not passed_on:
                self._send(asked.signum)
                passed_on = True
            if leaving is None and (passed_on or any(code in _STOPPED for code in codes)):
                leaving = time.monotonic()
            stuck = self._stuck() if leaving is None else self._late(leaving)
            if stuck:
                self.end()
                return Ending(LOST, stuck, lost=leaving is None)
            time.sleep(LOOK_EVERY)
        codes = self._codes(asked)
        self.end()
        return self._ending(codes)

    def _codes(self, asked: StopRequest) -> list[int | None]:
        """The exit codes; who dies of the signal that was passed on, because it had no handler yet, has obeyed it."""
        obeyed = -(asked.signum or 0)
        return [128 - obeyed if member.code and member.code == obeyed else member.code for member in self.members]

    def _send(self, signum: int | None) -> None:
        for member in self.members:
            if member.code is None and signum is not None:
                member.process.send_signal(signum)

    def _wait_briefly(self) -> None:
        """Give the others time to say why they fail, unless it is known who is to blame."""
        until = time.monotonic() + GRACE
        while time.monotonic() < until and any(member.code is None for member in self.members):
            if any(_is_killed(member.code) for member in self.members):
                break
            time.sleep(LOOK_EVERY)

    def _stuck(self) -> str:
        """What is to be said of processes without signs of life."""
        silent = {one.number: one.silence(self._heartbeat) for one in self.members if one.code is None}
        if max((share for _, share in silent.values()), default=0.0) <= 1:
            return ""
        late = [number for number, (_, share) in silent.items() if share > _ALMOST]
        seconds = max(silent[number][0] for number in late)
        has = "have" if len(late) > 1 else "has"
        waiting = ", one because it is stuck and the rest because they wait for it" if len(late) > 1 else ""
        return f"{self._named(late)} {has} shown no sign of life for {seconds:.0f} s{waiting}."

    def _late(self, leaving: float) -> str:
        """What is to be said of processes that go on although the job is to end."""
        running = [member.number for member in self.members if member.code is None]
        late = time.monotonic() - leaving > self._heartbeat
        return f"{self._named(running)} did not end within {self._heartbeat:g} s of being asked to." if late else ""

    def _ending(self, codes: Sequence[int | None]) -> Ending:
        """What exit codes say, None for those that did not end by themselves.

        To blame is who was killed from outside, then who failed by an error of its own, then who was aborted by the
        runtime, which does that to those that are left over.
        """
        killed = [number for number, code in enumerate(codes) if code and code < 0]
        failed = [number for number, code in enumerate(codes) if code and code > 0 and code not in (LOST, *_STOPPED)]
        outside = [number for number in killed if _is_killed(codes[number])]
        stopped = max((code for code in codes if code in _STOPPED), default=None)
        if stopped is not None and not (failed or outside):
            return Ending(stopped)
        if failed and not outside:
            member, code = self.members[failed[0]], codes[failed[0]] or 0
            said = f"{self._named(failed[:1])} ended with exit code {code}."
            return Ending(code, said, words=() if member.shown else tuple(member.words))
        for number in (*outside, *killed):
            name = signal.Signals(-(codes[number] or 0)).name
            return Ending(LOST, f"{self._named([number])} was killed by {name}.", lost=True)
        if LOST in codes:
            return Ending(LOST, f"{self._named([codes.index(LOST)])} lost the connection to the others.", lost=True)
        return Ending(0)

    def _named(self, numbers: Sequence[int]) -> str:
        return f"Process{'es' * (len(numbers) > 1)} {' and '.join(map(str, numbers))} of {len(self.members)}"

    def _read(self, member: Member, stream: IO[str] | None) -> None:
        assert stream is not None
        with stream:
            for line in stream:
                if not _NOISE.match(line):
                    member.words.append(line.rstrip("\n"))
                    if member.shown:
                        self._show(line)


def _is_killed(code: int | None) -> bool:
    """Whether a signal from outside ended a process; the runtime aborts it when others are gone."""
    return code is not None and code < 0 and code != -signal.SIGABRT


def python_command(words: Sequence[str]) -> list[str]:
    """The command line of ``neurai`` with these words, run by this interpreter."""
    return [sys.executable, "-m", "neurai_core", *words]
