"""Whether the phases of a relaxing rule had settled: a picture of energy and force over the steps, and words.

What is drawn is ``aux["trace"]`` of an estimate; `neurai_core.specs.Relaxes` says what that is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from neurai_core.report.canvas import COLORS, INK, PANEL, canvas
from neurai_core.report.pictures import log_scale

SETTLED = 1e-2  # share of its first force that a phase may keep and still count as settled
KNOBS = ("n_relax", "dt")

Trace = Mapping[str, Mapping[str, Any]]
Phase = Mapping[str, np.ndarray]


def relaxation(trace: Trace, path: Path, *, tol: float = 0.0, title: str = "", knobs: tuple[str, str] = KNOBS) -> str:
    """Draw energy and, where there is one, force of every phase, and say in words whether the phases had settled.

    Args:
        trace: ``estimate.aux["trace"]``.
        path: the picture file to write.
        tol: the force below which a phase counts as settled; 0 takes 1 % of the force it began with.
        title: what stands above.
        knobs: the rule's settings for the number and the size of the steps.

    Returns:
        One sentence per phase.

    Raises:
        OutputError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> force = 0.5 ** np.arange(21)
        >>> trace = {"free": {}, "nudged": {"energy": force**2, "residual": force}}
        >>> print(relaxation(trace, Path(tempfile.mkdtemp(), "relaxation.png")))
        The free phase was skipped: it began at rest.
        The nudged phase had settled: after 20 steps 0.0% of its first force was left.
    """
    phases = phases_of(trace)
    panels = {"energy": "energy, mean over the batch", "residual": "norm of the force"}
    drawn = [key for key in panels if any(key in phase for phase in phases.values())] or ["energy"]
    handles = _legend(phases, tol if "residual" in drawn else 0.0)
    size = (max(5.6, PANEL[0] * len(drawn)), PANEL[1] + 0.25 * len(handles))
    with canvas(path, size) as figure:
        for axes, key in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn, strict=True):
            _panel(axes, phases, key, panels[key], tol)
        figure.suptitle(title, parse_math=False)
        figure.legend(handles=handles, loc="outside lower center", ncols=len(drawn), fontsize=9)
    return "\n".join(words(name, phase, tol, knobs) for name, phase in phases.items())


def phases_of(trace: Trace) -> dict[str, dict[str, np.ndarray]]:
    """Every phase by name; K phases of one kind are numbered.

    >>> list(phases_of({"free": {}, "nudged": {"residual": np.ones((2, 5))}}))
    ['free', 'nudged 1', 'nudged 2']
    """
    phases: dict[str, dict[str, np.ndarray]] = {}
    for name, phase in trace.items():
        arrays = {key: np.asarray(phase[key]) for key in ("energy", "residual") if key in phase}
        stacked = [array for array in arrays.values() if array.ndim == 2]
        if not stacked:
            phases[name] = arrays
            continue
        count = len(stacked[0])
        for k in range(count):
            phases[name if count == 1 else f"{name} {k + 1}"] = {key: value[k] for key, value in arrays.items()}
    return phases


def words(name: str, phase: Phase, tol: float = 0.0, knobs: tuple[str, str] = KNOBS) -> str:
    """One sentence on whether a phase had settled, and what to do when it had not.

    >>> words("free", {"energy": np.array([1.0, 0.5]), "residual": np.array([1.0, 0.6])})
    'The free phase had not settled: after 1 step 60.0% of its first force was left. Raise n_relax or dt.'
    >>> words("inference", {"energy": np.array([3.0, 1.0, 1.0])})
    'The inference phase had settled: the last of 2 steps took 0.0% of what the energy fell.'
    """
    steps, size = knobs
    if not phase:
        return f"The {name} phase was skipped: it began at rest."
    energy, force = phase.get("energy", np.zeros(1)), phase.get("residual")
    looked = energy if force is None else force
    if not np.isfinite(looked).all():
        return f"The {name} phase blew up at step {int(np.argmin(np.isfinite(looked)))}. Lower {size}."
    settled, seen = _by_energy(energy) if force is None else _by_force(force, tol)
    if settled:
        return f"The {name} phase had settled: {seen}."
    cure = f"Lower {size}: the energy rose on the way." if _rose(energy) else f"Raise {steps} or {size}."
    return f"The {name} phase had not settled: {seen}. {cure}"


def _by_force(force: np.ndarray, tol: float) -> tuple[bool, str]:
    left = force[-1] / force[0] if force[0] > 0 else 0.0
    settled = bool(force[-1] < (tol or SETTLED * force[0]) or force[0] == 0)
    return settled, f"after {_count(len(force) - 1)} {left:.1%} of its first force was left"


def _by_energy(energy: np.ndarray) -> tuple[bool, str]:
    """Judged by the last step alone: less can be said without the force."""
    fell = abs(float(energy[0] - energy[-1]))
    share = abs(float(energy[-2] - energy[-1])) / fell if fell and len(energy) > 1 else 0.0
    n = len(energy) - 1
    last = "the only step" if n == 1 else f"the last of {_count(n)}"
    return share < SETTLED and not _rose(energy), f"{last} took {share:.1%} of what the energy fell"


def _count(n: int) -> str:
    return f"{n} step{'s' if n != 1 else ''}"


def _rose(energy: np.ndarray) -> bool:
    return bool(np.any(np.diff(energy) > 1e-5 * (1 + np.abs(energy[1:]))))


# ---------------------------------------------------------------------------- drawing


def _panel(axes: Axes, phases: Mapping[str, Phase], key: str, what: str, tol: float) -> None:
    for (name, phase), color in zip(phases.items(), COLORS * len(phases), strict=False):
        if key in phase:
            values = phase[key]
            axes.plot(np.arange(len(values)), values, color=color, linewidth=1.5, label=name, marker=_marker(values))
    axes.set_xlabel("step")
    axes.set_ylabel(what)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(ScalarFormatter(useOffset=False))
    if key == "residual":
        positive = np.concatenate([phase[key][phase[key] > 0] for phase in phases.values() if key in phase])
        if len(positive):
            log_scale(axes, float(positive.min()), float(positive.max()))
        if tol > 0:
            axes.axhline(tol, color=INK, linestyle="--", linewidth=1)


def _marker(values: np.ndarray) -> str:
    return "." if len(values) <= 30 else ""


def _legend(phases: Mapping[str, Phase], tol: float) -> list[Line2D]:
    """An entry per phase, also for one that was skipped."""
    lines = [
        Line2D([], [], color=color, label=name if phase else f"{name}: skipped, it began at rest")
        for (name, phase), color in zip(phases.items(), COLORS * len(phases), strict=False)
    ]
    return lines + ([Line2D([], [], color=INK, linestyle="--", label="tol")] if tol > 0 else [])
