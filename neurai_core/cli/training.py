"""``neurai train``."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from neurai_core.cli.compilation_cache import programs_kept
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
    QuietFlag,
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
    TrustFlag,
    chosen_from,
)
from neurai_core.cli.output import note, print_json, stderr, stdout
from neurai_core.errors import UsageError
from neurai_core.training.joining import (
    COORDINATOR,
    NUMBER,
    OPEN_TRAFFIC,
    PATIENCE,
    PROCESSES,
    is_loopback,
    joined,
    place_of,
)
from neurai_core.training.saving import USUALLY, Options, every_of
from neurai_core.training.trust import check_trusted

if TYPE_CHECKING:
    from neurai_core.training.callbacks import Callbacks, Row
    from neurai_core.training.task import Task

TOGETHER = "Several processes"
_PLACING = ("coordinator", "num_processes", "process_id", "join_within")


def train(
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
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder for the run.", show_default="runs/<time>-<rule>-<data>"),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Continue the run in this folder, bit for bit, perhaps to more --epochs. Code that it names runs only "
            "if its file is unchanged.",
        ),
    ] = None,
    every: Annotated[
        str | None,
        typer.Option(
            metavar="STEPS|SECONDS",
            help="How often to save a checkpoint: 500 steps, or 60s.",
            show_default="every epoch, and every minute",
        ),
    ] = None,
    keep: Annotated[int, typer.Option(metavar="K", min=1, help="How many checkpoints to keep.")] = 2,
    force: Annotated[
        bool, typer.Option("--force", help="Continue even if something that determines the numbers has changed.")
    ] = False,
    trust: TrustFlag = False,
    coordinator: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT|auto",
            envvar=COORDINATOR,
            help="Train together with other processes: the address at which the first one listens. auto asks Slurm, "
            "Open MPI, Kubernetes or Cloud TPU for this and the next two.",
            rich_help_panel=TOGETHER,
        ),
    ] = None,
    num_processes: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, envvar=PROCESSES, help="Number of processes.", rich_help_panel=TOGETHER),
    ] = None,
    process_id: Annotated[
        int | None,
        typer.Option(
            metavar="I",
            min=0,
            envvar=NUMBER,
            help="Index of this process, from 0; process 0 writes the results.",
            rich_help_panel=TOGETHER,
        ),
    ] = None,
    join_within: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=1.0, help="How long to wait for the others.", rich_help_panel=TOGETHER),
    ] = PATIENCE,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Compile and check shapes only; write nothing.")] = False,
    as_json: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Train a network. Without options: a multilayer perceptron on handwritten digits, by predictive coding.

    The run's folder holds everything: settings, metrics, parameters, learning curve. Settings come from flags,
    then --set, then --config, then the environment; `neurai config show` shows where each comes from.
    """
    place = place_of(coordinator, num_processes, process_id)
    if place is not None and devices is None:
        context.params["devices"] = devices = "all"  # of all processes
    if resume is not None:
        _refuse_others(context)
    chosen = None if resume is not None else chosen_from(context)
    if chosen is not None and config is not None:
        check_trusted(chosen, Path(config), trust=trust)
    options = Options(USUALLY if every is None else every_of(every), keep, force, trust)

    from neurai_core.training import run  # imports JAX from here on
    from neurai_core.training.team import team

    show = partial(_print_result, as_json=as_json, quiet=quiet)
    with programs_kept(), joined(place, join_within), _View(show, quiet=quiet, silent=not team().writes) as view:
        if place is not None and not is_loopback(place.host):
            view.callbacks.note(OPEN_TRAFFIC)
        if resume is not None:
            run.resume(resume, view.callbacks, options, {"devices": devices, "shard": shard, "epochs": epochs})
        elif dry_run and chosen is not None:
            found = run.dry_run(chosen, view.callbacks, options)
            if not view.silent:
                show(found)
        elif chosen is not None:
            run.train(chosen, out, view.callbacks, options)


