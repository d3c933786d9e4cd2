"""Whether the phases of a relaxing rule had settled: a picture of energy and force over the steps, and a summary.

Drawn is ``aux["trace"]`` of an estimate, which `neurai_core.specs.Relaxes` describes.
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
from neurai_core.specs import Relaxes

SETTLED = 1e-2  # fraction of the initial force below which a phase counts as settled
PANELS = {"energy": "energy", "residual": "norm of the force"}

Trace = Mapping[str, Mapping[str, Any]]
Phase = Mapping[str, np.ndarray]


def relaxation(trace: Trace, path: Path, relaxes: Relaxes, *, tol: float = 0.0, title: str = "") -> str:
    """Draw energy and force of every phase, and say in words whether the phases had settled.

    Args:
        trace: ``estimate.aux["trace"]``.
        path: the picture file to write.
        relaxes: names of the rule's settings for the number and size of steps.
        tol: the force below which a phase counts as settled; 0 takes 1 % of its initial force.
        title: title of the picture.

    Returns:
        One sentence per phase.

    Raises:
        OutputError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> force = 0.5 ** np.arange(21)
        >>> trace = {"free": {}, "nudged": {"energy": force**2, "residual": force}}
        >>> relaxes = Relaxes(trace="trace", steps="n", size="eta")
        >>> print(relaxation(trace, Path(tempfile.mkdtemp(), "relaxation.png"), relaxes))
        The free phase was skipped: it began at rest.
        The nudged phase had settled: after 20 steps 0.0% of its first force was left.
    """
    phases = phases_of(trace)
    handles = _legend(phases, tol)
    with canvas(path, (PANEL[0] * len(PANELS), PANEL[1] + 0.25 * len(handles))) as figure:
        for axes, key in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
            _panel(axes, phases, key, tol)
        figure.suptitle(title, parse_math=False)
        figure.legend(handles=handles, loc="outside lower center", ncols=len(PANELS), fontsize=9)
    return "\n".join(words(name, phase, relaxes, tol) for name, phase in phases.items())


def phases_of(trace: Trace) -> dict[str, dict[str, np.ndarray]]:
    """Every phase by name; K phases of one kind are numbered.

    >>> list(phases_of({"free": {}, "nudged": {"energy": np.ones((2, 5)), "residual": np.ones((2, 5))}}))
    ['free', 'nudged 1', 'nudged 2']
    """
    phases: dict[str, dict[str, np.ndarray]] = {}
    for name, phase in trace.items():
        arrays = {key: np.atleast_2d(phase[key]) for key in PANELS} if phase else {}
        count = len(arrays["energy"]) if phase else 1
        for k in range(count):
            phases[name if count == 1 else f"{name} {k + 1}"] = {key: value[k] for key, value in arrays.items()}
    return phases


def words(name: str, phase: Phase, relaxes: Relaxes, tol: float = 0.0) -> str:
    """One sentence on whether a phase had settled, and what to do if not.

    >>> relaxes = Relaxes(trace="trace", steps="n", size="eta")
    >>> words("free", {"energy": np.array([1.0, 0.5]), "residual": np.array([1.0, 0.6])}, relaxes)
    'The free phase had not settled: after 1 step 60.0% of its first force was left. Raise n or eta.'
    """
    if not phase:
        return f"The {name} phase was skipped: it began at rest."
    energy, force = phase["energy"], phase["residual"]
    if not np.isfinite(force).all():
        return f"The {name} phase blew up at step {int(np.argmin(np.isfinite(force)))}. Lower {relaxes.size}."
    left, n = force[-1] / force[0] if force[0] > 0 else 0.0, len(force) - 1
    seen = f"after {n} step{'s' if n != 1 else ''} {left:.1%} of its first force was left"
    if force[-1] < (tol or SETTLED * force[0]) or force[0] == 0:
        return f"The {name} phase had settled: {seen}."
    rose = f"Lower {relaxes.size}: the energy rose on the way."
    cure = rose if _rose(energy) else f"Raise {relaxes.steps} or {relaxes.size}."
    return f"The {name} phase had not settled: {seen}. {cure}"


def _rose(energy: np.ndarray) -> bool:
    return bool(np.any(np.diff(energy) > 1e-5 * (1 + np.abs(energy[1:]))))


# ---------------------------------------------------------------------------- drawing


def _panel(axes: Axes, phases: Mapping[str, Phase], key: str, tol: float) -> None:
    for (name, phase), color in zip(phases.items(), COLORS * len(phases), strict=False):
        if key in phase:
            values = phase[key]
            axes.plot(np.arange(len(values)), values, color=color, linewidth=1.5, label=name, marker=_marker(values))
    axes.set_xlabel("step")
    axes.set_ylabel(PANELS[key])
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
    """A legend entry per phase, even if it was skipped."""
    lines = [
        Line2D([], [], color=color, label=name if phase else f"{name}: skipped, it began at rest")
        for (name, phase), color in zip(phases.items(), COLORS * len(phases), strict=False)
    ]
    return lines + ([Line2D([], [], color=INK, linestyle="--", label="tol")] if tol > 0 else [])
