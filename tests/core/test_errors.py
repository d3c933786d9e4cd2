"""Errors: the tree, what they print, and that they survive pickling."""

from __future__ import annotations

import pickle

import pytest

from neurai_core import errors
from neurai_core.errors import (
    MissingExtra,
    NeurAIError,
    PluginError,
    TrainingError,
    UsageError,
    missing_extra,
)

EVERY = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, NeurAIError)]


def test_a_hint_is_the_second_line() -> None:
    assert str(NeurAIError("It is wrong.", "Do this.")) == "It is wrong.\nDo this."
    assert str(NeurAIError("It is wrong.")) == "It is wrong."


@pytest.mark.parametrize("error", EVERY)
def test_every_error_is_drawn_in_the_tree(error: type[NeurAIError]) -> None:
    assert errors.__doc__ is not None
    assert f" {error.__name__}" in errors.__doc__.replace("\n", " ")


@pytest.mark.parametrize("error", EVERY)
def test_exit_code_is_2_for_wrong_usage_and_1_for_failed_work(error: type[NeurAIError]) -> None:
    assert error.exit_code == (2 if issubclass(error, UsageError) else 1)


@pytest.mark.parametrize(
    "error",
    [
        *(one("message", "hint") for one in EVERY),
        PluginError("message", "hint", distribution="some-dist", step="import"),
        TrainingError("message", "hint", step=7),
    ],
)
def test_errors_survive_pickling(error: NeurAIError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert vars(copy) == vars(error)
    assert str(copy) == str(error)


def test_usage_errors_are_what_python_would_raise() -> None:
    assert issubclass(errors.UnknownName, LookupError)
    assert issubclass(errors.SettingsError, ValueError)
    assert issubclass(errors.TrainingError, RuntimeError)
    with pytest.raises(ImportError):
        raise missing_extra("equinox", "neurai[equinox]", "Adapter 'equinox'")


def test_a_missing_extra_names_the_pip_command() -> None:
    error = missing_extra("equinox", "neurai[equinox]", "Adapter 'equinox'")
    assert isinstance(error, MissingExtra)
    assert error.message == "Adapter 'equinox' needs 'equinox', which is not installed."
    assert error.hint == "python -m pip install 'neurai[equinox]'"
