"""``neurai plot``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurai_core.cli.options import JsonFlag
from neurai_core.cli.output import print_json, stdout

app = typer.Typer(help="Pictures of a run.", no_args_is_help=True)


@app.callback()
def plot() -> None:
    """Pictures of a run."""


@app.command()
def relaxation(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run whose rule relaxes activities.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The picture.", show_default="RUN/relaxation.png")
    ] = None,
    n_relax: Annotated[
        int | None, typer.Option("--steps", min=1, metavar="N", help="Steps of a phase.", show_default="the run's")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Draw energy and force of every phase, and say whether the phases had settled.

    The network that the run left relaxes once more, on the first batch of its training data.
    """
    from neurai_core.report.relaxation import relaxation as draw  # JAX and matplotlib from here on
    from neurai_core.training.phases import phases_of_run

    phases = phases_of_run(run, n_relax=n_relax)
    picture = run / "relaxation.png" if out is None else out
    words = draw(phases.trace, picture, tol=phases.tol, title=phases.title)
    if as_json:
        print_json({"picture": str(picture), "phases": words.splitlines()})
        return
    stdout().print(f"{words}\nDrawn in {picture}", markup=False)
