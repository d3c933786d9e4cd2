"""Chains of layers from the elements of a user's sequence: which functions are elementwise, and which merge.

An elementwise function right after a layer that is linear becomes that layer's activation: a local rule
then sees the layers of the papers, "linear, then elementwise". Every other element is a layer of its own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from neurai_adapters.conversion import Path, path_text
from neurai_core.arrays import PyTree
from neurai_core.errors import ModelError
from neurai_core.layered import (
    ACTIVATIONS,
    Layer,
    Layered,
    LinearThenElementwise,
    Stateless,
    identity,
    linear_layer,
    no_params,
)

_JAX_NN = """
    celu elu gelu hard_sigmoid hard_silu hard_tanh identity leaky_relu log_sigmoid mish relu relu6 selu sigmoid
    silu soft_sign softplus squareplus tanh
"""
ELEMENTWISE = frozenset(
    [getattr(jax.nn, name) for name in _JAX_NN.split() if hasattr(jax.nn, name)]
    + [jnp.tanh, jax.lax.tanh, jax.lax.logistic, *ACTIVATIONS.values()]
)
IDENTITIES = frozenset([identity, jax.nn.identity])
TRAIN_NAMES = ("train", "training", "is_training")
FLAGS = ("deterministic", "use_running_average")


def told_of_training(module: Any, train: bool) -> dict[str, bool]:
    """The arguments of a Flax module's ``__call__`` that say whether it is trained.

    If the module also has the flag as an attribute, the attribute decides, unless it is None.
    """
    names = inspect.signature(type(module).__call__).parameters
    told = {name: train for name in TRAIN_NAMES if name in names}
    return told | {name: not train for name in FLAGS if name in names and getattr(module, name, None) is None}


@dataclass(frozen=True)
class Bound:
    """A `functools.partial` that compares by structure."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    settings: tuple[tuple[str, Any], ...]

    def __call__(self, x: Any) -> Any:
        """The function at x with its bound arguments."""
        return self.function(*self.args, x, **dict(self.settings))

    @property
    def __name__(self) -> str:
        return str(getattr(self.function, "__name__", "function"))


def structural(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with partials in a form that compares by structure where their arguments hash.

    >>> structural(partial(jnp.sum, axis=0)) == structural(partial(jnp.sum, axis=0))
    True
    """
    if not isinstance(function, partial):
        return function
    bound = Bound(function.func, function.args, tuple(sorted(function.keywords.items())))
    return bound if _hashes(bound) else function


def _hashes(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def is_one_of(function: Callable[..., Any], known: frozenset[Any]) -> bool:
    """Whether a function, or the one whose keywords a partial binds, is among the known ones."""
    base = function.function if isinstance(function, Bound) and not function.args else function
    return _hashes(base) and base in known


def name_of(function: Any) -> str:
    """The name of a function or module in error messages."""
    return str(getattr(function, "__name__", type(function).__name__))


def module_name(module: Any) -> str:
    """The class of a module with the number of its outputs, such as ``Linear(10)``."""
    sizes = (getattr(module, attribute, None) for attribute in ("out_features", "out_channels", "features"))
    size = next((size for size in sizes if isinstance(size, int)), None)
    return name_of(module) if size is None else f"{name_of(module)}({size})"


def pass_through(params: PyTree, x: jax.Array) -> jax.Array:
    """The linear half of a layer that is only an activation."""
    return x


def activation_layer(function: Callable[[jax.Array], jax.Array]) -> Layer:
    """An elementwise function as a layer of its own.

    >>> activation_layer(jax.nn.relu).name
    'relu'
    """
    return linear_layer(no_params, pass_through, function, name_of(function))


@dataclass(frozen=True)
class Applied:
    """A plain function of a batch as ``(params, x) -> y``."""

    function: Callable[[Any], Any]

    def __call__(self, params: PyTree, x: PyTree) -> PyTree:
        """``function(x)``."""
        return self.function(x)


@dataclass(frozen=True)
class Affine:
    """The affine map of a module: ``(params, x) -> y`` on a batch.

    Attributes:
        part: ``(params, model_state, x) -> (y, model_state)``, affine in x.
    """

    part: Any

    def __call__(self, params: PyTree, x: PyTree) -> PyTree:
        """``(B, ...) -> (B, ...)``."""
        return self.part(params, (), x)[0]


def function_layer(function: Callable[..., Any], linear: frozenset[Any]) -> Layer:
    """A plain function of a batch as a layer; ``linear`` are the functions known to be linear.

    >>> function_layer(jnp.ravel, frozenset([jnp.ravel])).linear is not None
    True
    """
    function = structural(function)
    if is_one_of(function, ELEMENTWISE):
        return activation_layer(function)
    applied = Applied(function)
    if is_one_of(function, linear):
        return linear_layer(no_params, applied, "identity", name_of(function))
    return Layer(no_params, Stateless(applied), name=name_of(function))


class Unit(NamedTuple):
    """A layer and where its parameters are in the user's model."""

    path: Path
    layer: Layer


def merge_activations(units: Iterable[Unit]) -> list[Unit]:
    """Merge every activation that follows a linear layer into that layer."""
    merged: list[Unit] = []
    for unit in units:
        if merged and _takes_activation(merged[-1].layer) and unit.layer.linear is pass_through:
            merged[-1] = Unit(merged[-1].path, _with_activation(merged[-1].layer, unit.layer))
        else:
            merged.append(unit)
    return merged


def _takes_activation(layer: Layer) -> bool:
    return layer.linear not in (None, pass_through) and layer.activation in IDENTITIES


def _with_activation(layer: Layer, activation: Layer) -> Layer:
    assert layer.linear is not None and activation.activation is not None
    apply = LinearThenElementwise(layer.linear, activation.activation)
    return replace(layer, apply=apply, activation=activation.activation, name=f"{layer.name} + {activation.name}")


def chain(units: list[Unit], name: str) -> Layered:
    """The layers of a user's sequence.

    Raises:
        ModelError: the sequence is empty.
    """
    if not units:
        raise ModelError(f"The model {name} has no layers.", hint="Give it at least one.")
    return Layered(tuple(unit.layer for unit in units))


def place_of(path: Path, layers: list[Path], name: str) -> tuple[int, str]:
    """The layer that a leaf of the model belongs to, and its name there.

    Raises:
        ModelError: the model has arrays outside its layers.
    """
    for index, layer in enumerate(layers):
        if path[: len(layer)] == layer:
            return index, path_text(path[len(layer) :])
    raise ModelError(
        f"The model {name} has an array outside its layers: {path_text(path)}.",
        hint="Move it into one of the layers, or use a rule that takes any callable, such as bp.",
    )


def tied(name: str, layers: list[str], instead: str) -> ModelError:
    """The error for weights in two layers at once, which would be trained as two copies."""
    return ModelError(
        f"The model {name} has tied weights: {' and '.join(layers)} share an array, and a rule that works "
        "layer by layer would train two copies of it.",
        hint=f"Use a rule that takes any callable, such as bp; or {instead}.",
    )


def cannot_layer(name: str, sequences: str) -> ModelError:
    """The error for a model whose forward pass is arbitrary code."""
    return ModelError(
        f"The model {name} cannot be split into layers: its __call__ is code of its own.",
        hint=f"Write it as {sequences}, with a module of its own for every part that is not a chain (it counts "
        "as one layer); or use a rule that takes any callable, such as bp.",
    )
