"""`neurai.load_run`: a run that has ended, from its folder, in any process."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from neurai_core.arrays import PyTree
from neurai_core.data import Dataset
from neurai_core.errors import OutputError
from neurai_core.rule import Rule, model_state_of
from neurai_core.training.folders import settings_of
from neurai_core.training.predicting import Predictor
from neurai_core.training.record import CONFIG, read_metrics
from neurai_core.training.run import PARAMS, snapshot_of
from neurai_core.training.settings import Chosen
from neurai_core.training.task import Objects, prepare


@dataclass(frozen=True, eq=False)
class Run:
    """A run as its folder holds it; see `load_run`.

    Attributes:
        rule: the learning rule.
        model: the model.
        params: its trained parameters, in the model's own structure; of a run that is not finished, or whose loss was
            not finite, the last that were kept.
        state: the state of the rule, with the collections of the model (batch statistics).
        settings: what its ``config.toml`` says, without the record.
        record: what ``config.toml`` records: hashes of data and code, versions, how the machine computes.
        metrics: a dictionary per epoch; ``pandas.DataFrame(run.metrics)`` makes a table of them.
        folder: its folder.
    """

    rule: Rule
    model: Any
    params: PyTree = field(repr=False)
    state: PyTree = field(repr=False)
    settings: dict[str, Any] = field(repr=False)
    record: dict[str, Any] = field(repr=False)
    metrics: list[dict[str, Any]] = field(repr=False)
    folder: Path
    _predictor: Predictor = field(repr=False)

    def predict(self, x: Any) -> Any:
        """The outputs of the trained network for inputs x, (B, ...), by the rule's own prediction; see `load_run`."""
        return self._predictor(x)


def load_run(
    folder: str | Path,
    *,
    model: Any = None,
    params: PyTree = None,
    rule: Rule | None = None,
    trust: bool = False,
    say: Callable[[str], None] = lambda sentence: None,
) -> Run:
    """Load a run from its folder. Its data are not needed.

    Args:
        folder: the folder, as ``neurai train`` or ``neurai.fit(..., out=...)`` left it.
        model: the model, if `neurai.fit` got it as an object: a file cannot hold that.
        params: parameters of the same structure, for such a model that does not hold any itself.
        rule: the rule, if it was made by hand.
        trust: run code that the run names even if the file of the code has changed.
        say: called with a sentence about everything in the folder that is damaged and left out.

    Raises:
        OutputError: the folder holds no run, or one without saved parameters.
        DataError: the parameter file is damaged.
        ModelError: the model is not the one of the run.
        UsageError: the run needs an object that was not given, or names code whose file has changed.

    Example:
        >>> import tempfile, neurai_core as neurai
        >>> folder = Path(tempfile.mkdtemp(), "run")
        >>> fitted = neurai.fit("bp", "mlp:16", None, "digits", epochs=1, out=folder)
        >>> run = neurai.load_run(folder)  # in this or any other process
        >>> x = neurai.dataset("digits").x_test
        >>> bool((run.predict(x) == fitted.predict(x)).all()), run.settings["batch_size"], len(run.metrics)
        (True, 64, 1)
    """
    folder = Path(folder)
    given = {"model": model, "rule": rule}
    objects = ("data", "loss", "optimizer", *(name for name, value in given.items() if value is not None))
    chosen = settings_of(folder, say, trust=trust, objects=objects).on_one_device()
    if not (folder / PARAMS).is_file():
        raise OutputError(f"{folder} holds a run without {PARAMS}.", f"Finish it: neurai train --resume {folder}")
    task = prepare(chosen, Objects(rule=rule, model=model, params=params, data=_placeholder(chosen)))
    kept = snapshot_of(folder, task)
    content = tomllib.loads((folder / CONFIG).read_text(encoding="utf-8-sig"))
    return Run(
        rule=task.rule,
        model=task.model if model is None else model,
        params=task.join(kept.params, model_state_of(kept.state)),
        state=kept.state,
        settings={name: value for name, value in content.items() if name != "record"},
        record=content.get("record", {}),
        metrics=read_metrics(folder, say=say),
        folder=folder,
        _predictor=Predictor(task.rule, task.model, kept.params, kept.state, task.data.input_shape),
    )


def _placeholder(chosen: Chosen) -> Dataset | None:
    """Data of the recorded shapes, one batch of zeros that take no memory; None for a run that recorded none."""
    known = chosen.record.get("data")
    if known is None:
        return None
    x, y = (
        np.broadcast_to(np.zeros((), known[f"{name}_dtype"]), (chosen.settings.batch_size, *known[name]))
        for name in "xy"
    )
    classes = tuple(map(str, range(known["classes"]))) if "classes" in known else None
    return Dataset(chosen.settings.data, x, y, x[:0], y[:0], classes=classes)
