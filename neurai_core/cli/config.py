"""``neurai config``."""

from __future__ import annotations

import typer

from neurai_core.cli.options import (
    ActivitiesFlag,
    AlignFlag,
    BatchFlag,
    ConfigFlag,
    DataFlag,
    DevicesFlag,
    DtypeFlag,
    EpochsFlag,
    JsonFlag,
    LogFlags,
    LossFlag,
    ModelFlag,
    OptimizerFlag,
    OptimizerForFlags,
    RateFlag,
    RuleFlag,
    ScheduleFlag,
    SeedFlag,
    SetFlags,
    SetSurrogateFlags,
    ShardFlag,
    StepsFlag,
    StopEarlyFlag,
    SurrogateFlag,
    chosen_from,
)
from neurai_core.cli.output import print_json, stdout
from neurai_core.report.tables import table

app = typer.Typer(help="Show the settings of a run and where they come from.", no_args_is_help=True)


@app.callback()
def config() -> None:
    """Show the settings of a run and where they come from."""


@app.command()
def show(
    context: typer.Context,
    rule: RuleFlag = None,
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
    dtype: DtypeFlag = None,
    devices: DevicesFlag = None,
    shard: ShardFlag = None,
    seed: SeedFlag = None,
    stop_early: StopEarlyFlag = None,
    log: LogFlags = None,
    align: AlignFlag = None,
    config: ConfigFlag = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what `neurai train` with the same options would use, and where each value comes from.

    Flags take precedence over --set, --set over the --config file, the file over NEURAI_* variables, and these
    over defaults.
    """
    chosen = chosen_from(context)
    rows = [(name, value, chosen.sources[name]) for name, value in chosen.values().items()]
    if as_json:
        print_json({name: {"value": value, "source": source} for name, value, source in rows})
    else:
        stdout().print(table(("setting", "value", "from"), rows))
