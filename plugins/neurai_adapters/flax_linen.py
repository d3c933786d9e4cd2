"""Flax Linen models: any module as a callable; ``nn.Sequential`` in layers.

Parameters are the variables of ``model.init(key, x)``, ``{"params": ..., "batch_stats": ...}``, or what is
under ``"params"`` for a model without other collections; gradients come back in that structure, with zeros for
the collections. In layers every layer's params are what Linen made for it: ``{"kernel": (D_in, D_out),
"bias": ...}``.

Training or evaluation mode is passed as the argument ``train``, ``training``, ``is_training``, ``deterministic`` or
``use_running_average`` of ``__call__``, if there is one: to the model, and to every member of a sequence (a sequence
itself passes arguments to its first member only). Members pass it on to their own modules. In any case, evaluation
turns ``deterministic`` and ``use_running_average`` on in all modules inside, and training turns them off where they
were left unset. A key becomes the model's ``dropout`` stream, and a layer draws the same numbers from it as the module
does at its place in the model.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import flax
import flax.linen as nn
import jax
import numpy as np
from flax.core.scope import LazyRng

from neurai_adapters.conversion import MadeByLibrary, Path, Whole, no_key, path_text, remember
from neurai_adapters.naming import named_output
from neurai_adapters.sequences import (
    FLAGS,
    Affine,
    Unit,
    cannot_layer,
    chain,
    function_layer,
    merge_activations,
    module_name,
    name_of,
    structural,
    tied,
    told_of_training,
)
from neurai_core.adapting import Adapted
from neurai_core.arrays import PyTree
from neurai_core.errors import ModelError
from neurai_core.layered import Layer, Layered, linear_layer

LINEAR_MODULES = (nn.Dense, nn.DenseGeneral, nn.Einsum, nn.Conv, nn.ConvLocal, nn.ConvTranspose)
LINEAR_FUNCTIONS = frozenset([nn.avg_pool])
PARAMS_HINT = "Make them with variables = model.init(key, x), x one batch, and pass variables."
INIT_HINT = "Make them in Flax, variables = model.init(key, x), then as_layered(model, variables)."


def adapt(model: nn.Module, needs: str) -> Adapted:
    """Convert a Linen module to the form that a rule takes.

    Raises:
        ModelError: the module cannot be called, cannot be split into layers, or uses one module twice.
    """
    key = (needs, structure_of(model))
    seen, paths = remember(_SEEN, key, lambda: _see(model, needs), name_of(model))
    conversion = Conversion(seen, paths)
    return Adapted(seen, conversion.split, conversion.join)


_SEEN: dict[Hashable, tuple[Any, list[Path] | None]] = {}


# ---------------------------------------------------------------------------- structure of a module


def structure_of(value: Any) -> Hashable:
    """A module's settings in a form that compares and hashes, even if they hold lists, dicts and arrays.

    Initializers of Flax's own modules are left out: a forward pass does not use them.

    >>> structure_of(nn.Sequential([nn.Dense(2)])) == structure_of(nn.Sequential([nn.Dense(2)]))
    True
    """
    if isinstance(value, nn.Module):
        own = type(value).__module__.startswith("flax.")
        names = [n for n in _fields(type(value)) if not (own and n.endswith("_init"))]
        return type(value), tuple((n, structure_of(getattr(value, n))) for n in names)
    if isinstance(value, list | tuple):
        return tuple(map(structure_of, value))
    if isinstance(value, Mapping):
        return tuple(sorted((str(name), structure_of(item)) for name, item in value.items()))
    if isinstance(value, np.ndarray | jax.Array):
        return value.shape, str(value.dtype), np.asarray(value).tobytes()
    return structural(value) if callable(value) else value


def _field_names(cls: Any) -> tuple[str, ...]:
    return tuple(f.name for f in dataclasses.fields(cls) if f.name != "parent")


_fields: Callable[[Any], tuple[str, ...]] = lru_cache(maxsize=256)(_field_names)


def _modules(value: Any) -> Iterator[nn.Module]:
    """A module and the modules among its settings."""
    if isinstance(value, nn.Module):
        yield value
        value = [getattr(value, name) for name in _fields(type(value))]
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _modules(item)


# ---------------------------------------------------------------------------- a module as a pure function


@dataclass(frozen=True)
class Part:
    """A module as ``(params, model_state, x, *, key, train) -> (y, model_state)``, by its structure.

    Attributes:
        structure: what it compares by.
        path: names that lead to it in the user's model.
        module: the module.
    """

    structure: Hashable
    path: Path
    module: nn.Module = field(compare=False)

    @property
    def name(self) -> str:
        """The module's name in error messages."""
        return module_name(self.module)

    def __call__(
        self, params: PyTree, model_state: PyTree, x: PyTree, *, key: Any = None, train: bool = False
    ) -> tuple[PyTree, PyTree]:
        """One forward pass; raises ModelError when parameters, collections or a key are missing."""
        variables = {"params": params or {}, **(model_state or {})}
        mutable = list(model_state) if train and model_state else False
        try:
            with nn.intercept_methods(_mode(train, self._told)), nn.intercept_methods(_name):
                result = self.module.apply(variables, x, rngs=self._rngs(key, train), mutable=mutable)
        except flax.errors.InvalidRngError as error:
            raise no_key(self.name) from error
        except flax.errors.FlaxError as error:
            reason = str(error).split(" (https://")[0].splitlines()[0]
            raise ModelError(f"The parameters do not fit {self.name}: {reason}", hint=PARAMS_HINT) from error
        return result if mutable else (result, model_state)

    @cached_property
    def _told(self) -> frozenset[Path]:
        """Paths of the modules that get the training argument: the module itself, or the members of a sequence."""
        return frozenset(path for path, _ in _unrolled(self.module, ()))

    def _rngs(self, key: Any, train: bool) -> Any:
        """Random streams: others fall back on ``params``; a model that draws in evaluation gets a fixed key."""
        if key is None and train:
            return None
        # With its path folded in, a layer draws what it draws inside the whole model.
        stream = LazyRng.create(jax.random.key(0) if key is None else key, *self.path)
        return {"params": stream} if key is None else {"params": stream, "dropout": stream}


