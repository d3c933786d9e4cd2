"""Flax NNX models: any module as a callable; ``nnx.Sequential`` in layers.

Parameters are ``nnx.state(model, nnx.Param)``, its pure dict, or the module itself; gradients come back in
that structure, for a module as an ``nnx.State``, as from ``nnx.grad``. Batch statistics and other Variables
are taken from the parameters if these hold them, ``nnx.state(model, (nnx.Param, nnx.BatchStat))``, and
otherwise from the module; the module itself is never changed. Internally, everything is a plain dict: a State as
an argument of a compiled function costs three times as much. In layers every layer's params are a dict of
the library's own leaves: ``{"kernel": (D_in, D_out), "bias": (D_out,)}``.

In training a module runs in the mode in which it was given, otherwise as after ``model.eval()``. If the ``__call__`` of
a model, or of a member of a sequence, has an argument ``train``, ``training``, ``is_training``, ``deterministic`` or
``use_running_average``, the mode is passed to it as well. The random streams restart from the key of the call, as after
``nnx.reseed``, so that a fixed key gives a fixed dropout mask; a layer draws what it draws inside the whole model.
"""

from __future__ import annotations

import inspect
import operator
import weakref
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from neurai_adapters.conversion import (
    Layout,
    MadeByLibrary,
    Path,
    Plan,
    Whole,
    gather,
    leaves_by_path,
    no_key,
    path_text,
    remember,
    scatter,
)
from neurai_adapters.naming import is_naming, name_outputs
from neurai_adapters.sequences import (
    Affine,
    Unit,
    cannot_layer,
    chain,
    function_layer,
    merge_activations,
    module_name,
    name_of,
    place_of,
    tied,
    told_of_training,
)
from neurai_core.adapting import Adapted
from neurai_core.arrays import PyTree
from neurai_core.errors import ModelError
from neurai_core.layered import Layer, linear_layer, no_params

LINEAR_MODULES = (nnx.Linear, nnx.LinearGeneral, nnx.Einsum, nnx.Conv, nnx.ConvTranspose)
LINEAR_FUNCTIONS = frozenset([nnx.avg_pool])
PARAMS_HINT = (
    "Pass nnx.state(model, nnx.Param) or its pure dict; with batch statistics "
    "nnx.state(model, (nnx.Param, nnx.BatchStat))."
)
STATE_HINT = "Take it from split or as_layered: layered, params, model_state = as_layered(model)."
INIT_HINT = "Make the model in Flax and take them from it: layered, params, model_state = as_layered(model)."


def own_params(model: nnx.Module) -> Any:
    """The Params of a module."""
    return nnx.state(model, nnx.Param)


def adapt(model: nnx.Module, needs: str) -> Adapted:
    """Convert an NNX module to the form that a rule takes.

    Raises:
        ModelError: the module cannot be called, cannot be split into layers, or ties weights between layers.
    """
    seen = _look_at(model)
    plan = seen.plans.get(needs)
    if plan is None:
        plan = remember(_PLANS, (needs, seen.graphdef), lambda: _plan(model, needs), name_of(model))
        seen.plans[needs] = plan
    conversion = Conversion(plan, seen)
    return Adapted(plan.model, conversion.split, conversion.join)


_PLANS: dict[Hashable, Plan] = {}


# ---------------------------------------------------------------------------- structure of a module


class _Seen(NamedTuple):
    """The result of splitting a module: valid as long as its parts are the same objects."""

    parts: list[Any]
    graphdef: Any
    params: list[Any]
    treedef: Any
    carried: dict[Path, Any]
    plans: dict[str, Plan]


_SEEN: dict[int, tuple[weakref.ref[Any], _Seen]] = {}


def _look_at(model: nnx.Module) -> _Seen:
    """Split a module, or recognize it: walking over its parts costs a tenth of splitting."""
    parts = _parts(model)
    reference, seen = _SEEN.get(id(model), (None, None))
    if reference is not None and seen is not None and reference() is model and _same(parts, seen.parts):
        return seen
    graphdef, *states = nnx.split(model, nnx.Param, nnx.RngState, ...)
    params = [_variable(model, path) for path in leaves_by_path(states[0])]
    carried = {path: _variable(model, path) for path in leaves_by_path(states[-1])}
    seen = _Seen(parts, graphdef, params, jax.tree.structure(states[0]), carried, {})
    key = id(model)
    _SEEN[key] = weakref.ref(model, lambda _: _SEEN.pop(key, None)), seen
    return seen


def _same(a: list[Any], b: list[Any]) -> bool:
    return len(a) == len(b) and all(map(operator.is_, a, b))


