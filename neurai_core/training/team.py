"""What processes that train together tell each other, so that all do the same and only one writes.

Every process runs the same program. Whatever only one of them knows, such as a signal, the time, or that a folder
cannot be written, is exchanged here before it decides anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from neurai_core.errors import NeurAIError, SettingsError, TrainingError

Result = TypeVar("Result")
LOST = 3  # the exit code of a process whose others are gone
_OF_RUNTIME = ("Gloo", "NCCL", "coordination service")  # in its errors when a process cannot be reached
_LEAST = 256  # bytes of a message; longer ones have a power of two


class LostProcess(TrainingError):
    """Another process of the team is gone."""

    exit_code = LOST


class FailedElsewhere(NeurAIError):
    """Another process of the team failed, and said why.

    Args:
        number: of that process.
        message: its error.
        hint: its hint.
        exit_code: its exit code.
    """

    def __init__(self, number: int, message: str, hint: str, exit_code: int) -> None:
        super().__init__(f"Process {number} failed: {message}", hint)
        self.exit_code = exit_code


class Team(NamedTuple):
    """The processes that train together, seen from one of them.

    Attributes:
        number: of this process, from 0.
        size: how many there are.

    >>> team().gather("hello"), team().writes
    (['hello'], True)
    """

    number: int = 0
    size: int = 1

    @property
    def writes(self) -> bool:
        """Whether this is the one process that writes and prints."""
        return self.number == 0

    def gather(self, text: str) -> list[str]:
        """The texts of all processes, by their numbers."""
        if self.size == 1:
            return [text]
        content = text.encode()
        lengths = self.numbers(len(content))[:, 0]
        room = np.zeros(max(_LEAST, 1 << int(lengths.max() - 1).bit_length() if lengths.max() else 0), np.uint8)
        room[: len(content)] = np.frombuffer(content, np.uint8)
        found = multihost_utils.process_allgather(room)
        return [bytes(row[:length]).decode() for row, length in zip(found, lengths, strict=True)]

    def numbers(self, *own: int) -> np.ndarray:
        """Whole numbers of all processes, (size, n)."""
        given = np.asarray(own, np.int32)
        return given[None] if self.size == 1 else np.asarray(multihost_utils.process_allgather(given))

    @contextmanager
    def together(self) -> Iterator[None]:
        """All processes leave the block together: if one fails in it, all do.

        Raises:
            FailedElsewhere: another process failed.
        """
        if self.size == 1:
            yield
            return
        failed: Exception | None = None
        try:
            yield
        except Exception as error:
            failed = error
        told = self.gather("" if failed is None else json.dumps(_told(failed)))
        if failed is not None:
            raise failed
        for number, one in enumerate(told):
            if one:
                raise FailedElsewhere(number, *json.loads(one))

    def first(self, function: Callable[[], str]) -> str:
        """What the function gives process 0, which alone calls it."""
        found = ""
        with self.together():
            if self.writes:
                found = function()
        return self.gather(found)[0]

    def one_after_the_other(self, function: Callable[[], Result]) -> Result:
        """What the function gives each process; process 0 calls it first."""
        found: list[Result] = []
        for now in (True, False):
            with self.together():
                if self.writes == now:
                    found.append(function())
        return found[0]

    def check_same(self, facts: Mapping[str, Any]) -> None:
        """Check that facts are the same in all processes.

        Raises:
            SettingsError: they are not; says which differ.
        """
        told = [json.loads(text) for text in self.gather(json.dumps(facts, default=str))]
        for number, theirs in enumerate(told):
            differ = [name for name in {**told[0], **theirs} if told[0].get(name) != theirs.get(name)]
            if differ:
                clauses = [f"{name} is {_text(told[0], name)} and {_text(theirs, name)}" for name in differ]
                raise SettingsError(
                    f"Processes 0 and {number} do not train the same: {'; '.join(clauses)}.",
                    "Start all with the same options, on machines with the same plugins and data.",
                )

    def check_devices(self, mesh: Mesh | None) -> None:
        """Check that the processes train together on all of their devices, and not each by itself.

        Raises:
            SettingsError: some are left out.
        """
        used, count = 1 if mesh is None else mesh.size, jax.device_count()
        if self.size > 1 and used != count:
            raise SettingsError(
                f"{used} of the {count} devices of {self.size} processes were requested.",
                "Processes train together on all of them: --devices all (devices='all').",
            )

    @contextmanager
    def noticing_losses(self) -> Iterator[None]:
        """Turn the error of the runtime after another process has gone into one that says so.

        Raises:
            LostProcess: another process has gone.
        """
        try:
            yield
        except (jax.errors.JaxRuntimeError, ValueError) as error:  # the runtime raises either
            if self.size == 1 or not any(word in str(error) for word in _OF_RUNTIME):
                raise
            raise LostProcess(
                "Another process that trains with this one is gone.",
                "Start all again, with --resume and the folder of the run.",
            ) from error


ALONE = Team()


def team() -> Team:
    """The processes that JAX has connected; this one alone if it has none."""
    return Team(jax.process_index(), jax.process_count())


def _told(error: Exception) -> tuple[str, str, int]:
    if isinstance(error, NeurAIError):
        return error.message, error.hint, error.exit_code
    return f"{type(error).__name__}: {error}".splitlines()[0], "", 1


def _text(facts: Mapping[str, Any], name: str) -> str:
    value = facts.get(name)
    return "nothing" if value is None or value == "" else str(value)
