"""``neurai plot``: pictures. JAX and matplotlib are imported inside the commands.

Every picture is a command: a function here that calls ``neurai_core.report`` and prints the path.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurai_core.cli.compilation_cache import programs_kept
from neurai_core.cli.options import JsonFlag, TrustFlag, complete_surrogate
from neurai_core.cli.output import note, print_json, stdout
from neurai_core.errors import NeurAIError, UsageError
from neurai_core.run_defaults import SURROGATE

if TYPE_CHECKING:
    from neurai_core.surrogates import Surrogate

app = typer.Typer(help="Draw pictures.", no_args_is_help=True)

OutFlag = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="The picture: .png, .svg or .pdf.")]


@app.callback()
def plot() -> None:
    """Draw pictures."""


@app.command()
def surrogate(
    names: Annotated[
        list[str] | None, typer.Argument(help="Names of surrogates.", autocompletion=complete_surrogate)
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Draw every installed surrogate.")] = False,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of the surrogate; may be repeated."),
    ] = None,
    reach: Annotated[float, typer.Option("--reach", min=0.01, help="u goes from -REACH to REACH.")] = 3.0,
    out: OutFlag = None,
) -> None:
    """Draw surrogates: derivative, primitive and forward step, over the membrane potential minus the threshold."""
    if bool(names) == every:
        raise UsageError("Which surrogates?", "Name some, or give --all; `neurai surrogates` lists them.")
    if sets and len(names or ()) != 1:
        raise UsageError(
            "--set applies to a single surrogate.", f"For example neurai plot surrogate {SURROGATE} --set alpha=10."
        )
    drawn = _every() if every else _named(names or [], sets or [])

    from neurai_core.report.gallery import surrogate_gallery  # imports matplotlib from here on

    path = out or Path(f"{'surrogates' if every else '-'.join(names or [])}.png")
    stdout().print(str(surrogate_gallery(drawn, path, reach=reach)))


@app.command()
def relaxation(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run whose rule relaxes activities.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The picture.", show_default="RUN/relaxation.png")
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, metavar="N", help="Steps per phase.", show_default="the run's")
    ] = None,
    trust: TrustFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Draw the energy and the force of every phase, and say whether the phases had settled.

    The trained network relaxes once more, on the first batch of its training data.
    """
    from neurai_core.report.relaxation import relaxation as draw  # imports JAX and matplotlib from here on
    from neurai_core.training.phases import phases_of_run

    with programs_kept():
        phases = phases_of_run(run, steps=steps, trust=trust)
    picture = run / "relaxation.png" if out is None else out
    words = draw(phases.trace, picture, phases.relaxes, tol=phases.tol, title=phases.title)
    if as_json:
        print_json({"picture": str(picture), "phases": words.splitlines()})
        return
    stdout().print(f"{words}\nDrawn in {picture}")


def _named(names: list[str], sets: list[str]) -> dict[str, Surrogate]:
    from neurai_core.registry import REGISTRY
    from neurai_core.training.setting_texts import settings_of_texts

    drawn = {}
    for name in names:
        settings = settings_of_texts(sets, REGISTRY.spec("surrogate", name).config)
        given = ", ".join(f"{key}={value}" for key, value in settings.items())
        drawn[f"{name} {given}".strip()] = _build(name, settings)
    return drawn


def _every() -> dict[str, Surrogate]:
    """Every surrogate; those that cannot be built are noted."""
    from neurai_core.registry import REGISTRY

    drawn = {}
    for entry in REGISTRY.entries("surrogate"):
        try:
            drawn[entry.name] = _build(f"{entry.name}@{entry.distribution}", {})
        except NeurAIError as error:
            note(f"{entry} is left out: {error.message} `neurai plugins` says more.")
    return drawn


def _build(name: str, settings: dict[str, Any]) -> Surrogate:
    from neurai_core.by_name import surrogate as build  # imports JAX, once the settings are valid

    return build(name, **settings)