def _parts(root: Any) -> list[Any]:
    """The root's parts, attribute by attribute: modules, containers, Variables and settings."""
    parts: list[Any] = []
    entered = {id(root)}
    pending: list[Any] = [root]
    while pending:
        for value in _values(pending.pop()):
            # A part that leads back to the root must not keep it alive.
            parts.append(None if value is root else value)
            if isinstance(value, _CONTAINERS) and id(value) not in entered:
                entered.add(id(value))
                pending.append(value)
    return parts


_NODE = getattr(nnx, "Pytree", None) or nnx.Object
_CONTAINERS = (_NODE, list, tuple, dict)


def _values(node: Any) -> Any:
    if isinstance(node, list | tuple):
        return node
    return (node if isinstance(node, dict) else vars(node)).values()


def _variable(model: nnx.Module, path: Path) -> Any:
    node: Any = model
    for key in path:
        node = node[key] if isinstance(key, int) or isinstance(node, Mapping) else getattr(node, key)
    return node


# ---------------------------------------------------------------------------- a module as a pure function

_Names = tuple[tuple[str, Path], ...]


@dataclass(frozen=True)
class Part:
    """A module as ``(params, model_state, x, *, key, train) -> (y, model_state)``.

    Compares by the structure of the module: graph, settings and functions, not the arrays.

    Attributes:
        name: the module's name in error messages.
        graphdef: its structure.
        params: name and path of every parameter.
        carried: the same of every other array.
        keys: path of every random stream's key, and the stream's number in the whole model.
        counts: paths of the streams' counts.
        takes_rngs: whether the module has no streams of its own and is handed one.
        drawn_before: how often earlier layers draw from the one it is handed.
    """

    name: str
    graphdef: Any
    params: _Names
    carried: _Names
    keys: tuple[tuple[Path, int], ...]
    counts: tuple[Path, ...]
    takes_rngs: bool
    drawn_before: int = 0

    def module(self, params: PyTree, model_state: PyTree, key: Any) -> Any:
        """The module with these arrays and fresh random streams."""
        values = {path: params[name] for name, path in self.params}
        values.update({path: model_state[name] for name, path in self.carried})
        values.update({path: jax.random.fold_in(key, number) for path, number in self.keys})
        values.update({path: jnp.zeros((), jnp.uint32) for path in self.counts})
        # Without the copy, a forward pass would write into the Variables it was given as collections.
        return nnx.merge(self.graphdef, _nested(values), copy=True)

    def __call__(
        self, params: PyTree, model_state: PyTree, x: PyTree, *, key: Any = None, train: bool = False
    ) -> tuple[PyTree, PyTree]:
        """One forward pass of a batch; raises ModelError when dropout lacks its key."""
        module = self.module(params, model_state, jax.random.key(0) if key is None else key)
        if not train:
            module.eval()
        if is_naming():
            name_outputs(_named_modules(module))
        before = _values_at(module, self.counts)
        y = _forward(module, (x,), {}, train, self._rngs(key))
        if train and key is None and not _same(before, _values_at(module, self.counts)):
            raise no_key(self.name)
        updated = _values_at(module, tuple(path for _, path in self.carried))
        return y, {name: value for (name, _), value in zip(self.carried, updated, strict=True)} or ()

    def _rngs(self, key: Any) -> Any:
        if key is None or not self.takes_rngs:
            return None
        rngs = nnx.Rngs(key)
        rngs.default.count.set_value(jnp.uint32(self.drawn_before))
        return rngs


def _named_modules(root: Any) -> list[tuple[str, Any]]:
    """The callable modules inside, without sequences, which return what their last member returns."""
    inside = [(path, module) for path, module in nnx.iter_modules(root) if path and callable(module)]
    return [(path_text(path), module) for path, module in inside if not _is_sequence(module)]


def _forward(module: Any, args: Any, kwargs: Any, train: bool, rngs: Any) -> Any:
    """``module(*args, **kwargs)``; a sequence passes the mode to every member, not only the first one."""
    if _is_sequence(module) and len(module.layers):
        for member in module.layers:
            y = _forward(member, args, kwargs, train, rngs)
            args, kwargs = ((), y) if isinstance(y, dict) else (y if isinstance(y, tuple) else (y,), {})
        return y
    told = told_of_training(module, train) if isinstance(module, nnx.Module) else {}
    handed = {"rngs": rngs} if rngs is not None and _takes_rngs(module) else {}
    return module(*args, **told, **handed, **kwargs)