def _mode(train: bool, told: frozenset[Path]) -> Callable[..., Any]:
    """An interceptor that passes the mode to modules and sets the flags of every module inside.

    Args:
        train: whether in training.
        told: paths of the modules that get it as an argument.
    """

    def intercept(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        if context.method_name != "__call__":
            return call(*args, **kwargs)
        if module.path in told:
            kwargs = told_of_training(module, train) | kwargs
        flags = [flag for flag in FLAGS if flag in _fields(type(module))]
        if not flags:
            return call(*args, **kwargs)
        bound = inspect.signature(type(module).__call__).bind(module, *args, **kwargs)
        return _call_with_flags(call, module, bound, flags, train)

    return intercept


def _name(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
    """An interceptor that names the outputs of the modules inside; a sequence returns that of its last member."""
    output, module = call(*args, **kwargs), context.module
    inside = context.method_name == "__call__" and module.path and not _is_sequence(module)
    return named_output(output, path_text(module.path)) if inside else output


def _call_with_flags(call: Callable[..., Any], module: Any, bound: Any, flags: list[str], train: bool) -> Any:
    attributes = {flag: getattr(module, flag) for flag in flags}
    for flag, attribute in attributes.items():
        left_open = attribute is None and bound.arguments.get(flag) is None
        if not train or left_open:
            # Linen wants the flag as attribute or argument, never both; the module is this call's own copy.
            bound.arguments.pop(flag, None)
            object.__setattr__(module, flag, not train)
    try:
        return call(*bound.args[1:], **bound.kwargs)
    finally:
        for flag, attribute in attributes.items():
            object.__setattr__(module, flag, attribute)


def part_of(module: nn.Module, path: Path = ()) -> Part:
    """A module as a pure function; ``path`` leads to it in the user's model.

    Raises:
        ModelError: the module cannot be called.
    """
    if not callable(module):
        raise ModelError(f"The model {name_of(module)} has no __call__.", hint="Give it __call__(self, x) of a batch.")
    return Part(structure_of(module), path, module)


def _see(model: nn.Module, needs: str) -> tuple[Any, list[Path] | None]:
    if needs == "layered":
        return _layered(model)
    # Only init knows the collections of a compact module; Flax itself reports missing ones.
    part = part_of(model)
    return Whole(part, part.name, False, PARAMS_HINT), None


# ---------------------------------------------------------------------------- layers


def as_layer(member: Any, path: Path) -> Layer:
    """One member of a sequence as a layer, and its place in the sequence."""
    if not isinstance(member, nn.Module):
        return function_layer(member, LINEAR_FUNCTIONS)
    part = part_of(member, path)
    init = MadeByLibrary(INIT_HINT)
    if type(member) in LINEAR_MODULES:
        return linear_layer(init, Affine(part), "identity", part.name)
    inside = list(_modules(member))
    stateful = any(isinstance(module, nn.BatchNorm) for module in inside)
    stochastic = any(isinstance(module, nn.Dropout) and _draws(module) for module in inside)
    return Layer(init, part, name=part.name, stateful=stateful, stochastic=stochastic, finds_key=True)


def _draws(dropout: nn.Dropout) -> bool:
    return dropout.rate != 0 and not dropout.deterministic


def members_of(model: Any, path: Path = ()) -> list[tuple[Path, Any]]:
    """The members of a sequence and the names of their variables, sequences inside it unrolled.

    Raises:
        ModelError: the model has a forward pass of its own.
    """
    if not _is_sequence(model):
        raise cannot_layer(name_of(model), "an nn.Sequential")
    # Linen gives members these names even if they have others.
    found = [((*path, f"layers_{i}"), member) for i, member in enumerate(model.layers)]
    return [pair for at, member in found for pair in _unrolled(member, at)]


def _unrolled(member: Any, path: Path) -> list[tuple[Path, Any]]:
    return members_of(member, path) if _is_sequence(member) else [(path, member)]


def _is_sequence(model: Any) -> bool:
    return isinstance(model, nn.Sequential) and type(model).__call__ is nn.Sequential.__call__


def _layered(model: nn.Module) -> tuple[Layered, list[Path]]:
    members = members_of(model)
    layers = [as_layer(member, path) for path, member in members]
    _check_ties(model, members, layers)
    units = merge_activations(Unit(path, layer) for (path, _), layer in zip(members, layers, strict=True))
    return chain(units, name_of(model)), [unit.path for unit in units]


def _check_ties(model: nn.Module, members: list[tuple[Path, Any]], layers: list[Layer]) -> None:
    owner: dict[int, int] = {}
    for index, (_, member) in enumerate(members):
        for module in {id(module) for module in _modules(member)}:
            first = owner.setdefault(module, index)
            if first != index:
                names = [f"layers[{i}] ({layers[i].name})" for i in (first, index)]
                raise tied(name_of(model), names, "give each layer a module of its own: layer.clone()")


# ---------------------------------------------------------------------------- splitting and joining


class Conversion:
    """Splits variables into plain trees and joins them back to the form last split.

    Args:
        model: the adapted model.
        paths: names of every layer's variables; None for a model that is a single callable.
    """

    def __init__(self, model: Any, paths: list[Path] | None) -> None:
        self._model = model
        self._paths = paths
        self._bare = self._frozen = False

    def split(self, param: PyTree) -> tuple[PyTree, PyTree]:
        """``variables -> (params, model_state)``.

        Raises:
            ModelError: the parameters are not variables, or hold entries that no layer has.
        """
        if not isinstance(param, Mapping):
            given = type(param).__name__
            raise ModelError(f"The parameters are a {given}, expected the variables of a Linen model.", PARAMS_HINT)
        self._frozen = isinstance(param, flax.core.FrozenDict)
        variables: Any = flax.core.unfreeze(param) if isinstance(param, flax.core.FrozenDict) else param
        self._bare = "params" not in variables
        collections = {"params": variables} if self._bare else dict(variables)
        if self._paths is not None:
            return self._split_layers(collections, self._paths)
        params = collections.pop("params")
        return params, collections or ()

    def _split_layers(self, collections: dict[str, Any], paths: list[Path]) -> tuple[PyTree, PyTree]:
        for name, tree in collections.items():
            _check_names(tree, paths, (name,))
        params = tuple(_at(collections["params"], path) for path in paths)
        self._check_params(params)
        collections.pop("params")
        states = tuple(_state_at(collections, path) for path in paths)
        return params, states if any(state != () for state in states) else ()

    def _check_params(self, params: tuple[PyTree, ...]) -> None:
        for index, (layer, tree) in enumerate(zip(self._model.layers, params, strict=True)):
            if tree == () and isinstance(layer.linear, Affine):
                raise ModelError(f"Layer {index} ({layer.name}) has no parameters in the variables.", hint=PARAMS_HINT)

    def join(self, params: PyTree, model_state: PyTree) -> PyTree:
        """``(params, model_state)`` in the form last split."""
        if self._paths is not None:
            states = model_state if model_state != () else ((),) * len(self._paths)
            params, model_state = self._join_layers(params, states, self._paths)
        variables = params if self._bare else {"params": params, **(model_state or {})}
        return flax.core.freeze(variables) if self._frozen else variables

    def _join_layers(self, params: PyTree, states: PyTree, paths: list[Path]) -> tuple[PyTree, PyTree]:
        tree: dict[str, Any] = {}
        collections: dict[str, Any] = {}
        for path, layer_params, state in zip(paths, params, states, strict=True):
            if layer_params != ():
                _put(tree, path, layer_params)
            for name, layer_state in (state or {}).items():
                _put(collections.setdefault(name, {}), path, layer_state)
        return tree, collections


def _at(tree: Any, path: Path) -> Any:
    for name in path:
        tree = tree.get(name, ()) if isinstance(tree, Mapping) else ()
    return tree


def _state_at(collections: dict[str, Any], path: Path) -> Any:
    found = {name: _at(tree, path) for name, tree in collections.items()}
    return {name: tree for name, tree in found.items() if tree != ()} or ()


def _put(tree: dict[str, Any], path: Path, value: Any) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = value


def _check_names(tree: Any, paths: list[Path], at: Path) -> None:
    """Check that every name in the variables leads to a layer."""
    if () in paths:
        return
    for name, below in tree.items():
        rest = [path[1:] for path in paths if path and path[0] == name]
        if not rest:
            raise ModelError(
                f"The variables hold {path_text((*at, name))}, which belongs to no layer.",
                hint="Pass what this model's init made; functions that make modules inline cannot be layers.",
            )
        _check_names(below, rest, (*at, name))
