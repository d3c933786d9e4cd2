"""Adapters: conversion of a user's model to the form that a rule takes, and back.

An adapter is a plugin of kind ``adapter`` whose name is the top-level module that the model's class comes from.
It converts a model once to plain pytrees; adapted models compare by structure, so adapting again does not retrace.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple, cast

from neurai_core.arrays import PyTree, Shape
from neurai_core.errors import ModelError
from neurai_core.layered import Layered, Variables, forward
from neurai_core.naming import canonical


class Adapted(NamedTuple):
    """A user's model as a rule sees it.

    Attributes:
        model: a `Layered`, or a callable ``model(params, x)``, with ``apply(params, model_state, x, *, key, train)``
            like a `Layered`'s if it carries state. Compares and hashes by structure.
        split: ``(the user's params) -> (params, model_state)``; cheap, because it is called for every batch.
        join: ``(tree of the structure of params, model_state) -> the user's structure``.
    """

    model: Any
    split: Callable[[PyTree], tuple[PyTree, PyTree]]
    join: Callable[[PyTree, PyTree], PyTree]


class Example(NamedTuple):
    """A small model of a library, and the library's own training pass: what an adapter is checked with.

    Attributes:
        model: the model.
        params: its parameters and collections, in the structure that ``split`` takes.
        x: a batch of inputs.
        training: ``(params, loss) -> (value, grads, updated)`` by the library alone, where ``loss(outputs)`` is a
            scalar: gradients in the structure of ``params``, zeros for collections, and the parameters with the
            collections that the pass has updated.
        layered: whether the model can be split into layers.
    """

    model: Any
    params: PyTree
    x: Any
    training: Callable[[PyTree, Callable[[Any], Any]], tuple[Any, PyTree, PyTree]]
    layered: bool = True


class Adapter(NamedTuple):
    """The object that an adapter plugin builds.

    Attributes:
        adapt: ``(model, *, needs, input_shape=None) -> Adapted``; ``needs`` is ``"callable"`` or ``"layered"``,
            ``input_shape`` the shape of one example for libraries that infer shapes late. Raises a ModelError
            that names the layer that cannot be converted and what to do instead.
        params: ``model -> params``: the model's own parameters, in the structure that ``split`` takes; None when
            the library keeps them outside the model.
        naming: opens a context in which the modules inside a model name their outputs, each by its path, with
            `neurai_core.network.activity`; None for libraries without modules.
        examples: makes one `Example` for every entry of ``models`` in the spec, under that name, and any others, for
            `neurai_core.testing.check_adapter`.
    """

    adapt: Callable[..., Adapted]
    params: Callable[[Any], PyTree | None]
    naming: Callable[[], AbstractContextManager[Any]] | None = None
    examples: Callable[[], Mapping[str, Example]] | None = None


class Wrapper:
    """A wrapper around a model that takes the parameters of the model inside.

    Attributes:
        model: the model inside.
    """

    model: Any

    def adapted(self, inner: Adapted) -> Adapted:
        """The wrapper as a rule sees it, given the model inside as a callable."""
        raise NotImplementedError


def adapt(model: Any, *, needs: str = "callable", input_shape: Shape | None = None) -> Adapted:
    """Convert a user's model to the form that a rule takes.

    Args:
        model: a `Layered`, any callable ``model(params, x)``, or a model of a library with an adapter.
        needs: ``"callable"``, ``"layered"``, or ``"network"`` (layers if the model can be split into them, else a
            callable with named values), from the rule's spec.
        input_shape: shape of one example, for libraries that infer shapes late.

    Raises:
        ModelError: a rule needs layers and the model is one opaque callable, or it is not a model.

    Example:
        >>> import jax.numpy as jnp
        >>> adapted = adapt(lambda params, x: x @ params)
        >>> params, model_state = adapted.split(jnp.ones((2, 1)))
        >>> adapted.model(params, jnp.ones((3, 2))).shape
        (3, 1)
    """
    if isinstance(model, Layered):
        return Adapted(model, _split_variables, _join_variables)
    if needs == "network":
        return _as_network(model, input_shape)
    if isinstance(model, Wrapper) and needs == "callable":
        return model.adapted(adapt(model.model, input_shape=input_shape))
    adapter = find_adapter(model)
    if adapter is not None:
        return adapter.adapt(model, needs=needs, input_shape=input_shape)
    if callable(model) and needs == "callable":
        return Adapted(model, _split_plain, _join_plain)
    raise ModelError(_no_layers(model), hint=_LAYERS_HINT)


def _as_network(model: Any, input_shape: Shape | None) -> Adapted:
    """Layers if a model can be split into them and its values were not named; else a callable."""
    if isinstance(model, Wrapper):
        return adapt(model, input_shape=input_shape)
    try:
        return adapt(model, needs="layered", input_shape=input_shape)
    except ModelError as error:
        adapted = adapt(model, input_shape=input_shape)
        return adapted if find_adapter(model) is None else adapted._replace(model=Undivided(adapted.model, error))


@dataclass(frozen=True)
class Undivided:
    """A model of a library that cannot be split into layers.

    Attributes:
        model: the adapted model, a callable.
        reason: why it cannot.
    """

    model: Any
    reason: ModelError = field(compare=False)

    def __call__(self, params: PyTree, x: PyTree) -> PyTree:
        """The outputs for a batch of inputs."""
        return self.model(params, x)

    def apply(self, params: PyTree, model_state: PyTree, x: PyTree, **settings: Any) -> tuple[PyTree, PyTree]:
        """One forward pass: ``(outputs, model_state)``."""
        return forward(self.model, params, x, model_state=model_state, **settings)


def as_layered(
    model: Any, params: PyTree = None, *, input_shape: Shape | None = None
) -> tuple[Layered, PyTree, PyTree]:
    """Split a user's model into layers.

    Args:
        model: a `Layered` or a model of a library with an adapter.
        params: its parameters in the library's own structure; None takes those inside the model.
        input_shape: shape of one example, for libraries that infer shapes late.

    Returns:
        ``(layered, params, model_state)`` with params a tuple, one plain pytree per layer.

    Raises:
        ModelError: the model cannot be split into layers, or it keeps no parameters and none were given.

    Example:
        >>> import jax, neurai_core as neurai
        >>> mlp = neurai.models.mlp((4, 3, 2))
        >>> params, _ = mlp.init(jax.random.key(0), (4,))
        >>> layered, params, model_state = as_layered(mlp, params)
        >>> len(layered), model_state
        (2, ())
    """
    adapted = adapt(model, needs="layered", input_shape=input_shape)
    if params is None:
        params = own_params(model)
    if params is None:
        raise ModelError(
            f"A {type(model).__name__} keeps its parameters separately, and none were given.",
            hint="Pass them: as_layered(model, params).",
        )
    return (adapted.model, *adapted.split(params))


def own_params(model: Any) -> PyTree | None:
    """The parameters that a model of a library keeps inside itself; None for a model that keeps none."""
    if isinstance(model, Wrapper):
        return own_params(model.model)
    adapter = None if isinstance(model, Layered) else find_adapter(model)
    return None if adapter is None else adapter.params(model)


def find_adapter(model: Any) -> Adapter | None:
    """The adapter of the library that a model's class comes from; None when no plugin offers one."""
    from neurai_core.registry import REGISTRY

    return _adapter_of(cast(Hashable, type(model)), REGISTRY.changes)


@lru_cache(maxsize=1024)
def _adapter_of(cls: Any, changes: int) -> Adapter | None:
    """Look up an adapter once per class, because finding a name costs more than a small training step."""
    from neurai_core.registry import REGISTRY

    known = set(map(canonical, REGISTRY.names("adapter")))
    for base in cls.__mro__:
        library = base.__module__.partition(".")[0]
        if canonical(library) in known:
            return cast(Adapter, REGISTRY.create("adapter", library))
    return None


def _no_layers(model: Any) -> str:
    kind = getattr(model, "__name__", None) or type(model).__name__
    if not callable(model):
        return f"The model is a {kind}, expected a Layered, a callable model(params, x) or a model of a known library."
    return f"The rule needs a model in layers, and {kind} is one opaque callable."


_LAYERS_HINT = (
    "Build it from layers, e.g. Layered((function(first, init=first_init), dense(10))), or use a rule that takes any "
    "callable, such as those that `neurai rules` lists with needs = callable."
)


def _split_variables(params: PyTree) -> tuple[PyTree, PyTree]:
    return (params.params, params.model_state) if isinstance(params, Variables) else (params, ())


def _join_variables(params: PyTree, model_state: PyTree) -> PyTree:
    return Variables(params, model_state) if model_state != () else params


def _split_plain(params: PyTree) -> tuple[PyTree, PyTree]:
    return params, ()


def _join_plain(params: PyTree, model_state: PyTree) -> PyTree:
    return params
