"""The public functions for plugins: find by name, build, rebuild, list, and register your own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from neurai_core.errors import UsageError
from neurai_core.registry import REGISTRY, PluginStatus

if TYPE_CHECKING:
    from neurai_core.adapting import Adapter
    from neurai_core.data import Dataset
    from neurai_core.rule import Rule
    from neurai_core.specs import Origin, PluginSpec
    from neurai_core.surrogates import Surrogate


def names(kind: str, supports: str | None = None) -> tuple[str, ...]:
    """The names of a kind, sorted, without aliases; imports no plugin unless ``supports`` is given.

    Args:
        kind: ``algorithm``, ``surrogate``, ``adapter``, ``dataset`` or ``observer``; the plural also works.
        supports: only those whose spec has this claim or need, such as ``local``.

    Raises:
        UnknownName: there is no such kind.

    >>> "bp" in names("algorithm")
    True
    """
    return REGISTRY.names(kind, supports)


def spec(kind: str, name: str) -> PluginSpec:
    """The spec of a plugin; imports only that plugin, and not JAX.

    Args:
        kind: such as ``algorithm``.
        name: lookup name; ``pc@some-dist`` chooses among distributions.

    Raises:
        UnknownName: nothing has that name.
        DuplicateName: several distributions offer it.
        PluginError: its plugin is broken.

    >>> spec("algorithm", "bp").name
    'bp'
    """
    return REGISTRY.spec(kind, name)


def algorithm(
    name: str,
    *,
    loss: str | Callable[..., Any] = "cross_entropy",
    accuracy: str | Callable[..., Any] | None = None,
    has_aux: bool = False,
    **settings: Any,
) -> Rule:
    """Build a learning rule by name.

    Args:
        name: lookup name; ``pc@some-dist`` chooses among distributions.
        loss: name of a loss, or a callable ``(outputs, targets) -> scalar``.
        accuracy: name of an accuracy, or a callable like ``loss``; without one the rule reports -1.
        has_aux: the loss returns ``(scalar, aux)``, and ``aux`` is returned without being differentiated.
        **settings: the rule's own settings; ``neurai describe NAME`` lists them.

    Raises:
        UnknownName, DuplicateName, PluginError: the rule cannot be found or loaded.
        SettingsError: a setting is wrong.

    >>> algorithm("bp", loss="mse").origin.context["loss"]
    'mse'
    """
    REGISTRY.settings("algorithm", name, settings)  # before JAX is imported
    context, recorded = _algorithm_context(loss, accuracy, has_aux)
    built: Rule = REGISTRY.create("algorithm", name, context, settings, recorded)
    return built


def surrogate(name: str, **settings: Any) -> Surrogate:
    """Build a surrogate by name: a callable ``u -> spikes`` with a surrogate derivative.

    Args:
        name: lookup name.
        **settings: its settings, such as ``alpha=10.0``.

    Raises:
        UnknownName, DuplicateName, PluginError: it cannot be found or loaded.
        SettingsError: a setting is wrong.

    >>> float(surrogate("superspike")(0.5))
    1.0
    """
    built: Surrogate = REGISTRY.create("surrogate", name, settings=settings)
    return built


def adapter(name: str) -> Adapter:
    """Build the adapter of a library, by the name of the library's top-level module.

    Raises:
        UnknownName, DuplicateName, PluginError: it cannot be found or loaded.
        MissingExtra: the library is not installed.
    """
    built: Adapter = REGISTRY.create("adapter", name)
    return built


def dataset(name: str, **settings: Any) -> Dataset:
    """Load a data set by name; one that comes in batches is a `neurai_core.batched.BatchedData`.

    Args:
        name: lookup name, such as ``digits``.
        **settings: its settings, such as the folder of ``idx``.

    Raises:
        UnknownName, DuplicateName, PluginError: it cannot be found or loaded.
        SettingsError: a setting is wrong.
        DataError: its files are missing or broken.

    >>> dataset("digits").name
    'digits'
    """
    built: Dataset = REGISTRY.create("dataset", name, settings=settings)
    return built


def observer(name: str, **settings: Any) -> Any:
    """Build an observer by name, for `observe`.

    Args:
        name: lookup name, such as ``early-stopping``.
        **settings: its settings, such as ``patience=5``.

    Raises:
        UnknownName, DuplicateName, PluginError: it cannot be found or loaded.
        SettingsError: a setting is wrong.

    >>> with observe(observer("early-stopping", patience=5)):
    ...     pass  # train here
    """
    return REGISTRY.create("observer", name, settings=settings)


def rebuild(origin: Any, **changes: Any) -> Any:
    """Rebuild an object from its origin.

    Args:
        origin: an `Origin`, the JSON of one, or an object that carries one.
        **changes: settings to change; for an algorithm also ``loss``, ``accuracy`` and ``has_aux``.

    Raises:
        UsageError: there is no origin, or it was built with a loss or accuracy that has no name.
        UnknownName: its distribution is not installed; the hint says which it was.
        SettingsError: a setting was traced, so its value is not known.

    >>> rebuild(surrogate("superspike", alpha=10.0), alpha=5.0).origin.settings["alpha"]
    5.0
    """
    found = _as_origin(origin)
    if found.kind != "algorithm":
        return REGISTRY.rebuild(found, settings=changes)
    wanted = {key: changes.pop(key) if key in changes else _named(found, key) for key in found.context}
    context, recorded = _algorithm_context(**wanted)
    return REGISTRY.rebuild(found, context, changes, recorded)


def register(plugin: Any, *, replace: bool = False) -> PluginSpec:
    """Register a plugin object in this process, for notebooks; see `Registry.register`."""
    return REGISTRY.register(plugin, replace=replace)


def temporary(plugin: Any, *, replace: bool = False) -> AbstractContextManager[PluginSpec]:
    """Register a plugin object inside a ``with`` block; see `Registry.temporary`."""
    return REGISTRY.temporary(plugin, replace=replace)


def observe(observer: Any) -> AbstractContextManager[Any]:
    """Activate an observer inside a ``with`` block; see `Registry.observe`."""
    return REGISTRY.observe(observer)


def plugins(*, static: bool = False, isolate: bool = False) -> tuple[PluginStatus, ...]:
    """Every plugin with its distribution, version, status, failing step and hint; see `Registry.plugins`."""
    return REGISTRY.plugins(static=static, isolate=isolate)


def _algorithm_context(loss: Any, accuracy: Any, has_aux: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments of an algorithm besides settings, and how its origin records them."""
    from neurai_core.losses import accuracy_function, loss_function

    context = {"loss": loss_function(loss), "accuracy": accuracy_function(accuracy), "has_aux": has_aux}
    return context, {"loss": loss, "accuracy": accuracy, "has_aux": has_aux}


def _as_origin(given: Any) -> Origin:
    from pydantic import ValidationError

    from neurai_core.specs import Origin

    found = given if isinstance(given, Origin | str | bytes) else getattr(given, "origin", None)
    try:
        found = Origin.from_json(found) if isinstance(found, str | bytes) else found
    except ValidationError as error:
        raise UsageError("This is not the JSON of an origin.", "Origin.to_json writes it.") from error
    if not isinstance(found, Origin):
        raise UsageError(f"{given!r:.80} has no origin.", "Only objects built by the registry have one.")
    return found


def _named(origin: Origin, key: str) -> Any:
    value = origin.context[key]
    if isinstance(value, str) and ":" in value:
        raise UsageError(
            f"{origin.name!r} was built with {key} {value!r}, which has no name to find it by.",
            f"Pass it: rebuild(origin, {key}=...).",
        )
    return value
