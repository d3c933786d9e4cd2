"""``neurai compare``."""

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
    EpochsFlag,
    JsonFlag,
    LossFlag,
    ModelFlag,
    OptimizerFlag,
    QuietFlag,
    RateFlag,
    ScheduleFlag,
    SeedFlag,
    SetSurrogateFlags,
    StepsFlag,
    SurrogateFlag,
    complete_rule,
)
from neurai_core.cli.output import note, print_json, stderr, stdout
from neurai_core.training.compared import plan
from neurai_core.training.settings import RunSettings

if TYPE_CHECKING:
    from neurai_core.training.compare import Comparison
    from neurai_core.training.seeds import SeedRun, Told


def compare(
    context: typer.Context,
    rules: Annotated[list[str], typer.Argument(help="Learning rules by name.", autocompletion=complete_rule)],
    seeds: Annotated[int, typer.Option("--seeds", metavar="N", help="Number of seeds of every rule.")] = 5,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="RULE.KEY=VALUE",
            help="A setting of one rule, or of its run if the rules do not share it; may be repeated.",
        ),
    ] = None,
    model: ModelFlag = None,
    activities: ActivitiesFlag = None,
    data: DataFlag = None,
    surrogate: SurrogateFlag = None,
    set_surrogate: SetSurrogateFlags = None,
    steps: StepsFlag = None,
    optimizer: OptimizerFlag = None,
    lr: RateFlag = None,
    schedule: ScheduleFlag = None,
    loss: LossFlag = None,
    epochs: EpochsFlag = None,
    batch_size: BatchFlag = None,
    seed: SeedFlag = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder for the report. If it holds part of the same comparison, that is continued.",
            show_default="comparisons/<time>-<data>",
        ),
    ] = None,
    as_json: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Compare learning rules: the same initial parameters, the same batches, several seeds.

    Prints final scores with confidence intervals and paired tests, and writes a report with learning curves, costs,
    alignment with back-propagation and energies. Model, data, epochs and batch size are the same for all rules; loss,
    optimizer and learning rate are those that suit a rule, unless given.
    """
    flags = {name: context.params.get(name) for name in RunSettings.model_fields}
    planned = plan(rules, flags, sets or (), seeds=seeds, set_surrogate=set_surrogate or ())
    if seeds == 1 and not quiet:
        note("One seed gives no intervals and no tests.")

    from neurai_core.training.compare import run  # imports JAX from here on

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
        kept=lambda rule: stderr().print(f"{rule}: its results are in the folder"),
    )


def _epoch(rule: str, epoch: int, epochs: int, runs: Sequence[SeedRun]) -> None:
    scores = [run.rows[-1] for run in runs if run.failed is None]
    name = next((name for name in ("test_accuracy", "test_loss") if scores and name in scores[0]), None)
    said = f", {name.replace('_', ' ')} {sum(row[name] for row in scores) / len(scores):.4f}" if name else ""
    stderr().print(f"{rule}: epoch {epoch} of {epochs}{said}")


def _print(found: Comparison, *, as_json: bool, quiet: bool) -> None:
    from neurai_core.report.comparison import notes, tables

    if as_json:
        print_json({**found.results, "folder": str(found.folder)})
    if quiet:
        return
    console = stderr() if as_json else stdout()
    console.print(tables(found.results))
    for sentence in notes(found.results):
        console.print(sentence)
    console.print(f"Everything is in {found.folder}")
