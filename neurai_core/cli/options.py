"""Options shared by several commands, and their shell completions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from neurai_core.training.setting_sources import variable
from neurai_core.training.settings import Chosen, RunSettings, choose

PANEL = "What decides the run"


def complete_rule(incomplete: str) -> list[str]:
    """Learning rules whose names begin like this."""
    return _complete("algorithm", incomplete)


def complete_data(incomplete: str) -> list[str]:
    """Data sets whose names begin like this."""
    return _complete("dataset", incomplete)


def complete_surrogate(incomplete: str) -> list[str]:
    """Surrogates whose names begin like this."""
    return _complete("surrogate", incomplete)


def complete_activities(incomplete: str) -> list[str]:
    """Choices of what relaxes."""
    ways, _ = get_args(RunSettings.model_fields["activities"].annotation)
    return [way for way in get_args(ways) if way.startswith(incomplete)]


def complete_name(incomplete: str) -> list[str]:
    """Names of any kind that begin like this."""
    from neurai_core.registry.kinds import KINDS

    return sorted({name for kind in KINDS for name in _complete(kind.name, incomplete)})


def _complete(kind: str, incomplete: str) -> list[str]:
    from neurai_core.registry import REGISTRY

    return [name for name in REGISTRY.names(kind) if name.startswith(incomplete)]


def _run_option(name: str, *flags: str, **more: Any) -> Any:
    """The option of a run setting, with its meaning and default from `RunSettings`."""
    field = RunSettings.model_fields[name]
    words = field.description or ""
    meaning = f"{words[:1].upper()}{words[1:]} (variable {variable(name)})."
    return typer.Option(
        *(flags or (f"--{name.replace('_', '-')}",)),
        help=meaning,
        show_default=False if field.default in (None, ()) else str(field.default),
        rich_help_panel=PANEL,
        **more,
    )


def _settings_option(flag: str, owner: str) -> Any:
    """The option for a rule's or a surrogate's own settings, one at a time."""
    return typer.Option(
        flag,
        rich_help_panel=PANEL,
        metavar="KEY=VALUE",
        help=f"A setting of the {owner}; may be repeated. `neurai describe {owner.upper()}` lists them.",
    )


RuleFlag = Annotated[str | None, _run_option("rule", autocompletion=complete_rule)]
ModelFlag = Annotated[str | None, _run_option("model")]
ActivitiesFlag = Annotated[str | None, _run_option("activities", autocompletion=complete_activities)]
DataFlag = Annotated[str | None, _run_option("data", autocompletion=complete_data)]
SurrogateFlag = Annotated[str | None, _run_option("surrogate", autocompletion=complete_surrogate)]
StepsFlag = Annotated[int | None, _run_option("steps")]
OptimizerFlag = Annotated[str | None, _run_option("optimizer")]
OptimizerForFlags = Annotated[list[str] | None, _run_option("optimizer_for", metavar="PART=OPTIMIZER")]
RateFlag = Annotated[str | None, _run_option("lr", metavar="NUMBER|SCHEDULE")]
ScheduleFlag = Annotated[str | None, _run_option("schedule")]
LossFlag = Annotated[str | None, _run_option("loss")]
EpochsFlag = Annotated[int | None, _run_option("epochs")]
BatchFlag = Annotated[int | None, _run_option("batch_size")]
DtypeFlag = Annotated[str | None, _run_option("dtype", metavar="bfloat16")]
DevicesFlag = Annotated[str | None, _run_option("devices", metavar="N|all")]
ShardFlag = Annotated[str | None, _run_option("shard", metavar="params")]
SeedFlag = Annotated[int | None, _run_option("seed")]
StopEarlyFlag = Annotated[list[str] | None, _run_option("stop_early", metavar="KEY=VALUE,...")]
LogFlags = Annotated[list[str] | None, _run_option("log", metavar="NAME,KEY=VALUE,...")]
AlignFlag = Annotated[bool | None, _run_option("align", "--align/--no-align")]
SetFlags = Annotated[list[str] | None, _settings_option("--set", "rule")]
SetSurrogateFlags = Annotated[list[str] | None, _settings_option("--set-surrogate", "surrogate")]
ConfigFlag = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="The config.toml of a run, to repeat it.")
]
TrustFlag = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Run code that the configuration names, such as a model of your own, even if its file has changed.",
    ),
]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
QuietFlag = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]


def chosen_from(context: typer.Context) -> Chosen:
    """The run described by the options of a command."""
    given = context.params
    flags = {name: given[name] for name in RunSettings.model_fields}
    flags["stop_early"] = ",".join(given["stop_early"]) if given["stop_early"] else None  # may be repeated
    flags |= {name: tuple(given[name]) if given[name] else None for name in ("log", "optimizer_for")}
    file = given["config"]  # older versions of typer pass a string
    path = None if file is None else Path(file)
    return choose(flags, given["sets"] or (), path, set_surrogate=given["set_surrogate"] or ())
