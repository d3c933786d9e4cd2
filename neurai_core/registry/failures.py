"""Error messages for failed plugins: what failed in which step, and what to do about it."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable

import pluggy
from pydantic import ValidationError

from neurai_core.errors import PluginError
from neurai_core.explain import explain_errors
from neurai_core.hookspecs import ObserverHooks, PluginHooks
from neurai_core.naming import did_you_mean, suggest
from neurai_core.registry.entries import CORE, IN_PROCESS, Entry
from neurai_core.registry.scan import damaged_by
from neurai_core.specs import PluginSpec


class Refused(Exception):
    """An error raised by a check here; printed without the name of this class."""


def failure(entry: Entry, step: str, error: BaseException) -> PluginError:
    """The error for a plugin that failed in a step, or for another distribution that caused the failure."""
    culprit = damaged_by(error)
    if culprit is not None:
        message = f"Plugin {entry} cannot be used: {culprit}."
        wrapped = PluginError(message, culprit.hint, distribution=culprit.distribution, step=step)
    elif _imports_jax(error):
        message = f"Plugin {entry} cannot be used, because JAX cannot be imported: {_words(error)}"
        wrapped = PluginError(message, "Install JAX again.", distribution="jax", step=step)
    else:
        message = f"Plugin {entry} failed at step {step!r}: {_words(error)}"
        wrapped = PluginError(message, _hint(entry, step, error), distribution=entry.distribution, step=step)
    wrapped.__cause__ = error
    return wrapped


def place(error: BaseException, function: Callable[..., object]) -> str:
    """File and line where a function of a plugin failed: the innermost frame of the plugin's own package."""
    package = str(getattr(function, "__module__", "")).partition(".")[0]
    frames = list(traceback.walk_tb(error.__traceback__))
    frames = frames[1:] or frames
    own = [one for one in frames if str(one[0].f_globals.get("__name__")).partition(".")[0] == package]
    frame, line = (own or frames)[-1]
    return f"{frame.f_code.co_filename}, line {line}"


def _imports_jax(error: BaseException) -> bool:
    """Whether JAX failed while it was being imported."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") == "jax" for frame in frames)


def again(error: PluginError) -> PluginError:
    """A copy of a recorded failure to raise, with its cause and without earlier tracebacks."""
    copy = PluginError(error.message, error.hint, distribution=error.distribution, step=error.step)
    copy.__cause__ = error.__cause__
    return copy


def _words(error: BaseException) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(explain_errors(error, PluginSpec.model_fields, error.title, "field")) + "."
    text = " ".join(str(error).split())
    if isinstance(error, Refused):
        return f"{text}."
    return f"{type(error).__name__}: {text}." if text else f"{type(error).__name__}."


def _hint(entry: Entry, step: str, error: BaseException) -> str:
    if entry.distribution == IN_PROCESS or entry.builtin or entry.editable:
        return _remedy(entry, step, error)
    return f"{_remedy(entry, step, error)} NEURAI_BLOCK={entry.distribution} hides it.".lstrip()


def _remedy(entry: Entry, step: str, error: BaseException) -> str:
    if step == "requirements":
        return f"Install a version of {entry.distribution} made for this {CORE}, or the {CORE} it asks for."
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"Install what provides {error.name.partition('.')[0]!r}."
    if isinstance(error, SystemExit):
        return "Its code calls sys.exit; that belongs in a main function."
    if isinstance(error, AttributeError) and step == "import" and entry.value:
        return f"Its entry point says {entry.value!r}; check the part after the colon."
    if isinstance(error, pluggy.PluginValidationError):
        return _hook_remedy(str(error))
    if step == "spec" and isinstance(error, ValidationError):
        return "Correct the fields of its spec."
    if entry.editable:
        return f"Correct it in {entry.editable}, from where {entry.distribution} is installed as editable."
    return "Correct it where it is defined." if entry.distribution == IN_PROCESS else "Report it to its authors."


def _hook_remedy(text: str) -> str:
    hooks = {**hook_names(PluginHooks), **hook_names(ObserverHooks)}
    unknown = re.search(r"unknown hook '(\w+)'", text)
    nearest = did_you_mean(unknown[1], hooks) if unknown else ""
    named = re.search(r"for hook '(\w+)'", text)
    shown = [named[1]] if named else [suggest(unknown[1], hooks) or ""] if unknown else []
    return f"{nearest} {' '.join(f'The hook is {one}{hooks[one]}.' for one in shown if one in hooks)}".strip()


def hook_names(hooks: type) -> dict[str, str]:
    """The hooks of a specification with their arguments, as plugin authors write them."""
    functions = {name: value for name, value in vars(hooks).items() if name.startswith("neurai_")}
    arguments = {name: value.__code__.co_varnames[1 : value.__code__.co_argcount] for name, value in functions.items()}
    return {name: f"({', '.join(names)})" for name, names in arguments.items()}
