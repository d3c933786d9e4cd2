"""``neurai rules``, ``surrogates``, ``datasets``, ``adapters``, ``observers`` and ``plugins``. No JAX."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurai_core.cli.options import JsonFlag
from neurai_core.cli.output import note, print_json, stdout
from neurai_core.report.formulas import plain
from neurai_core.report.tables import table

if TYPE_CHECKING:
    from neurai_core.registry import PluginStatus

Columns = dict[str, Callable[[Any], Any]]


def rules(as_json: JsonFlag = False) -> None:
    """List the learning rules."""
    _list(
        "algorithm",
        {"needs": lambda spec: spec.needs, "claims": lambda spec: ", ".join(spec.claims)},
        as_json,
    )


def surrogates(as_json: JsonFlag = False) -> None:
    """List the surrogate derivatives of the spike."""
    _list("surrogate", {"settings": _settings, "derivative": _derivative}, as_json)


def datasets(as_json: JsonFlag = False) -> None:
    """List the data sets."""
    columns: Columns = {
        "shape": lambda spec: _known(spec.shape and "x".join(map(str, spec.shape))),
        "classes": lambda spec: _known(spec.classes and len(spec.classes)),
        "train": lambda spec: _known(spec.train),
        "test": lambda spec: _known(spec.test),
        "license": lambda spec: spec.license or None,
    }
    _list("dataset", columns, as_json)


def adapters(as_json: JsonFlag = False) -> None:
    """List the libraries whose models can be trained."""
    columns: Columns = {
        "models": lambda spec: ", ".join(spec.models),
        "installed by": lambda spec: ", ".join(spec.requires.values()) or None,
    }
    _list("adapter", columns, as_json)


def observers(as_json: JsonFlag = False) -> None:
    """List the observers of training runs."""
    columns: Columns = {"settings": _settings, "active": lambda spec: "in every run" if spec.always else "on request"}
    _list("observer", columns, as_json)


def plugins(
    static: Annotated[bool, typer.Option("--static", help="Read only metadata, import nothing.")] = False,
    isolate: Annotated[bool, typer.Option("--isolate", help="Load each plugin in a separate process.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """List every plugin with its distribution and status; exit with 1 if one failed or two clash."""
    from neurai_core.registry import REGISTRY

    if not static and not isolate:
        REGISTRY.vet()
    found = REGISTRY.plugins(static=static, isolate=isolate)
    if as_json:
        print_json([asdict(one) for one in found])
    else:
        columns = ("kind", "name", "distribution", "version", "status", "step", "what happened")
        rows = [
            (
                one.kind,
                one.name,
                one.distribution,
                one.version,
                one.status,
                one.step,
                f"{one.error} {one.hint}".strip(),
            )
            for one in found
        ]
        stdout().print(table(columns, rows))
    if any(map(needs_attention, found)):
        raise typer.Exit(1)


def needs_attention(status: PluginStatus) -> bool:
    """Whether a plugin failed, clashes with another, or changes global configuration."""
    unsettled = status.status == "duplicate" and bool(status.hint)
    return unsettled or status.status in ("failed", "crash") or bool(status.step)


def _list(kind: str, columns: Columns, as_json: bool) -> None:
    specs = list(_specs(kind))
    if as_json:
        print_json([{**spec.model_dump(mode="json"), "distribution": str(entry.distribution)} for entry, spec in specs])
        return
    rows = [
        (_names(entry), spec.summary, *(column(spec) for column in columns.values()), entry.distribution)
        for entry, spec in specs
    ]
    stdout().print(table(("name", "what it is", *columns, "distribution"), rows))


def _names(entry: Any) -> str:
    """The name, and the aliases in brackets."""
    return f"{entry.name} ({', '.join(entry.aliases)})" if entry.aliases else str(entry.name)


def _specs(kind: str) -> Iterator[tuple[Any, Any]]:
    """Every entry of a kind with its spec; those that cannot be loaded are noted."""
    from neurai_core.errors import NeurAIError
    from neurai_core.registry import REGISTRY

    REGISTRY.vet(kind)
    for entry in REGISTRY.entries(kind):
        try:
            yield entry, REGISTRY.spec(kind, f"{entry.name}@{entry.distribution}")
        except NeurAIError as error:
            note(f"{entry} is left out: {error.message} `neurai plugins` says more.")


def _settings(spec: Any) -> str:
    from neurai_core.explain import describe_settings

    return ", ".join(f"{row.name}={row.default}" if row.default else row.name for row in describe_settings(spec.config))


def _derivative(spec: Any) -> str:
    return plain(spec.derivative, spec.letters)


def _known(value: Any) -> Any:
    return value or "as the files say"
