"""The errors of NeurAI: one sentence that says what is wrong and where, and a hint.

```
NeurAIError(Exception)                  .message  .hint  .exit_code
├── UsageError(ValueError)              2: the caller can fix it
│   ├── UnknownName(LookupError)        no such name, kind or class
│   │   └── BlockedName                 installed, but switched off by the environment
│   ├── DuplicateName                   several distributions offer one name
│   ├── SettingsError                   a setting is unknown, out of range or of the wrong type
│   ├── ModelError                      a model, its parameters or a layer does not fit
│   ├── DataError                       shapes, labels, NaN, files
│   ├── MissingExtra(ImportError)       an optional dependency is not installed
│   └── OutputError                     an output folder cannot be used
├── PluginError                         1: .distribution  .step
└── TrainingError(RuntimeError)         1: .step

RisingEnergy(RuntimeWarning)            .change; a warning, not an error
```
"""

from __future__ import annotations

import math


class NeurAIError(Exception):
    """Base class of all NeurAI errors.

    Args:
        message: what was wrong and where, and what was expected.
        hint: what to do about it; empty if there is no advice.

    >>> print(NeurAIError("The batch is empty.", "At least one example is needed."))
    The batch is empty.
    At least one example is needed.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class UsageError(NeurAIError, ValueError):
    """The caller gave something invalid; the command line exits with 2."""

    exit_code = 2


class UnknownName(UsageError, LookupError):
    """Nothing has that name."""


class BlockedName(UnknownName):
    """The name is installed, but a switch in the environment blocks it."""


class DuplicateName(UsageError):
    """Several distributions offer one name and none was chosen."""


class SettingsError(UsageError):
    """A setting is unknown, missing, out of range or of the wrong type."""


class ModelError(UsageError):
    """A model, its parameters or one of its layers is not supported here."""


class DataError(UsageError):
    """Data of the wrong shape, type or range, or a file that cannot be read."""


class MissingExtra(UsageError, ImportError):
    """An optional dependency is not installed; the hint gives the pip command that installs it."""


class OutputError(UsageError):
    """An output folder cannot be written or already holds something else."""


class PluginError(NeurAIError):
    """A plugin failed.

    Args:
        message: what failed.
        hint: what to do about it.
        distribution: name of the distribution that holds the plugin.
        step: where it failed: requirements, import, register, spec, settings, build or call.
    """

    def __init__(self, message: str, hint: str = "", *, distribution: str = "", step: str = "") -> None:
        super().__init__(message, hint)
        self.distribution = distribution
        self.step = step


class TrainingError(NeurAIError, RuntimeError):
    """Training stopped.

    Args:
        message: why it stopped.
        hint: what to do about it.
        step: the step at which it stopped, counted from 0; None if there was none.
    """

    def __init__(self, message: str, hint: str = "", *, step: int | None = None) -> None:
        super().__init__(message, hint)
        self.step = step


class RisingEnergy(RuntimeWarning):
    """The energy rose while activities relaxed, so the result is meaningless.

    Args:
        change: by how much; NaN or infinite if the relaxation diverged or its inputs were not finite. It is not part
            of the message, because Python shows each message once per line of code.

    >>> RisingEnergy(0.5).change
    0.5
    """

    def __init__(self, change: float) -> None:
        if math.isfinite(change):
            what = (
                'The energy rises while relaxing (aux["energy_change"] of a rule): the steps are too large for these '
                "weights, and the gradients mean nothing."
            )
        else:
            what = (
                'The energy is not finite (aux["energy_change"] of a rule), and the gradients mean nothing: the '
                "inputs, targets or parameters hold NaN or infinity, or the steps are too large for these weights."
            )
        super().__init__(
            f"{what} Take smaller steps and more of them, by eta or dt and n; stable=True, where a rule has it, takes "
            "smaller ones by itself. A lower learning rate keeps weights small."
        )
        self.change = change


def missing_extra(module: str, requirement: str, purpose: str) -> MissingExtra:
    """The error for an optional dependency that is not installed.

    Args:
        module: name of the module that cannot be imported.
        requirement: what pip installs to get it, such as ``neurai[equinox]``.
        purpose: what needs it, as the subject of a sentence.

    >>> print(missing_extra("pooch", "neurai[download]", "Downloading fashion-mnist"))
    Downloading fashion-mnist needs 'pooch', which is not installed.
    python -m pip install 'neurai[download]'
    """
    return MissingExtra(
        f"{purpose} needs {module!r}, which is not installed.", f"python -m pip install '{requirement}'"
    )
