"""The command ``neurai``. Heavy modules are imported only inside the commands that compute.

Exit codes: 0 success, 1 failure, 2 wrong usage, 3 a process of several was lost, 130 Ctrl-C, 143 SIGTERM.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from neurai_core.training.joining import left_alone
from neurai_core.training.stopping import INTERRUPTED, TERMINATED, Terminated, raise_on_signals


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        arguments: the command-line arguments after ``neurai``; None takes those of the process.

    Returns:
        The exit code.

    Example:
        >>> main(["--version"])  # doctest: +ELLIPSIS
        neurai ...
        0
    """
    with raise_on_signals():
        try:
            code = _ended(list(sys.argv[1:] if arguments is None else arguments))
        except KeyboardInterrupt:  # while the rest was imported
            return INTERRUPTED
        except Terminated:
            return TERMINATED
    if left_alone():
        os._exit(code)  # the streams are flushed
    return code


def _ended(given: list[str]) -> int:
    from neurai_core.cli.app import app
    from neurai_core.cli.ending import ended
    from neurai_core.cli.output import only_json_on_stdout

    own = given[: given.index("--")] if "--" in given else given  # what follows is for others
    words = [word for word in own if word != "--debug"] + given[len(own) :]  # it may be given anywhere

    def run() -> Any:
        with only_json_on_stdout() if "--json" in own else nullcontext():
            return app(words, prog_name="neurai", standalone_mode=False)

    return ended(run, debug=words != given)