def _nested(values: Mapping[Path, Any]) -> dict[Any, Any]:
    tree: dict[Any, Any] = {}
    for path, value in values.items():
        node = tree
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = value
    return tree


def _values_at(module: Any, paths: tuple[Path, ...]) -> list[Any]:
    return [_value(_variable(module, path)) for path in paths]


def _value(variable: Any) -> Any:
    return jax.tree.leaves(variable)[0]


class Draws(NamedTuple):
    """How a member of a model draws random numbers: see `Part`."""

    numbers: Mapping[Path, int]
    takes_rngs: bool
    before: int = 0


def draws_of(model: nnx.Module) -> Draws:
    """How a whole model draws."""
    numbers = {path: number for number, path in enumerate(leaves_by_path(nnx.state(model, nnx.RngKey)))}
    return Draws(numbers, not numbers and _takes_rngs(model))


def part_of(module: nnx.Module, draws: Draws) -> Part:
    """The structure of a module.

    Raises:
        ModelError: the module cannot be called.
    """
    if not callable(module):
        raise ModelError(f"The model {name_of(module)} has no __call__.", hint="Give it __call__(self, x) of a batch.")
    graphdef, *states = nnx.split(module, nnx.Param, nnx.RngKey, nnx.RngState, ...)
    params, keys, counts, carried = (tuple(leaves_by_path(state)) for state in states)
    return Part(
        name=module_name(module),
        graphdef=graphdef,
        params=tuple((path_text(path), path) for path in params),
        carried=tuple((path_text(path), path) for path in carried),
        keys=tuple((path, draws.numbers[path]) for path in keys),
        counts=counts,
        takes_rngs=draws.takes_rngs and _takes_rngs(module),
        drawn_before=draws.before,
    )


def _takes_rngs(module: Any) -> bool:
    # A sequence passes them on; since Flax 0.12.12 its signature no longer shows it.
    if _is_sequence(module):
        return True
    call = type(module).__call__ if isinstance(module, nnx.Module) else module
    try:
        return "rngs" in inspect.signature(call).parameters
    except (TypeError, ValueError):  # functions without a signature
        return False


# ---------------------------------------------------------------------------- layers


def as_layer(member: Any, draws: Draws) -> Layer:
    """One member of a sequence as a layer."""
    if not isinstance(member, nnx.Module):
        return function_layer(member, LINEAR_FUNCTIONS)
    part = part_of(member, draws)
    init = MadeByLibrary(INIT_HINT) if part.params or part.carried else no_params
    if type(member) in LINEAR_MODULES:
        return linear_layer(init, Affine(part), "identity", part.name)
    stochastic = bool(part.keys) or part.takes_rngs
    return Layer(init, part, name=part.name, stateful=bool(part.carried), stochastic=stochastic, finds_key=True)


def members_of(model: Any, path: Path = ()) -> list[tuple[Path, Any]]:
    """The members of a sequence and where they are, sequences inside it unrolled.

    Raises:
        ModelError: the model has a forward pass of its own.
    """
    if not _is_sequence(model):
        raise cannot_layer(name_of(model), "an nnx.Sequential")
    found = [((*path, "layers", i), member) for i, member in enumerate(model.layers)]
    return [pair for at, member in found for pair in _unrolled(member, at)]


def _unrolled(member: Any, path: Path) -> list[tuple[Path, Any]]:
    return members_of(member, path) if _is_sequence(member) else [(path, member)]


def _is_sequence(model: Any) -> bool:
    return isinstance(model, nnx.Sequential) and type(model).__call__ is nnx.Sequential.__call__


def _check_ties(model: Any, members: list[tuple[Path, Any]], layers: list[Layer]) -> None:
    owner: dict[int, int] = {}
    for index, (_, member) in enumerate(members):
        parts = _parts(member) if isinstance(member, _NODE) else []
        for variable in {id(part) for part in parts if isinstance(part, nnx.Param)}:
            first = owner.setdefault(variable, index)
            if first != index:
                names = [f"layers[{i}] ({layers[i].name})" for i in (first, index)]
                raise tied(name_of(model), names, "give each layer Variables of its own: nnx.clone(layer)")


def _check_streams(model: Any, members: list[tuple[Path, Any]]) -> None:
    owner: dict[int, int] = {}
    for index, (_, member) in enumerate(members):
        parts = _parts(member) if isinstance(member, _NODE) else []
        for stream in {id(part) for part in parts if isinstance(part, nnx.RngKey)}:
            first = owner.setdefault(stream, index)
            if first != index:
                names = " and ".join(f"layers[{i}] ({name_of(members[i][1])})" for i in (first, index))
                raise ModelError(
                    f"The model {name_of(model)} has a random stream in two layers: {names} draw from it in turn, and "
                    "a rule that works layer by layer cannot tell whose turn it is.",
                    hint="Give each layer a stream of its own, such as rngs.dropout.fork().",
                )


