"""``neurai new-rule`` and ``neurai new-surrogate``: a new distribution that works, to edit."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from neurai_core.cli.output import stdout

NameArgument = Annotated[
    str, typer.Argument(help="Name under which it will be looked up, such as my-rule or my-surrogate.")
]
FolderArgument = Annotated[
    Path | None, typer.Argument(help="Folder to write, empty or new; by default neurai-NAME.", show_default=False)
]


def new_rule(name: NameArgument, folder: FolderArgument = None) -> None:
    """Write a distribution with a working learning rule, for you to edit; needs `neurai[template]`."""
    _create("algorithm", name, folder, "neurai train --rule {name}")


def new_surrogate(name: NameArgument, folder: FolderArgument = None) -> None:
    """Write a distribution with a working surrogate, for you to edit; needs `neurai[template]`."""
    _create("surrogate", name, folder, "neurai plot surrogate {name}")


def _create(kind: str, name: str, folder: Path | None, trial: str) -> None:
    from neurai_core.template import create

    names, written = create(kind, name, folder)
    commands = (
        f"cd {shlex.quote(str(written))}",
        'python -m pip install -e ".[test]"',
        "python -m pytest",
        trial.format(name=names.name),
    )
    found = f"The folder {written} holds the distribution {names.distribution}. Its README.md says how to go on:"
    stdout().print(found, *commands, sep="\n  ")