def _refuse_others(context: typer.Context) -> None:
    others = ("as_json", "quiet", "resume", "every", "keep", "force", "trust", "devices", "shard", "epochs", *_PLACING)
    given = [name for name in context.params if name not in others and _was_given(context, name)]
    if given:
        flag = given[0].replace("_", "-").replace("sets", "set")
        raise UsageError(
            f"--resume continues a run with its own settings; --{flag} cannot change them.",
            "Start another run with --config FOLDER/config.toml and the change.",
        )


def _was_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _print_result(result: dict[str, Any], *, as_json: bool, quiet: bool) -> None:
    if as_json:
        print_json(result)
    if quiet:
        return
    console = stderr() if as_json else stdout()
    if "dry_run" in result:
        console.print(
            "{rule} on {data} with {model}: {parameters} parameters, {steps} steps; all shapes fit and a step "
            "compiles in {compile_s:.2f} s.".format(**result),
        )
        return
    _print_table(console, result)


def _print_table(console: Console, result: dict[str, Any]) -> None:
    from neurai_core.report.tables import alignment_table, result_table

    console.print(result_table(result))
    if "alignment" in result:
        console.print(alignment_table(result["alignment"]))
    if "stopped" in result:
        console.print(f"Stopped early: {result['stopped']}.")
    console.print(
        f"{result['steps']} steps; everything is in {result['run']}, drawn in learning_curve.png",
    )


class _View:
    """The progress display: a bar on a terminal, a line per epoch elsewhere, nothing when quiet."""

    def __init__(self, show: Callable[[dict[str, Any]], None], *, quiet: bool, silent: bool = False) -> None:
        self.show = show  # the result, which need not wait for the picture
        self.quiet = quiet
        self.silent = silent  # notes and the result as well: another process tells them
        self.console = stderr()
        self.bar: Progress | None = None
        self.show_warning = warnings.showwarning
        self.loss = "loss"
        self.probe = False

    @property
    def callbacks(self) -> Callbacks:
        """The callbacks of a run."""
        from neurai_core.training.callbacks import Callbacks

        if self.silent:
            return Callbacks()
        always = Callbacks(note=note, result=self._result)
        if self.quiet:
            return always
        if not self.console.is_terminal:
            compiling = lambda: self.console.print("compiling...")  # noqa: E731
            return replace(always, compiling=compiling, begin=self._begin, epoch=self._line)
        return replace(always, compiling=self._compiling, begin=self._begin, steps=self._steps, epoch=self._epoch)

    def __enter__(self) -> _View:
        warnings.showwarning = lambda message, *_, **__: None if self.silent else note(str(message))
        return self

    def __exit__(self, *_: object) -> None:
        warnings.showwarning = self.show_warning
        self._stop_bar()

    def _compiling(self) -> None:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        self.bar = Progress(*columns, console=self.console, transient=True)
        self.bar.add_task("compiling...", total=None)
        self.bar.start()

    def _begin(self, task: Task, done: int) -> None:
        self.loss = task.own_loss or self.loss
        self.probe = task.unsupervised
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], description="training", total=task.steps, completed=done)

    def _steps(self, done: int) -> None:
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], completed=done)

    def _epoch(self, row: Row, progress: Any) -> None:
        if self.bar is not None:
            score = next(name for name in ("test_accuracy", "test_loss", "train_loss") if name in row.values)
            said = f"epoch {row.epoch}: {score.replace('_', ' ')} {row.values[score]:.4g}"
            self.bar.update(self.bar.task_ids[0], description=said)

    def _result(self, result: dict[str, Any]) -> None:
        self._stop_bar()
        self.show(result)

    def _stop_bar(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def _line(self, row: Row, progress: Any) -> None:
        parts = [f"train {self.loss} {row.values['train_loss']:.4g}"]
        if "test_loss" in row.values:
            parts.append(f"test {self.loss if self.probe else 'loss'} {row.values['test_loss']:.4g}")
        if "test_accuracy" in row.values:
            parts.append(f"{'probe ' * self.probe}accuracy {row.values['test_accuracy']:.4f}")
        self.console.print(f"epoch {row.epoch}: {', '.join(parts)}")
