"""``neurai doctor``: check what is installed and found, and report problems."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer

from neurai_core.cli.listing import needs_attention
from neurai_core.cli.options import JsonFlag
from neurai_core.cli.output import print_json, stdout
from neurai_core.errors import NeurAIError
from neurai_core.report.tables import table

LIBRARIES = (
    "neurai",
    "jax",
    "jaxlib",
    "optax",
    "numpy",
    "pydantic",
    "pluggy",
    "typer",
    "rich",
    "safetensors",
    "matplotlib",
)
OPTIONAL = ("equinox", "flax", "pooch")
_NAMED = ("python", "neurai", "jax", "devices")  # names in the line about what is fine
Finding = tuple[str, str, str]  # topic, finding, what is wrong


def doctor(
    every: Annotated[bool, typer.Option("--all", help="Also list what is fine.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Check versions, devices, plugins, data sets and cache; exit with 1 if something is wrong.

    One line sums up what is fine, another what is missing; every problem gets a line of its own.
    """
    plugins = [*_metadata(), *_plugins()]  # before JAX is imported, so that a crashing plugin is found quickly
    findings = [*_versions(), *_environment(), *_devices(), *plugins, *_data_sets()]
    wrong = [f"{topic}: {problem}" for topic, _, problem in findings if problem]
    if as_json:
        print_json({"findings": {topic: finding for topic, finding, _ in findings}, "wrong": wrong})
    else:
        if every:
            stdout().print(table(("", "found"), [(topic, finding) for topic, finding, _ in findings]))
        _print_summary(findings)
        for line in wrong or ["nothing"]:
            stdout().print(f"wrong: {line}")
    if wrong:
        raise typer.Exit(1)


def _print_summary(findings: Sequence[Finding]) -> None:
    """Print what is fine in one line, and what is missing but optional in another."""
    there = [(topic, finding) for topic, finding, problem in findings if not problem and not _is_absent(finding)]
    named = [f"{topic} {finding}" for topic, finding in there if topic in _NAMED]
    stdout().print(f"fine: {', '.join(named)}, and {len(there) - len(named)} more (neurai doctor --all lists them)")
    absent = [topic for topic, finding, problem in findings if not problem and _is_absent(finding)]
    if absent:
        stdout().print(f"missing: {', '.join(absent)} (neurai doctor --all says more)")


def _is_absent(finding: str) -> bool:
    return finding.startswith(("not installed", "not found"))


def _versions() -> Iterator[Finding]:
    from importlib_metadata import PackageNotFoundError, version

    yield "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}", ""
    for name in (*LIBRARIES, *OPTIONAL):
        try:
            yield name, version(name), ""
        except PackageNotFoundError:
            yield name, "not installed", "" if name in OPTIONAL else "is needed: python -m pip install neurai"
        except Exception as error:  # damaged metadata can raise anything
            yield name, "?", f"Its metadata are damaged ({type(error).__name__}). Install it again."


def _environment() -> Iterator[Finding]:
    from neurai_core.naming import did_you_mean

    known = _known_variables()
    for name, value in sorted(os.environ.items()):
        if name.startswith("NEURAI_"):
            yield (
                name,
                value,
                "" if name in known else f"no such variable is read.{did_you_mean(name, known)}",
            )


def _known_variables() -> set[str]:
    from neurai_core.training.setting_sources import variable
    from neurai_core.training.settings import RunSettings

    others = ("ONLY", "BLOCK", "PREFER", "DISABLE_PLUGIN_AUTOLOAD", "TRACE", "DATA", "CACHE")
    return {f"NEURAI_{name}" for name in others} | {variable(name) for name in RunSettings.model_fields}


def _devices() -> Iterator[Finding]:
    from neurai_core.registry.scan import damaged_by

    try:
        import jax

        devices = jax.devices()
    except Exception as error:  # a broken JAX installation can raise anything
        culprit = damaged_by(error)
        words = f"{type(error).__name__}: {(str(error) or 'no message').splitlines()[0]}"
        yield "devices", "none", f"JAX cannot be used: {culprit}. {culprit.hint}" if culprit else words
        return
    yield "devices", ", ".join(f"{one.platform}:{one.id} ({one.device_kind})" for one in devices), ""
    yield from _compilation_cache()


def _compilation_cache() -> Iterator[Finding]:
    from neurai_core.cli.compilation_cache import MOST, VARIABLE, configured_for_jax, entries, usable_folder

    topic, theirs = "compilation cache", configured_for_jax()
    if theirs:
        yield topic, f"{theirs}, as configured for JAX", ""
        return
    try:
        folder = usable_folder(os.environ)
    except NeurAIError as error:
        yield topic, "off", f"{error.message} {error.hint}"
        return
    if folder is None:
        yield topic, f"off, by {VARIABLE}", ""
        return
    size = sum(size for _, size, _ in entries(folder))
    yield topic, f"{folder}, {size / 2**20:.1f} of at most {MOST // 2**20} MiB", ""


def _plugins() -> Iterator[Finding]:
    from neurai_core.registry import REGISTRY

    REGISTRY.vet()
    for one in REGISTRY.plugins():
        failed = needs_attention(one)
        topic = f"{one.kind or 'distribution'} {one.name or one.distribution}"
        finding = f"{one.status}, from {one.distribution} {one.version}".rstrip()
        if one.error and not failed:
            finding += f"; {one.error} {one.hint}".rstrip()
        yield topic, finding, f"{one.error} {one.hint}".strip() if failed else ""


def _metadata() -> Iterator[Finding]:
    from neurai_core.cli.metadata import damages

    for distribution, problem in damages():
        yield f"metadata of {distribution}", "damaged or stale", problem


def _data_sets() -> Iterator[Finding]:
    """Check the data sets that need no path, without downloading."""
    from neurai_core.registry import REGISTRY

    for name in REGISTRY.names("dataset"):
        try:
            fields = REGISTRY.spec("dataset", name).config.model_fields
        except Exception:  # the list of plugins reports it
            continue
        if not any(field.is_required() for field in fields.values()):
            yield f"data of {name}", _data_set(name, {"download": False} if "download" in fields else {}), ""


def _data_set(name: str, settings: dict[str, Any]) -> str:
    import neurai_core as neurai

    try:
        data: Any = neurai.dataset(name, **settings)
    except NeurAIError as error:
        return f"not found: {error.message} {error.hint}"
    if not hasattr(data, "x_train"):
        return "comes in batches"
    return f"{len(data.x_train)} to train, {len(data.x_test)} to test"
