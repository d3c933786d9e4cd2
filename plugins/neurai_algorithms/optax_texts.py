"""Optax schedules and transformations as strings, so that settings can store, print and parse them.

``"cosine_decay_schedule(0.2, 20)"`` and ``"adam(1e-3, b1=0.8)"`` are calls of functions of optax with literal
arguments; ``"my_package.steps:halving"`` names an object of any module. Parsing a string never runs code in it:
only literals are allowed. Optax is imported only when a string is turned into an object.
"""

from __future__ import annotations

import ast
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
    """A call of a function of optax: its name and its arguments."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def parse(text: str) -> Call | None:
    """Parse a call; None for the ``"module:attribute"`` of an object.

    Raises:
        ValueError: it is neither.

    >>> parse("sgd(0.1, momentum=0.9)")
    Call(name='sgd', args=(0.1,), kwargs={'momentum': 0.9})
    """
    module, colon, attribute = text.partition(":")
    if colon and all(part.isidentifier() for part in (*module.split("."), *attribute.split("."))):
        return None
    try:
        return _call(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError):
        raise ValueError(
            f"{text!r} is neither a call of optax such as 'sgd(0.1, momentum=0.9)' nor a 'module:attribute'"
        ) from None


def _call(node: ast.expr) -> Call:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise ValueError
    args = tuple(ast.literal_eval(argument) for argument in node.args)
    kwargs = {argument.arg: ast.literal_eval(argument.value) for argument in node.keywords if argument.arg}
    return Call(node.func.id, args, kwargs)


def made(text: str) -> Any:
    """Make the object that a string describes.

    Raises:
        UnknownName: optax has no such function, or the module no such attribute.
        SettingsError: the function does not take these arguments.

    >>> round(float(made("exponential_decay(0.2, 1, 0.5)")(2)), 3)
    0.05
    """
    import optax

    call = parse(text)
    if call is None:
        return _imported(text)
    function = getattr(optax, call.name, None)
    if not callable(function):
        known = [name for name, value in vars(optax).items() if callable(value)]
        raise UnknownName(
            f"optax has no function named {call.name!r}.{did_you_mean(call.name, known)}",
            "Write a schedule such as 'cosine_decay_schedule(0.2, 20)' or a transformation such as 'adam(0.05)'.",
        )
    try:
        return function(*call.args, **call.kwargs)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"optax cannot make {text!r}: {error}", f"See help(optax.{call.name}).") from error


def _imported(text: str) -> Any:
    try:
        return resolve(text)
    except (ImportError, AttributeError) as error:
        raise UnknownName(f"Nothing can be imported from {text!r}: {error}.", "Give the object itself.") from error


def written(value: Any) -> Any:
    """How settings record a value: strings and numbers as they are, an object as its ``module:name``.

    >>> written(0.1), written(parse)
    (0.1, 'neurai_algorithms.optax_texts:parse')
    """
    if value is None or isinstance(value, str | int | float):
        return value
    named = value if hasattr(value, "__qualname__") else getattr(value, "update", type(value))
    named = named if hasattr(named, "__qualname__") else type(named)
    return f"{named.__module__}:{named.__qualname__}"
