"""The list of plugins: what each one is, where it comes from, and its status."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from neurai_core.errors import DuplicateName, MissingExtra, PluginError
from neurai_core.registry.entries import Entry
from neurai_core.registry.lookup import preferred
from neurai_core.registry.scan import Unreadable
from neurai_core.registry.switches import Switches


@dataclass(frozen=True)
class PluginStatus:
    """One row of the list of plugins.

    Attributes:
        kind: what it is, such as ``algorithm``; empty for a distribution that cannot be read.
        name: lookup name.
        distribution: the distribution that offers it; ``in-process`` for one registered in this process.
        version: that distribution's version.
        status: ``ok``, ``failed``, ``blocked``, ``duplicate``, ``unloaded`` or, isolated, ``crash``.
        step: where it failed, or changed JAX's configuration: scan, requirements, import, register, spec, settings,
            build or call.
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


def statuses(
    entries: Sequence[Entry],
    rivals: Callable[[Entry], Sequence[Entry]],
    state: Callable[[Entry], PluginError | MissingExtra | str],
) -> list[Row]:
    """The rows of entries.

    Args:
        entries: the entries.
        rivals: all entries found under the name of one, including itself.
        state: the state of an entry that is neither blocked nor a duplicate: a failure, a missing library, or a
            status.
    """
    switches = Switches.read()
    return [(entry, _status(entry, rivals(entry), switches, state)) for entry in entries]


def unreadable_status(one: Unreadable) -> PluginStatus:
    """The row of a distribution whose entry points cannot be read."""
    error = f"Its entry points cannot be read: {type(one.error).__name__}: {one.error}."
    return PluginStatus("", "", one.distribution, one.version, "failed", "scan", error, "Reinstall it.")


def _status(
    entry: Entry,
    same: Sequence[Entry],
    switches: Switches,
    state: Callable[[Entry], PluginError | MissingExtra | str],
) -> PluginStatus:
    row, rivals = _row(entry), [one for one in same if not switches.blocked_by(one)]
    if entry not in rivals:
        return replace(row, status="blocked", error=f"Blocked by {switches.blocked_by(entry)}.")
    if len(rivals) == 1:
        return _with_state(row, state(entry))
    try:
        chosen = preferred(rivals, switches)
    except DuplicateName as error:
        return replace(row, status="duplicate", error=error.message, hint=error.hint)
    if chosen is entry:
        return _with_state(row, state(entry))
    return replace(row, status="duplicate", error=f"NEURAI_PREFER chooses {chosen}.")


def _row(entry: Entry) -> PluginStatus:
    return PluginStatus(entry.kind, entry.name, entry.distribution, entry.version, "ok", value=entry.value)


def _with_state(row: PluginStatus, state: PluginError | MissingExtra | str) -> PluginStatus:
    if isinstance(state, str):
        return replace(row, status=state)
    if isinstance(state, MissingExtra):  # its spec is valid; only building needs the library
        return replace(row, error=state.message, hint=state.hint)
    return replace(row, status="failed", step=state.step, error=state.message, hint=state.hint)
