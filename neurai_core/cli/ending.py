"""The end of a command: errors as one sentence and a hint on stderr, and the right exit code."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Callable
from typing import Any

import typer

from neurai_core.cli.output import stderr
from neurai_core.cli.streams import guarded_streams
from neurai_core.errors import NeurAIError
from neurai_core.registry.scan import damaged_by
from neurai_core.training.stopping import INTERRUPTED, TERMINATED, Stopped, Terminated, obey

FAILED, MISUSED = 1, 2
# Newer typer carries its own click, older ones import it; either way this is the base of usage errors.
ClickException: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


def ended(command: Callable[[], Any], *, debug: bool = False) -> int:
    """Run a command and turn whatever it raises into a message and an exit code.

    Args:
        command: returns None, or an exit code.
        debug: show the traceback as well.
    """
    with guarded_streams() as answers:
        code = _code_of(command, debug)
        answers.flush()
        return code if answers.lost is None else _say_lost(answers.lost)


def say_error(message: str, hint: str) -> None:
    """Print an error and what to do about it."""
    console = stderr()
    console.print("error:", style="bold red", end=" ")
    console.print(message)
    if hint:
        console.print("hint:", style="bold", end=" ")
        console.print(hint)


def _code_of(command: Callable[[], Any], debug: bool) -> int:
    try:
        return _obeying(command)
    except (KeyboardInterrupt, typer.Abort):
        say_error("Interrupted.", "")
        return INTERRUPTED
    except Terminated:
        return TERMINATED
    except Exception as error:
        if debug:
            traceback.print_exc()
        return _explain(error)


def _obeying(command: Callable[[], Any]) -> int:
    """Run a command; an exception that a signal has caused, such as a failed import, counts as the signal."""
    try:
        return int(command() or 0)
    except Stopped:
        raise
    except Exception:
        obey()
        raise


def _say_lost(error: OSError) -> int:
    if not isinstance(error, BrokenPipeError):  # the reader has gone, as with `head`
        say_error(f"The answer cannot be written to standard output: {error.strerror}.", "Send it elsewhere.")
    return FAILED


def _explain(error: Exception) -> int:
    if isinstance(error, NeurAIError):
        say_error(error.message, error.hint)
        return error.exit_code
    if isinstance(error, ClickException):
        context = getattr(error, "ctx", None)
        say_error(error.format_message(), f"{context.command_path} --help" if context else "neurai --help")
        return MISUSED
    if isinstance(error, OSError) and error.filename:
        say_error(f"{str(error.filename)!r} cannot be used: {error.strerror}.", "Check the path and its permissions.")
        return FAILED
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        say_error(f"What was to be written has no room: {error.strerror}.", "Make room on the disk.")
        return FAILED
    if isinstance(error, MemoryError) or str(error).startswith("RESOURCE_EXHAUSTED"):
        reason = (str(error) or "nothing is left").splitlines()[0].removeprefix("RESOURCE_EXHAUSTED: ").rstrip(".")
        say_error(f"There is not enough memory: {reason}.", "Take a smaller network, batch or data set.")
        return FAILED
    culprit = damaged_by(error)
    if culprit is not None:
        say_error(f"This cannot be done: {culprit}.", culprit.hint)
        return FAILED
    line = (str(error).strip() or "no message").splitlines()[0]
    notes = " ".join(getattr(error, "__notes__", ()))
    say_error(
        f"unexpected {type(error).__name__}: {line}", notes or "Run it again with --debug to see where it happened."
    )
    return FAILED
