"""Settings in plain words: the values that each one takes, and errors in those given.

It reads settings classes and pydantic errors without importing pydantic, so it costs nothing until used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import itemgetter
from types import MappingProxyType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from neurai_core.errors import SettingsError
from neurai_core.naming import suggest

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic.fields import FieldInfo

    from neurai_core.specs import Config

TRACED = "traced"
_LONGEST = 80  # number of characters of a value that a message repeats
_BOUNDS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<=", "multiple_of": "multiple of"}


@dataclass(frozen=True)
class SettingRow:
    """One setting in words, for tables and messages.

    Attributes:
        name: keyword.
        type: the values that it takes, such as ``float`` or ``'strict' or 'fixed'``.
        default: repr of its default; empty if it is required.
        range: its bounds, such as ``> 0``; empty if it has none.
        description: its meaning, with its unit.
    """

    name: str
    type: str
    default: str
    range: str
    description: str

    def __str__(self) -> str:
        """The row on one line: ``eta: float > 0, default 0.1``."""
        takes = f"{self.type} {self.range}".rstrip()
        return f"{self.name}: {takes}, default {self.default}" if self.default else f"{self.name}: {takes}"


def describe_settings(config: type[Config]) -> tuple[SettingRow, ...]:
    """Every setting of a settings class, in the order in which it is written.

    >>> from pydantic import Field
    >>> from neurai_core.specs import Config
    >>> class SignConfig(Config):
    ...     scale: float = Field(0.02, gt=0, description="size of every gradient entry")
    >>> print(*describe_settings(SignConfig))
    scale: float > 0, default 0.02
    """
    return tuple(_row(name, field) for name, field in config.model_fields.items())


def validate_settings(config: type[Config], given: Mapping[str, Any], *, name: str, arrays: bool = False) -> Config:
    """Validate settings with their class.

    JAX scalars are accepted as floats, even while they are traced: bounds are checked if the value is known,
    and the scalar itself is kept.

    Args:
        config: the settings class.
        given: settings by keyword.
        name: whose settings they are, for the message.
        arrays: whether arrays and lists of numbers are accepted as floats; every element is checked.

    Raises:
        SettingsError: one line per invalid setting, with the values that it takes.
    """
    plain = {key: _plain(value) for key, value in given.items()}
    traced = {key: value for key, value in plain.items() if is_traced(value)}
    lines = [_refuse_traced(key) for key in traced if key in config.model_fields and not takes_float(config, key)]
    if lines:
        raise SettingsError("\n".join(lines), _hint(config, list(traced)))
    floats = {key: value for key, value in plain.items() if takes_float(config, key)}
    scalars = {key: value for key, value in floats.items() if _is_scalar(value)}
    many = {key: value for key, value in floats.items() if arrays and _is_many(value)}
    stand_ins = {key: _stand_in(config.model_fields[key], value) for key, value in scalars.items()}
    for choose in (min, max) if many else (min,):
        elements = {key: _element(config.model_fields[key], value, choose) for key, value in many.items()}
        places = {key: place for key, (place, _) in elements.items()}
        chosen = {key: number for key, (_, number) in elements.items()}
        filled = _validate(config, plain | stand_ins | chosen, name, places)
    return filled.model_copy(update=scalars | many) if scalars or many else filled


def recorded_settings(config: Config) -> dict[str, Any]:
    """The settings as JSON data, without those that have no meaning; a traced one reads ``traced``.

    Arrays are lists.
    """
    unused = set(config.unused())
    values = {name: getattr(config, name) for name in type(config).model_fields if name not in unused}
    floats = {name: value for name, value in values.items() if takes_float(type(config), name)}
    arrays = {name: value for name, value in floats.items() if _is_scalar(value) or _is_many(value)}
    plain = config.model_dump(mode="json", exclude={*arrays, *unused}, fallback=place_of)
    return plain | {name: _recorded(value) for name, value in arrays.items()}


def place_of(value: Any) -> str:
    """The place where a function, a class, or the class of any other object is defined: ``module:name``.

    >>> place_of(describe_settings)
    'neurai_core.explain:describe_settings'
    """
    named = value if hasattr(value, "__qualname__") and hasattr(value, "__module__") else type(value)
    return f"{named.__module__}:{named.__qualname__}"


def explain_errors(
    error: ValidationError,
    known: Iterable[str],
    owner: str,
    noun: str = "setting",
    places: Mapping[str, str] = MappingProxyType({}),
) -> list[str]:
    """Describe a pydantic error: one line per field, with the given value or the nearest valid name.

    Args:
        error: what pydantic raised.
        known: the names of all fields.
        owner: owner of the fields.
        noun: what a field is called.
        places: the checked element of fields that hold an array, such as ``[2]``.
    """
    return [_line(one, list(known), owner, noun, places) for one in error.errors(include_url=False)]


def is_traced(value: Any) -> bool:
    """Whether a value is a traced JAX scalar, judged by its behavior (without importing JAX)."""
    if not _is_scalar(value):
        return False
    try:
        float(value)
    except TypeError:  # raised by JAX for the number behind a tracer
        return True
    return False


def takes_float(config: type[Config], key: str) -> bool:
    """Whether a setting is a float, so that a JAX scalar is accepted."""
    field = config.model_fields.get(key)
    return field is not None and float in (field.annotation, *get_args(field.annotation))


def _validate(config: type[Config], values: dict[str, Any], name: str, places: Mapping[str, str]) -> Config:
    from pydantic import ValidationError

    try:
        return config.model_validate(values)
    except ValidationError as error:
        lines = explain_errors(error, config.model_fields, repr(name), places=places)
        fields = [str(one["loc"][0]) for one in error.errors(include_url=False) if one["loc"]]
        raise SettingsError("\n".join(lines), _hint(config, fields)) from error


def _line(one: Mapping[str, Any], known: list[str], owner: str, noun: str, places: Mapping[str, str]) -> str:
    where = ".".join(map(str, one["loc"])) or owner
    if one["type"] == "extra_forbidden":
        nearest = suggest(where, known)
        return f"{where}: not a {noun} of {owner}" + (f"; did you mean {nearest!r}?" if nearest else "")
    if one["type"] == "missing":
        return f"{where}: must be given"
    message = one["msg"].removeprefix("Value error, ")
    if not one["loc"]:
        return f"{where}: {message}"  # about several settings; the input is all of them
    return f"{where}{places.get(where, '')}: {message[:1].lower()}{message[1:]} (got {_short(one['input'])})"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _hint(config: type[Config], fields: list[str]) -> str:
    rows = {row.name: row for row in describe_settings(config)}
    if not rows:
        return "It has no settings."
    if all(field in rows for field in fields) and fields:
        return "\n".join(f"{rows[field]}{_meaning(rows[field])}" for field in dict.fromkeys(fields))
    return f"Settings: {'; '.join(map(str, rows.values()))}."


def _meaning(row: SettingRow) -> str:
    return f" ({row.description})" if row.description else ""


def _row(name: str, field: FieldInfo) -> SettingRow:
    default = "" if field.is_required() else _default(field)
    return SettingRow(name, _type(field.annotation), default, _range(field), field.description or "")


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True, validated_data={})
    return repr(getattr(value, "value", value))


def _type(annotation: Any) -> str:
    origin, members = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(map(repr, members))
    if members and (origin is Union or origin is UnionType):
        return " or ".join(map(_type, members))
    if hasattr(annotation, "__members__"):
        return " or ".join(repr(member.value) for member in annotation)
    if annotation is type(None):
        return "None"
    return (
        annotation.__name__ if isinstance(annotation, type) and not members else str(annotation).replace("typing.", "")
    )


def _range(field: FieldInfo) -> str:
    bounds = _bounds(field)
    return ", ".join(f"{sign} {_number(bounds[key])}" for key, sign in _BOUNDS.items() if key in bounds)


def _number(value: Any) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


def _bounds(field: FieldInfo) -> dict[str, Any]:
    found = ((key, getattr(one, key, None)) for one in field.metadata for key in _BOUNDS)
    return {key: value for key, value in found if value is not None}


def _is_scalar(value: Any) -> bool:
    return getattr(value, "shape", None) == () and hasattr(value, "dtype") and not _is_numpy(value)


def _is_numpy(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "numpy"


def _plain(value: Any) -> Any:
    """A NumPy number as a Python number."""
    return value.item() if _is_numpy(value) and getattr(value, "shape", None) == () else value


def _refuse_traced(key: str) -> str:
    return f"{key}: takes a Python value (got a traced one): it decides what is compiled"


def _stand_in(field: FieldInfo, value: Any) -> Any:
    """A number to validate in place of a JAX scalar: its value if known, otherwise a valid one."""
    return _fitting(field) if is_traced(value) else value.item()


def _fitting(field: FieldInfo) -> Any:
    """A valid number for a field."""
    if isinstance(field.default, float | int):
        return field.default
    bounds = _bounds(field)
    low, high = bounds.get("gt", bounds.get("ge")), bounds.get("lt", bounds.get("le"))
    if low is not None and high is not None:
        return (low + high) / 2
    return low + 1.0 if low is not None else high - 1.0 if high is not None else 1.0


# ---------------------------------------------------------------------------- arrays


def _is_many(value: Any) -> bool:
    """Whether a value is a JAX or NumPy array of numbers with at least one axis, or a nested list of them."""
    if not hasattr(value, "dtype"):
        return bool(_nested_shape(value))
    kind = str(getattr(value.dtype, "name", ""))
    return value.shape != () and ("float" in kind or "int" in kind)


def _nested_shape(value: Any) -> tuple[int, ...] | None:
    """The shape of nested lists of numbers, () for a number, and None for anything that is not an array."""
    if not isinstance(value, list | tuple):
        return () if isinstance(value, float | int) and not isinstance(value, bool) else None
    inner = {_nested_shape(one) for one in value}
    (first, *others) = inner or {None}
    return None if first is None or others else (len(value), *first)


def _element(field: FieldInfo, value: Any, choose: Callable[..., Any]) -> tuple[str, Any]:
    """The element of an array to check, and its place: a NaN if there is one, else the choice of ``choose``."""
    listed = _listed(value)
    elements = [] if listed == TRACED else list(_elements(listed))
    missing = [one for one in elements if one[1] != one[1]]
    if not elements:
        return "", _fitting(field)
    found: tuple[str, Any] = missing[0] if missing else choose(elements, key=itemgetter(1))
    return found


def _elements(values: list[Any] | tuple[Any, ...], place: str = "") -> Iterator[tuple[str, Any]]:
    for index, one in enumerate(values):
        at = f"{place}[{index}]"
        yield from _elements(one, at) if isinstance(one, list | tuple) else [(at, one)]


def _listed(value: Any) -> Any:
    """An array as nested lists, or ``traced``; lists unchanged."""
    if isinstance(value, list | tuple):
        return value
    try:
        return value.__array__().tolist()
    except TypeError:  # raised by JAX for the numbers behind a tracer
        return TRACED


def _recorded(value: Any) -> Any:
    if _is_many(value):
        return _listed(value)
    return TRACED if is_traced(value) else float(value)
