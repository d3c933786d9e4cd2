"""``neurai check``: whether plugins are what their specs claim."""

from __future__ import annotations

import atexit
import math
import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurai_core.cli.options import JsonFlag, complete_name
from neurai_core.cli.output import print_json, stderr, stdout
from neurai_core.errors import UsageError
from neurai_core.report.tables import table

if TYPE_CHECKING:
    from neurai_core.testing import Outcome
    from neurai_core.testing.checking import Status

DEVICES = "8"  # over which a CPU spreads batches, for the checks of sharding


def check(
    names: Annotated[
        list[str] | None, typer.Argument(help="Rules, surrogates, data sets, adapters.", autocompletion=complete_name)
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Check every installed plugin.")] = False,
    only: Annotated[list[str] | None, typer.Option("--only", help="Run only this check; may be repeated.")] = None,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds allowed for one check.")] = 60.0,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show every check, not only what failed.")] = False,
    cost: Annotated[
        bool, typer.Option("--cost", help="Also measure what a rule costs, relative to back-propagation.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Check that plugins are what their specs claim; exit with 1 if a check fails."""
    if everything == bool(names):
        raise UsageError(
            "neurai check takes names or --all, " + ("and got both." if names else "and got neither."),
            "neurai rules lists the names of learning rules.",
        )
    os.environ.setdefault("JAX_NUM_CPU_DEVICES", DEVICES)  # read when JAX is imported, by the next line
    from neurai_core.testing import check_named, failures
    from neurai_core.testing.checking import require_timeout, some_still_run

    require_timeout(timeout, "--timeout {:g}")
    outcomes = _watched(check_named(names or (), only=only or (), timeout=timeout, cost=cost))
    if as_json:
        print_json([_record(one) for one in outcomes])
    else:
        _print(outcomes, verbose)
    if some_still_run():
        atexit.register(_end_at_once)
    if failures(outcomes):
        raise typer.Exit(1)


def _end_at_once() -> None:
    """End the process with 1, since the ordinary end of Python aborts while a check that was left behind computes."""
    from neurai_core.testing.checking import some_still_run

    if some_still_run():
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):  # closed, or its reader has gone
                stream.flush()
        os._exit(1)


def _watched(found: Iterable[Outcome]) -> list[Outcome]:
    """All outcomes, with a line on a terminal that says how far it is."""
    outcomes: list[Outcome] = []
    with stderr().status("checking") as line:
        for one in found:
            outcomes.append(one)
            failed = sum(o.status == "failed" for o in outcomes)
            line.update(f"{len(outcomes)} checks, {failed} failed; last: {one.subject}, {one.check}")
    return outcomes


def _print(outcomes: Sequence[Outcome], verbose: bool) -> None:
    """One row per subject or per check, then what failed, then what is expected to, then remarks."""
    out = stdout()
    out.print(_every_check(outcomes) if verbose else _every_subject(outcomes))
    for one in outcomes:
        if one.status == "failed":
            out.print(f"FAILED {one.subject}, {one.check}{_figures(one)}\n  {one.reason}\n  {one.hint}".rstrip())
    for title, chosen in (
        ("Expected failures", [one for one in outcomes if one.status == "expected failure"]),
        ("Remarks", [one for one in outcomes if one.is_remark]),
        ("Relative to back-propagation", [one for one in outcomes if one.check.startswith("cost-")]),
    ):
        if chosen:
            out.print(f"{title}:")
        for one in chosen:
            out.print(f"  {one.subject}, {one.check}{_figures(one)}: {one.reason}")
    counts = Counter(one.status for one in outcomes)
    out.print(", ".join(f"{count} {status}" for status, count in counts.items()) or "Nothing was checked.")


def _every_subject(outcomes: Sequence[Outcome]) -> Any:
    statuses: tuple[Status, ...] = ("passed", "failed", "expected failure", "skipped")
    rows = {}
    for subject in dict.fromkeys(one.subject for one in outcomes):
        mine = [one for one in outcomes if one.subject == subject]
        counts = Counter(one.status for one in mine)
        rows[subject] = (subject, *(counts[one] for one in statuses), f"{sum(one.seconds for one in mine):.1f}")
    columns = ("what", "passed", "failed", "expected", "skipped", "seconds")
    return table(columns, list(rows.values()), right=columns[1:])


def _every_check(outcomes: Sequence[Outcome]) -> Any:
    columns = ("what", "check", "status", "figure", "tolerance", "reason")
    rows = [(o.subject, o.check, o.status, _short(o.figure), _short(o.tolerance), o.reason or None) for o in outcomes]
    return table(columns, rows, right=("figure", "tolerance"))


def _figures(one: Outcome) -> str:
    if one.figure is None:
        return ""
    tolerance = "" if one.tolerance is None else f", tolerance {_short(one.tolerance)}"
    return f" (figure {_short(one.figure)}{tolerance})"


def _short(value: float | None) -> str | None:
    return None if value is None else f"{value:.3g}"


def _record(one: Outcome) -> dict[str, Any]:
    """The outcome as JSON data, which has no NaN and no infinity: they are written as text."""
    values = one._asdict().items()
    return {name: str(v) if isinstance(v, float) and not math.isfinite(v) else v for name, v in values}