def _draws_of(model: Any, members: list[tuple[Path, Any]]) -> list[Draws]:
    """How every member draws the numbers that it draws inside the model.

    Raises:
        ModelError: the members draw in turn from one stream, and the number of draws of one of them is not known.
    """
    whole, before, found = draws_of(model), 0, []
    for index, (path, member) in enumerate(members):
        numbers = {at[len(path) :]: n for at, n in whole.numbers.items() if at[: len(path)] == path}
        found.append(Draws(numbers, whole.takes_rngs, before))
        if whole.takes_rngs and _takes_rngs(member):
            if type(member) is not nnx.Dropout and any(_takes_rngs(later) for _, later in members[index + 1 :]):
                raise ModelError(
                    f"layers[{index}] ({name_of(member)}) draws random numbers, and so do layers after it, all from "
                    "the one stream that they are handed.",
                    hint="Give them streams of their own: pass rngs where they are made.",
                )
            before += type(member) is nnx.Dropout and not member.deterministic and 0 < member.rate < 1
    return found


# ---------------------------------------------------------------------------- plans


def _plan(model: nnx.Module, needs: str) -> Plan:
    if needs != "layered":
        part = part_of(model, draws_of(model))
        return _plan_of(model, Whole(part, part.name, bool(part.carried), STATE_HINT), [()])
    members = members_of(model)
    _check_streams(model, members)
    layers = [as_layer(member, draws) for (_, member), draws in zip(members, _draws_of(model, members), strict=True)]
    _check_ties(model, members, layers)
    paths = [path for path, _ in members]
    units = merge_activations(map(Unit, paths, layers))
    return _plan_of(model, chain(units, name_of(model)), [unit.path for unit in units])


def _plan_of(model: nnx.Module, seen: Any, layers: list[Path]) -> Plan:
    _, *states = nnx.split(model, nnx.Param, nnx.RngState, ...)
    name = name_of(model)
    return Plan(
        model=seen,
        params={path: place_of(path, layers, name) for path in leaves_by_path(states[0])},
        carried={path: place_of(path, layers, name) for path in leaves_by_path(states[-1])},
        fixed=frozenset(),
        sections=len(layers),
        hint=PARAMS_HINT,
    )


# ---------------------------------------------------------------------------- splitting and joining


class Conversion:
    """Splits Params into plain dicts and joins them back to the form last split.

    Args:
        plan: where every leaf goes.
        seen: the module that was adapted; its batch statistics are used if the parameters have none.
    """

    def __init__(self, plan: Plan, seen: _Seen) -> None:
        self._plan = plan
        self._seen = seen
        self._form: tuple[Layout, Any] | None = None

    def split(self, param: PyTree) -> tuple[PyTree, PyTree]:
        """``param -> (params, model_state)``.

        Raises:
            ModelError: the structure does not fit the model.
        """
        if isinstance(param, nnx.Module):
            self._seen = _look_at(param)
            leaves, treedef = list(map(_value, self._seen.params)), self._seen.treedef
        else:
            leaves, treedef = jax.tree.flatten(param)
        layout = self._plan.layout(leaves, treedef)
        self._form = layout, treedef
        params = self._plan.as_given(gather(layout.params, leaves))
        return params, self._plan.model_state(self._carried(gather(layout.carried, leaves)))

    def _carried(self, given: tuple[PyTree, ...]) -> tuple[PyTree, ...]:
        own: list[dict[str, Any]] = [{} for _ in given]
        for path, (layer, name) in self._plan.carried.items():
            own[layer][name] = _value(self._seen.carried[path])
        return tuple({**mine, **(other or {})} or () for mine, other in zip(own, given, strict=True))

    def join(self, params: PyTree, model_state: PyTree) -> PyTree:
        """``(params, model_state)`` in the form last split.

        Raises:
            ModelError: nothing was split yet.
        """
        if self._form is None:
            raise ModelError("Nothing was split yet, so there is no form to join to.", hint="Call split(params) first.")
        layout, treedef = self._form
        leaves: list[Any] = [None] * treedef.num_leaves
        scatter(layout.params, self._plan.sections_of(params), leaves)
        scatter(layout.carried, self._plan.state_sections(model_state), leaves)
        return jax.tree.unflatten(treedef, leaves)
