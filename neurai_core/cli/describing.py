"""``neurai describe`` and ``neurai cite``. No JAX."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurai_core.cli.options import JsonFlag, complete_name
from neurai_core.cli.output import note, print_json, stdout
from neurai_core.report.formulas import plain
from neurai_core.report.tables import table

if TYPE_CHECKING:
    from neurai_core.specs import PluginSpec, Reference

_ITSELF = "neurai"
_SHOWN_ELSEWHERE = {"kind", "name", "summary", "config", "references"}


def describe(
    name: Annotated[str, typer.Argument(help="A rule, surrogate, data set or adapter.", autocompletion=complete_name)],
    equations: Annotated[
        bool,
        typer.Option("--equations", help="Print the equations of a rule as in its paper: the file of its definition."),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Describe a rule, surrogate, data set or adapter: its settings with bounds and meaning, facts, and sources."""
    found = _find(name)
    if equations:
        _print_equations(found, as_json)
        return
    if as_json:
        described = [_as_json(spec) for spec in found]
        print_json(described[0] if len(described) == 1 else described)
        return
    for spec in found:
        _print(spec)


def cite(
    names: Annotated[
        list[str],
        typer.Argument(help="Rules, surrogates or data sets; neurai for the library.", autocompletion=complete_name),
    ],
) -> None:
    """Print BibTeX entries for what you used."""
    entries: dict[str, None] = {}
    for name in names:
        if name.lower() == _ITSELF:
            entries[_own_bibtex()] = None
            continue
        for spec in _find(name):
            if not spec.references:
                note(f"{spec.kind} {spec.name} gives no reference.")
            entries |= dict.fromkeys(_bibtex(spec.name, one) for one in spec.references)
    for entry in entries:
        stdout().print(entry, soft_wrap=True)


def _find(name: str) -> list[PluginSpec]:
    """The specs of that name, of any kind; usually just one."""
    from neurai_core.errors import BlockedName, UnknownName
    from neurai_core.naming import did_you_mean, split_qualified
    from neurai_core.registry import REGISTRY
    from neurai_core.registry.kinds import KINDS

    found = []
    for kind in KINDS:
        try:
            found.append(REGISTRY.spec(kind.name, name))
        except BlockedName:
            raise
        except UnknownName:
            continue
    if found:
        return found
    known = {one: None for kind in KINDS for one in REGISTRY.names(kind.name)}
    raise UnknownName(
        f"Nothing is named {name!r}.{did_you_mean(split_qualified(name)[0], known)}",
        "List them with `neurai rules`, `surrogates`, `datasets`, `adapters` and `observers`.",
    )


def _print_equations(found: list[PluginSpec], as_json: bool) -> None:
    from neurai_core.errors import UsageError
    from neurai_core.plugin import source_of

    targets = {spec.name: target for spec in found if (target := getattr(spec, "definition", None))}
    if not targets:
        raise UsageError(
            f"The {found[0].kind} {found[0].name!r} has no definition, so there are no equations to print.",
            'The spec of a rule names one: AlgorithmSpec(..., definition="package.equations:function").',
        )
    for name, target in targets.items():
        source = source_of(target)
        if not source.strip():
            module = target.partition(":")[0]
            raise UsageError(
                f"The definition of {name!r} is in {module}, whose file is empty: there is nothing to print."
            )
        if as_json:
            print_json({"name": name, "definition": target, "source": source})
        else:
            sys.stdout.write(source)


def _as_json(spec: PluginSpec) -> dict[str, Any]:
    from neurai_core.explain import describe_settings

    settings = [asdict(row) for row in describe_settings(spec.config)]
    return {**spec.model_dump(mode="json"), "settings": settings}


def _print(spec: PluginSpec) -> None:
    from neurai_core.explain import describe_settings

    console = stdout()
    console.print(f"{spec.name} ({spec.kind})", style="bold")
    console.print(spec.summary)
    settings = [(row.name, row.type, row.default or "must be given", row.range, row.description)
                for row in describe_settings(spec.config)]  # fmt: skip
    if settings:
        console.print(table(("setting", "takes", "default", "bounds", "meaning"), settings))
    else:
        console.print("It has no settings.")
    facts = spec.model_dump(mode="json", exclude=_SHOWN_ELSEWHERE)
    facts |= {key: plain(facts[key], facts["letters"]) for key in ("derivative", "primitive") if facts.get(key)}
    console.print(table(("fact", "value"), [(key, _text(value)) for key, value in facts.items() if value]))
    for reference in spec.references:
        console.print(f"Reference: {_citation(reference)}")


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {one}" for key, one in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _citation(reference: Reference) -> str:
    parts = (
        reference.authors.rstrip("."),
        reference.year and str(reference.year),
        reference.title,
        _link(reference),
    )
    return ". ".join(part for part in parts if part)


def _link(reference: Reference) -> str:
    if reference.doi:
        return f"https://doi.org/{reference.doi}"
    return f"https://arxiv.org/abs/{reference.arxiv}" if reference.arxiv else reference.url


def _bibtex(name: str, reference: Reference) -> str:
    if reference.bibtex:
        return reference.bibtex
    values = {
        "title": reference.title,
        "author": reference.authors,
        "year": reference.year,
        "url": _link(reference),
    }
    fields = ",\n".join(f"  {key} = {{{value}}}" for key, value in values.items() if value)
    return f"@misc{{{name}{reference.year or ''},\n{fields}\n}}"


def _own_bibtex() -> str:
    """The entry of this library; `CITATION.cff` says the same."""
    from importlib_metadata import version

    return (
        "@software{neurai2026,\n"
        "  title = {{NeurAI}: learning rules and surrogate gradients in {JAX}},\n"
        "  author = {{The NeurAI developers}},\n"
        "  year = {2026},\n"
        f"  version = {{{version(_ITSELF)}}}\n}}"
    )
