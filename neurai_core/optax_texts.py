"""Optax schedules and transformations as strings, so that settings can store, print and parse them.

``"cosine_decay_schedule(0.2, 20)"`` and ``"chain(clip(1.0), adam(1e-3, b1=0.8))"`` are calls of functions of optax,
whose arguments are literals and further calls; ``"my_package.steps:halving"`` names an object of any module. Parsing a
string never runs code in it. Optax is imported only when a string is turned into an object.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

from neurai_core.errors import SettingsError, UnknownName
from neurai_core.naming import did_you_mean
from neurai_core.plugin import resolve


@runtime_checkable
class Transformation(Protocol):
    """Anything with the two functions of an ``optax.GradientTransformation``."""

    init: Any
    update: Any


class Call(NamedTuple):
    """A call of a function of optax: its name and its arguments, which may be calls or hold some."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def parse(text: str) -> Call | None:
    """Parse a call; None for the ``"module:attribute"`` of an object.

    Raises:
        ValueError: it is neither.

    >>> parse("sgd(0.1, momentum=0.9)")
    Call(name='sgd', args=(0.1,), kwargs={'momentum': 0.9})
    >>> parse("chain(clip(1.0), sgd(0.1))").args[0]
    Call(name='clip', args=(1.0,), kwargs={})
    """
    module, colon, attribute = text.partition(":")
    if colon and all(part.isidentifier() for part in (*module.split("."), *attribute.split("."))):
        return None
    try:
        return _call(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        raise ValueError(
            f"{text!r:.200} is neither a call of optax such as 'sgd(0.1, momentum=0.9)' nor a 'module:attribute'"
        ) from None


def _call(node: ast.expr) -> Call:
    if not isinstance(node, ast.Call):
        raise ValueError
    name = ast.unparse(node.func).removeprefix("optax.").removeprefix("contrib.")
    keys = [argument.arg for argument in node.keywords]
    if not name.isidentifier() or None in keys or len({*keys}) < len(keys):
        raise ValueError
    return Call(name, tuple(map(_value, node.args)), {str(one.arg): _value(one.value) for one in node.keywords})


def _value(node: ast.expr) -> Any:
    """An argument: a call, a list, tuple or dictionary of arguments, or a literal."""
    if isinstance(node, ast.Call):
        return _call(node)
    if isinstance(node, ast.List | ast.Tuple):
        values = map(_value, node.elts)
        return [*values] if isinstance(node, ast.List) else (*values,)
    if isinstance(node, ast.Dict) and None not in node.keys:
        return {ast.literal_eval(key or ""): _value(value) for key, value in zip(node.keys, node.values, strict=True)}
    return ast.literal_eval(node)


def made(text: str, **usual: Any) -> Any:
    """Make the object that a string describes.

    Args:
        text: such as ``"adam(1e-3)"``.
        **usual: arguments for all functions in it that take them and are called without them, such as
            ``learning_rate=0.1``.

    Raises:
        UnknownName: optax has no such function, or the module no such attribute.
        SettingsError: the function does not take these arguments.

    >>> round(float(made("exponential_decay(0.2, 1, 0.5)")(2)), 3)
    0.05
    >>> made("chain(clip_by_global_norm(1.0), sgd(momentum=0.9))", learning_rate=0.1).init is not None
    True
    """
    call = parse(text)
    if call is None:
        return _imported(text)
    return _result(call, usual)


def lacks(text: str, argument: str) -> bool:
    """Whether a function in a string takes an argument and is called without it.

    >>> lacks("chain(clip(1.0), sgd(momentum=0.9))", "learning_rate"), lacks("sgd(0.1)", "learning_rate")
    (True, False)
    """
    call = parse(text)
    return call is not None and any(_lacks(one, function_of(one.name), argument) for one in _calls(call))


def functions() -> dict[str, Callable[..., Any]]:
    """Everything that can be called in a string, by name: the functions of optax and of optax.contrib.

    >>> {"adam", "chain", "cosine_decay_schedule", "muon"} <= set(functions())
    True
    """
    import optax

    return {
        name: value
        for home in (optax.contrib, optax)
        for name, value in sorted(vars(home).items())
        if name[0].islower() and callable(value)
    }


def function_of(name: str) -> Callable[..., Any]:
    """The function of optax with this name.

    Raises:
        UnknownName: there is none.
    """
    known = functions()
    if name not in known:
        raise UnknownName(
            f"optax has no function named {name!r}.{did_you_mean(name, known)}",
            "Write a schedule such as 'cosine_decay_schedule(0.2, 20)' or a transformation such as 'adam(0.05)'.",
        )
    return known[name]


def _calls(value: Any) -> Iterator[Call]:
    """All calls in an argument."""
    if isinstance(value, Call):
        yield value
        value = [*value.args, *value.kwargs.values()]
    if isinstance(value, list | tuple | dict):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _calls(one)


def _result(value: Any, usual: dict[str, Any]) -> Any:
    """The value of an argument, with its calls carried out."""
    if isinstance(value, Call):
        return _called(value, usual)
    if isinstance(value, dict):
        return {key: _result(one, usual) for key, one in value.items()}
    return type(value)(_result(one, usual) for one in value) if isinstance(value, list | tuple) else value


def _called(call: Call, usual: dict[str, Any]) -> Any:
    function = function_of(call.name)
    _check_names(call, function)
    kwargs = {key: value for key, value in usual.items() if _lacks(call, function, key)}
    kwargs |= {key: _result(value, usual) for key, value in call.kwargs.items()}
    args = [_result(value, usual) for value in call.args]
    try:
        return function(*args, **kwargs)
    except Exception as error:  # optax checks its arguments in many ways
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise SettingsError(
            f"optax cannot make {_text(call)!r:.200}: {reason}.", f"See help(optax.{call.name})."
        ) from error


def _lacks(call: Call, function: Callable[..., Any], argument: str) -> bool:
    names = list(inspect.signature(function).parameters)
    return argument in names[len(call.args) :] and argument not in call.kwargs


def _check_names(call: Call, function: Callable[..., Any]) -> None:
    known = inspect.signature(function).parameters
    if any(one.kind is one.VAR_KEYWORD for one in known.values()):
        return
    for key in call.kwargs:
        if key not in known:
            raise SettingsError(
                f"{key}: not an argument of {call.name} of optax.{did_you_mean(key, known)}",
                f"It takes: {', '.join(known)}.",
            )


def _text(value: Any) -> str:
    """A call as it is written."""
    if not isinstance(value, Call):
        return repr(value)
    named = [f"{key}={_text(one)}" for key, one in value.kwargs.items()]
    return f"{value.name}({', '.join([*map(_text, value.args), *named])})"


def _imported(text: str) -> Any:
    try:
        return resolve(text)
    except (ImportError, AttributeError) as error:
        raise UnknownName(f"Nothing can be imported from {text!r}: {error}.", "Give the object itself.") from error


def written(value: Any) -> Any:
    """How settings record a value: strings and numbers as they are, an object as its ``module:name``.

    >>> written(0.1), written(parse)
    (0.1, 'neurai_core.optax_texts:parse')
    """
    if value is None or isinstance(value, str | int | float):
        return value
    named = value if hasattr(value, "__qualname__") else getattr(value, "update", type(value))
    named = named if hasattr(named, "__qualname__") else type(named)
    return f"{named.__module__}:{named.__qualname__}"
