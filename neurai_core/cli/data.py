"""``neurai data``: data sets as files that need not fit into memory."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from neurai_core.cli.options import JsonFlag, complete_data
from neurai_core.cli.output import print_json, stdout

app = typer.Typer(help="Prepare data sets that do not fit into memory.", no_args_is_help=True)


@app.callback()
def data() -> None:
    """Prepare data sets that do not fit into memory."""


@app.command()
def pack(
    source: Annotated[
        str,
        typer.Argument(
            help="A data set as for `--data`: by name, `npz:FILE`, `idx:FOLDER`.", autocompletion=complete_data
        ),
    ],
    folder: Annotated[Path, typer.Argument(help="Folder to write, which must not exist.")],
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of the data set, such as first=1; may be repeated."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write a data set as numpy files, once, for training with `--data npy:FOLDER`.

    Compressed files are unpacked part by part, so that the data need not fit into memory. Images stored as bytes stay
    bytes. If it is interrupted, it leaves nothing behind.
    """
    from neurai_core.training.settings import choose

    chosen = choose({"data": source}, [f"data.{given}" for given in sets or ()], environ={})

    from neurai_core.training.packing import pack as write  # imports NumPy from here on

    packed = write(chosen, folder)
    if as_json:
        print_json(packed._asdict() | {"folder": str(folder)})
        return
    stdout().print(f"{packed.train} rows to train on and {packed.test} to test on, {packed.bytes / 1e6:.1f} MB:")
    stdout().print(f"neurai train --data npy:{shlex.quote(str(folder))}")
