"""``neurai check``: whether plugins are what their specs claim."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer

from neurai_core.cli.options import JsonFlag, complete_name
from neurai_core.cli.output import note, only_json_on_stdout, print_json, stdout
from neurai_core.errors import UsageError
from neurai_core.report.tables import table


def check(
    names: Annotated[
        list[str] | None, typer.Argument(help="Rules, surrogates, data sets, adapters.", autocompletion=complete_name)
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Check every installed plugin.")] = False,
    only: Annotated[list[str] | None, typer.Option("--only", help="Run only this check; repeatable.")] = None,
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds allowed for one check.")] = 60.0,
    as_json: JsonFlag = False,
) -> None:
    """Check that plugins are what their specs claim; exit with 1 if a check fails."""
    if everything == bool(names):
        raise UsageError(
            "neurai check takes names or --all, " + ("and got both." if names else "and got neither."),
            "neurai rules lists the names of learning rules.",
        )
    from neurai_core.testing import check_named, failures

    def run() -> list:
        outcomes = []
        for one in check_named(names or (), only=only or (), timeout=timeout):
            outcomes.append(one)
            if one.status == "failed":
                note(f"{one.subject}: {one.check} failed: {one.reason}. {one.hint}")
        return outcomes

    if as_json:
        with only_json_on_stdout():
            outcomes = run()
            print_json([one._asdict() for one in outcomes])
    else:
        outcomes = run()
        columns = ("what", "check", "status", "figure", "tolerance", "reason")
        rows = [
            (o.subject, o.check, o.status, _number(o.figure), _number(o.tolerance), o.reason)
            for o in outcomes
            if o.status != "skipped"
        ]
        stdout().print(table(columns, rows))
        stdout().print(", ".join(f"{count} {status}" for status, count in Counter(o.status for o in outcomes).items()))
    if failures(outcomes):
        raise typer.Exit(1)


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.3g}"
