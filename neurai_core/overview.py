"""The list of plugins: what each one is, where it comes from, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from neurai_core.discovery import Entry, Switches, Unreadable
from neurai_core.errors import DuplicateName, MissingExtra, PluginError
from neurai_core.finding import blocked_by, duplicate, preferred


@dataclass(frozen=True)
class PluginStatus:
    """One row of the list of plugins.

    Attributes:
        kind: what it is, such as ``algorithm``; empty for a distribution that cannot be read.
        name: lookup name.
        distribution: the distribution that offers it; ``in-process`` for one registered in this process.
        version: that distribution's version.
        status: ``ok``, ``failed``, ``blocked``, ``duplicate``, ``unloaded`` or, isolated, ``crash``.
        step: where it failed: scan, requirements, import, register, spec, settings, build or call.
        error: what happened, in one sentence.
        hint: what to do about it.
        value: ``module:attribute`` of its entry point.
    """

    kind: str
    name: str
    distribution: str
    version: str
    status: str
    step: str = ""
    error: str = ""
    hint: str = ""
    value: str = ""


Row = tuple[Entry, PluginStatus]


def overview(entries: Sequence[Entry], state: Callable[[Entry], PluginError | MissingExtra | str]) -> list[Row]:
    """The rows of entries of one kind, sorted by name.

    Args:
        entries: the entries, those of one name next to each other.
        state: what becomes of an entry that is neither blocked nor a duplicate: a failure, a library that it
            lacks, or a status.
    """
    switches = Switches.read()
    rows: list[Row] = []
    for _, same in groupby(entries, key=lambda entry: entry.key):
        rows.extend(_of_one_name(list(same), switches, state))
    return rows


def unreadable_status(one: Unreadable) -> PluginStatus:
    """The row of a distribution whose entry points cannot be read."""
    error = f"Its entry points cannot be read: {type(one.error).__name__}: {one.error}."
    return PluginStatus("", "", one.distribution, one.version, "failed", "scan", error, "Reinstall it.")


def _of_one_name(
    entries: list[Entry], switches: Switches, state: Callable[[Entry], PluginError | MissingExtra | str]
) -> Iterator[Row]:
    rivals = [entry for entry in entries if not blocked_by(entry, switches)]
    for entry in entries:
        row = _row(entry)
        if entry not in rivals:
            yield entry, replace(row, status="blocked", error=f"Blocked by {blocked_by(entry, switches)}.")
        elif entry in _losers(rivals, switches):
            error = duplicate(rivals)
            yield entry, replace(row, status="duplicate", error=error.message, hint=error.hint)
        else:
            yield entry, _with_state(row, state(entry))


def _losers(rivals: list[Entry], switches: Switches) -> list[Entry]:
    """Those of one name that a lookup by this name alone does not give."""
    if len(rivals) == 1:
        return []
    try:
        chosen = preferred(rivals, switches)
    except DuplicateName:
        return rivals
    return [entry for entry in rivals if entry is not chosen]


def _row(entry: Entry) -> PluginStatus:
    return PluginStatus(entry.kind, entry.name, entry.distribution, entry.version, "ok", value=entry.value)


def _with_state(row: PluginStatus, state: PluginError | MissingExtra | str) -> PluginStatus:
    if isinstance(state, str):
        return replace(row, status=state)
    if isinstance(state, MissingExtra):  # its spec is fine; only building needs the library
        return replace(row, error=state.message, hint=state.hint)
    return replace(row, status="failed", step=state.step, error=state.message, hint=state.hint)
