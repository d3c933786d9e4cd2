"""``neurai sweep``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neurai_core.cli.compilation_cache import programs_kept
from neurai_core.cli.options import (
    ActivitiesFlag,
    BatchFlag,
    DataFlag,
    DtypeFlag,
    EpochsFlag,
    JsonFlag,
    LossFlag,
    ModelFlag,
    OptimizerFlag,
    OptimizerForFlags,
    QuietFlag,
    RateFlag,
    ScheduleFlag,
    SeedFlag,
    SetFlags,
    SetSurrogateFlags,
    StepsFlag,
    SurrogateFlag,
    complete_rule,
)
from neurai_core.cli.output import note, print_json, stderr, stdout
from neurai_core.training.searched import TOGETHER, TRIALS, planned_sweep
from neurai_core.training.settings import RunSettings

if TYPE_CHECKING:
    from neurai_core.training.seeds import SeedRun, Told
    from neurai_core.training.sweep import Sweep

SEARCH = "Searching instead of trying every combination"


def sweep(
    context: typer.Context,
    rule: Annotated[str, typer.Argument(help="Learning rule by name.", autocompletion=complete_rule)],
    over: Annotated[
        list[str] | None,
        typer.Option(
            "--over",
            metavar="KEY=VALUES",
            help="A setting to vary: KEY=log:FROM:TO:COUNT, KEY=lin:FROM:TO:COUNT or KEY=VALUE,VALUE; may be repeated. "
            "A search draws from ranges too: KEY=log:FROM:TO or KEY=FROM..TO. "
            "KEY is a setting of the rule or of the run, or one such as optimizer.momentum or surrogate.alpha.",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", metavar="N", help="Number of seeds of every configuration.")] = 1,
    search: Annotated[
        str | None,
        typer.Option(
            metavar="random|tpe", help="Draw configurations with Optuna, at random or by TPE.", rich_help_panel=SEARCH
        ),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Number of configurations, including those of other processes and earlier commands.",
            show_default=str(TRIALS),
            rich_help_panel=SEARCH,
        ),
    ] = None,
    together: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Number of configurations drawn at once; those that differ only in numbers share a program.",
            show_default=str(TOGETHER),
            rich_help_panel=SEARCH,
        ),
    ] = None,
    study: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name of the study.", show_default="<rule>-<data>", rich_help_panel=SEARCH),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="journal:FILE|URL",
            help="Where the study is: a file or a database, which several machines may share.",
            show_default="a file in the folder",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    sets: SetFlags = None,
    model: ModelFlag = None,
    activities: ActivitiesFlag = None,
    data: DataFlag = None,
    surrogate: SurrogateFlag = None,
    set_surrogate: SetSurrogateFlags = None,
    steps: StepsFlag = None,
    optimizer: OptimizerFlag = None,
    optimizer_for: OptimizerForFlags = None,
    lr: RateFlag = None,
    schedule: ScheduleFlag = None,
    loss: LossFlag = None,
    epochs: EpochsFlag = None,
    batch_size: BatchFlag = None,
    seed: SeedFlag = None,
    dtype: DtypeFlag = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder for the results. If it holds part of the same sweep, that is continued.",
            show_default="sweeps/<time>-<rule>-<data>",
        ),
    ] = None,
    as_json: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Sweep settings of a rule: train it with every combination of their values.

    All values of settings that are numbers run in one compiled program, with all seeds; those that choose code, such as
    a mode or a number of steps, get programs of their own. Prints the configurations by their score, draws it, and
    writes the best configuration as a file for `neurai train --config`. With --search, configurations are drawn from
    ranges, several at a time, and any number of processes may work on one study.
    """
    flags = {name: context.params.get(name) for name in RunSettings.model_fields}
    flags["optimizer_for"] = tuple(optimizer_for) if optimizer_for else None
    planned = planned_sweep(
        rule,
        over or (),
        flags,
        sets or (),
        seeds=seeds,
        set_surrogate=set_surrogate or (),
        search=search,
        trials=trials,
        together=together,
        study=study,
        storage=storage,
    )

    from neurai_core.training.sweep import run  # imports JAX from here on

    with programs_kept():
        found = run(planned, out, _told(quiet))
    _print(found, as_json=as_json, quiet=quiet)


def _told(quiet: bool) -> Told:
    from neurai_core.training.seeds import Told

    if quiet:
        return Told(note=note)
    return Told(
        note=note,
        begin=lambda folder: stderr().print(f"The same command with --out {folder} continues if it is interrupted."),
        epoch=_epoch,
        kept=lambda what: stderr().print(f"{what}: its results are in the folder"),
    )


def _epoch(what: str, epoch: int, epochs: int, runs: Sequence[SeedRun]) -> None:
    known = [run.rows[-1] for run in runs if run.failed is None]
    name = next((name for name in ("test_accuracy", "test_loss") if known and name in known[0]), None)
    best = max if name == "test_accuracy" else min
    said = f", best {name.replace('_', ' ')} {best(row[name] for row in known):.4f}" if name else ""
    stderr().print(f"{what}: epoch {epoch} of {epochs}{said}", soft_wrap=True)


def _print(found: Sweep, *, as_json: bool, quiet: bool) -> None:
    from neurai_core.report.sweep import notes, sweep_table

    if as_json:
        print_json({**found.results, "folder": str(found.folder)})
    if quiet:
        return
    console = stderr() if as_json else stdout()
    console.print(sweep_table(found.results))
    for sentence in notes(found.results):
        console.print(sentence)
    if found.best is not None and found.folder is not None:
        console.print(f"Train the best: neurai train --config {found.folder / 'best.toml'}", soft_wrap=True)
    console.print(f"Everything is in {found.folder}", soft_wrap=True)
