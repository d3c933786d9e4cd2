"""One call for every error class that raises it, for the catalogue on the page of errors."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np

import neurai_core as neurai
from neurai_core import errors
from neurai_core.data import check_batch
from neurai_core.plugin import Plugin
from neurai_core.specs import AlgorithmSpec
from neurai_core.surrogates import custom
from neurai_core.training.checkpoint import save
from neurai_core.training.loop import NotFinite


def blocked() -> None:
    """A name that the environment blocks."""
    before = os.environ.get("NEURAI_BLOCK", "")
    os.environ["NEURAI_BLOCK"] = "pc"
    try:
        neurai.algorithm("pc")
    finally:
        os.environ["NEURAI_BLOCK"] = before


def taken() -> None:
    """A name that is taken."""
    neurai.register(Plugin(AlgorithmSpec(name="bp", summary="Another one."), "my_rules:build"))


def broken() -> None:
    """A plugin that fails while it is built."""
    with neurai.temporary(Plugin(AlgorithmSpec(name="my-rule", summary="Broken."), lambda config, **_: 1 / 0)):
        neurai.algorithm("my-rule")


def without_folder() -> None:
    """A folder where a file is."""
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        Path("taken").write_text("")
        save(Path("taken/params.safetensors"), {"w": np.zeros(1)})


def missing() -> None:
    """A library that is not installed."""
    raise errors.missing_extra("pooch", "neurai[download]", "Downloading fashion-mnist")


def not_finite() -> None:
    """A loss that is NaN."""
    raise NotFinite("training", 12, None)


EXAMPLES: dict[type[errors.NeurAIError], Callable[[], Any]] = {
    errors.UsageError: custom,
    errors.UnknownName: lambda: neurai.algorithm("bpp"),
    errors.BlockedName: blocked,
    errors.DuplicateName: taken,
    errors.SettingsError: lambda: neurai.surrogate("superspike", beta=2.0),
    errors.ModelError: lambda: neurai.adapt(3.0),
    errors.DataError: lambda: check_batch(np.zeros((2, 3)), np.array([0, 4]), n_classes=3),
    errors.MissingExtra: missing,
    errors.OutputError: without_folder,
    errors.PluginError: broken,
    errors.TrainingError: not_finite,
}
