"""The command-line application with all its commands."""

from __future__ import annotations

from typing import Annotated

import typer

from neurai_core.cli import (
    activities,
    checking,
    comparing,
    config,
    creating,
    data,
    describing,
    doctor,
    generating,
    launching,
    listing,
    plotting,
    sweeping,
    training,
)
from neurai_core.cli.output import stdout

app = typer.Typer(
    name="neurai",
    help="Learning rules in JAX: pick one by name, train the network you already have.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib_metadata import version

        stdout().print(f"neurai {version('neurai')}")
        raise typer.Exit


@app.callback()
def neurai(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Learning rules in JAX: pick one by name, train the network you already have."""


app.command(rich_help_panel="Train")(training.train)
app.command(rich_help_panel="Train")(launching.launch)
app.command(rich_help_panel="Train")(comparing.compare)
app.command(rich_help_panel="Train")(sweeping.sweep)
app.command(rich_help_panel="Train")(generating.generate)
app.add_typer(config.app, name="config", rich_help_panel="Train")
app.add_typer(data.app, name="data", rich_help_panel="Train")
app.add_typer(plotting.app, name="plot", rich_help_panel="Train")
for command in (listing.rules, listing.surrogates, listing.datasets, listing.adapters, listing.observers):
    app.command(rich_help_panel="Find")(command)
app.command(rich_help_panel="Find")(describing.describe)
app.command(rich_help_panel="Find")(describing.cite)
app.command(rich_help_panel="Find")(activities.activities)
app.command(rich_help_panel="Your own")(creating.new_rule)
app.command(rich_help_panel="Your own")(creating.new_surrogate)
app.command(rich_help_panel="Your own")(checking.check)
app.command(rich_help_panel="Installation")(listing.plugins)
app.command(rich_help_panel="Installation")(doctor.doctor)
