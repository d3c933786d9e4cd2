"""Whether the phases of a relaxing rule had settled: a picture of energy and force over the steps, and words.

A rule that is built with ``trace=True`` reports ``aux["trace"]``: for every phase by name ``energy`` and
``residual`` (norm of the force) before every step and at the end, ``(n + 1,)``, or ``(K, n + 1)`` for K phases of
one kind; an empty dict for a phase that was skipped.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from neurai_core.errors import OutputError

SETTLED = 1e-2  # share of its first force that a phase may keep and still count as settled
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # told apart by every color vision
_SIZE, _DPI = (4.6, 3.4), 150  # inches of one panel

Trace = Mapping[str, Mapping[str, Any]]


def relaxation(trace: Trace, path: Path, *, tol: float = 0.0, title: str = "") -> str:
    """Draw energy and force of every phase, and say in words whether the phases had settled.

    Args:
        trace: ``estimate.aux["trace"]``.
        path: the PNG file to write.
        tol: the force below which a phase counts as settled; 0 takes 1 % of the force it began with.
        title: what stands above.

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
    figure = Figure(figsize=(2 * _SIZE[0], _SIZE[1]), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for (name, phase), color in zip(phases.items(), COLORS * len(phases), strict=False):
        _curve(left, phase.get("energy"), name, color)
        _curve(right, phase.get("residual"), name, color)
    _label(left, "energy, mean over the batch")
    _label(right, "norm of the force")
    right.set_yscale("log")
    if tol > 0:
        right.axhline(tol, color="0.4", linestyle="--", linewidth=1, label="tol")
    right.legend(frameon=False)
    figure.suptitle(title)
    _save(figure, path)
    return "\n".join(words(name, phase, tol) for name, phase in phases.items())


def phases_of(trace: Trace) -> dict[str, dict[str, np.ndarray]]:
    """Every phase by name; K phases of one kind are numbered.

    >>> list(phases_of({"free": {}, "nudged": {"residual": np.ones((2, 5))}}))
    ['free', 'nudged 1', 'nudged 2']
    """
    phases: dict[str, dict[str, np.ndarray]] = {}
    for name, phase in trace.items():
        arrays = {key: np.asarray(phase[key]) for key in ("energy", "residual") if key in phase}
        count = len(arrays["residual"]) if arrays and arrays["residual"].ndim == 2 else 1
        if not arrays or arrays["residual"].ndim == 1:
            phases[name] = arrays
            continue
        for k in range(count):
            phases[name if count == 1 else f"{name} {k + 1}"] = {key: value[k] for key, value in arrays.items()}
    return phases


def words(name: str, phase: Mapping[str, np.ndarray], tol: float = 0.0) -> str:
    """One sentence on whether a phase had settled, and what to do when it had not.

    >>> words("free", {"energy": np.array([1.0, 0.5]), "residual": np.array([1.0, 0.6])})
    'The free phase had not settled: after 1 step 60.0% of its first force was left. Raise n_relax or dt.'
    """
    if not phase:
        return f"The {name} phase was skipped: it began at rest."
    residual, energy = phase["residual"], phase.get("energy", np.zeros(1))
    n = len(residual) - 1
    steps = f"{n} step{'s' if n != 1 else ''}"
    if not np.isfinite(residual).all():
        first = int(np.argmin(np.isfinite(residual)))
        return f"The {name} phase blew up at step {first}. Lower dt."
    left = residual[-1] / residual[0] if residual[0] > 0 else 0.0
    seen = f"after {steps} {left:.1%} of its first force was left"
    if residual[-1] < (tol or SETTLED * residual[0]) or residual[0] == 0:
        return f"The {name} phase had settled: {seen}."
    cure = "Lower dt: the energy rose on the way." if _rose(energy) else "Raise n_relax or dt."
    return f"The {name} phase had not settled: {seen}. {cure}"


def _rose(energy: np.ndarray) -> bool:
    return bool(np.any(np.diff(energy) > 1e-5 * (1 + np.abs(energy[1:]))))


def _curve(axes: Axes, values: np.ndarray | None, name: str, color: str) -> None:
    if values is not None:
        axes.plot(np.arange(len(values)), values, color=color, linewidth=1.5, label=name)


def _label(axes: Axes, what: str) -> None:
    axes.set_xlabel("step")
    axes.set_ylabel(what)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)


def _save(figure: Figure, path: Path) -> None:
    try:
        figure.savefig(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}.", "Is the disk full?") from error
