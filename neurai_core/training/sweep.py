"""Sweeps: a rule with many settings, as a grid or as a search, on the command line and from Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from neurai_core.report.sweep import sweep_table
from neurai_core.training.grid import run_grid, run_grid_in
from neurai_core.training.search import run_search, run_search_in
from neurai_core.training.searched import Search, planned_sweep
from neurai_core.training.seeds import Told
from neurai_core.training.setting_texts import text_of
from neurai_core.training.swept import Configurations


@dataclass(frozen=True, eq=False)
class Sweep:
    """The results of a sweep, from `sweep`.

    Attributes:
        results: what ``results.json`` holds.
        folder: the folder with the results; None if it was made without one.

    Example:
        >>> Sweep({"points": [{"values": {"lr": 0.1}, "score": 0.5}], "best": 0}, None).best["values"]
        {'lr': 0.1}
    """

    results: dict[str, Any]
    folder: Path | None

    @property
    def best(self) -> dict[str, Any] | None:
        """The configuration with the best score; None if a seed of every one failed."""
        at = self.results["best"]
        return None if at is None else cast(dict[str, Any], self.results["points"][at])

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Values and score of every configuration; ``pandas.DataFrame(found.rows)`` makes a table of them."""
        return [{**point["values"], self.results["score"]: point["score"]} for point in self.results["points"]]

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(width=160, color_system=None)
        with console.capture() as captured:
            console.print(sweep_table(self.results))
        return captured.get().rstrip()


def sweep(
    rule: str,
    over: Mapping[str, str | Sequence[Any]],
    *,
    data: str | None = None,
    model: str | None = None,
    seeds: int = 1,
    settings: Mapping[str, Any] | None = None,
    search: str | None = None,
    trials: int | None = None,
    together: int | None = None,
    study: str | None = None,
    storage: str | None = None,
    out: str | Path | None = None,
    **flags: Any,
) -> Sweep:
    """Train a rule with many settings, as ``neurai sweep`` does.

    Args:
        rule: name of the rule.
        over: by setting, its values: a list, or a text as for ``--over``, such as ``"log:0.01:1:16"``.
        data: name of a data set, as for ``--data``.
        model: the network, as for ``--model``.
        seeds: number of seeds of every configuration.
        settings: settings of the rule, or of another part as ``"optimizer.momentum"``, that stay the same.
        search: ``random`` or ``tpe``, to draw configurations with Optuna; None trains every combination of values.
        trials: number of configurations of a search; None for 30.
        together: number of configurations that a search draws at once; None for 8.
        study: name of the study of a search.
        storage: where the study is: ``journal:FILE``, or the URL of a database. None for the folder, or for memory.
        out: folder for the results; one that holds a part of the same sweep is continued. None writes nothing.
        **flags: further settings of all runs, such as ``epochs=2`` or ``batch_size=32``.

    Raises:
        UsageError: the parts do not fit together, or the folder holds something else; found before training.

    Example:
        >>> import neurai_core as neurai
        >>> found = neurai.sweep("bp", {"lr": [0.0001, 0.01]}, data="digits", model="mlp:8", epochs=1)
        >>> found.best["values"]
        {'lr': 0.01}
    """
    planned = planned_sweep(
        rule,
        over,
        {"data": data, "model": model, **flags},
        [f"{name}={text_of(value)}" for name, value in (settings or {}).items()],
        seeds=seeds,
        search=search,
        environ={},
        trials=trials,
        together=together,
        study=study,
        storage=storage,
    )
    if out is not None:
        return run(planned, Path(out))
    return Sweep(run_search(planned, Told()) if isinstance(planned, Search) else run_grid(planned, Told()), None)


def run(planned: Configurations | Search, out: Path | None = None, told: Told | None = None) -> Sweep:
    """Run a planned sweep in a folder, or continue it there.

    Args:
        planned: the settings.
        out: the folder; None for ``sweeps/<time>-<rule>-<data>``.
        told: functions to call on the way.

    Raises:
        OutputError: the folder holds something else, or cannot be written; raised before training.
        UsageError: the rule cannot take the model or the data; raised before anything is written.
    """
    told = told or Told()
    if isinstance(planned, Search):
        return Sweep(*run_search_in(out, planned, told))
    return Sweep(*run_grid_in(out, planned, told))
