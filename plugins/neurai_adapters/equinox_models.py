"""Equinox models: any module as a callable; ``eqx.nn.Sequential`` and ``eqx.nn.MLP`` in layers.

Parameters are the model's inexact arrays, as for ``eqx.filter_grad``: pass the model itself or
``eqx.filter(model, eqx.is_inexact_array)``, and for a model with batch statistics the pair that
``eqx.nn.make_with_state`` returns. Gradients come back in that structure, None where there is nothing to
differentiate. In layers every layer's params are a dict of the library's own leaves,
``{"weight": (D_out, D_in), "bias": (D_out,)}``.

Equinox modules take one example; the bridge adds the batch axis in front and keeps the layout of the
library, so images are ``(B, C, H, W)``. In training a module runs in the mode in which it was given, otherwise in
inference mode.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from neurai_adapters.conversion import (
    Layout,
    MadeByLibrary,
    Path,
    Plan,
    Whole,
    gather,
    leaves_by_path,
    remember,
    scatter,
)
from neurai_adapters.equinox_examples import examples
from neurai_adapters.equinox_parts import BUFFER, PARAM, Mark, Part, Place, mark, part_of, state_of
from neurai_adapters.naming import naming
from neurai_adapters.sequences import (
    ELEMENTWISE,
    Affine,
    Unit,
    activation_layer,
    cannot_layer,
    chain,
    is_one_of,
    merge_activations,
    name_of,
    place_of,
    structural,
    tied,
)
from neurai_core.adapting import Adapted, Adapter
from neurai_core.arrays import PyTree, Shape
from neurai_core.errors import ModelError
from neurai_core.layered import Layer, linear_layer, no_params
from neurai_core.specs import Config

LINEAR_MODULES = (
    eqx.nn.Linear,
    eqx.nn.Identity,
    *(
        getattr(eqx.nn, f"{kind}{d}d")
        for kind in ("Conv", "ConvTranspose", "AvgPool", "AdaptiveAvgPool")
        for d in (1, 2, 3)
    ),
    eqx.nn.Conv,
    eqx.nn.ConvTranspose,
)
LINEAR_FUNCTIONS = frozenset([jnp.ravel])
MLP_IDENTITY = inspect.signature(eqx.nn.MLP.__init__).parameters["final_activation"].default
PARAMS_HINT = "Pass the model itself or eqx.filter(model, eqx.is_inexact_array)."
STATE_HINT = "Make both with model, state = eqx.nn.make_with_state(Model)(...) and pass param=(model, state)."
INIT_HINT = "Make the model in Equinox and take them from it: layered, params, model_state = as_layered(model)."


def build(config: Config, **context: Any) -> Adapter:
    """The bridge to Equinox.

    Args:
        config: has no settings.
        **context: not used.
    """
    return Adapter(adapt, own_params, naming, examples)


def own_params(model: eqx.Module) -> PyTree:
    """The inexact arrays of a model, None elsewhere."""
    return eqx.filter(model, eqx.is_inexact_array)


def adapt(model: eqx.Module, *, needs: str = "callable", input_shape: Shape | None = None) -> Adapted:
    """Convert an Equinox model to the form that a rule takes.

    Args:
        model: any module that can be called; for ``needs="layered"`` a `Sequential` or an `MLP`.
        needs: ``"callable"`` or ``"layered"``.
        input_shape: not used; Equinox models know their shapes.

    Raises:
        ModelError: the model cannot be called, cannot be split into layers, or ties weights between layers.

    Example:
        >>> model = eqx.nn.MLP(4, 3, width_size=8, depth=1, key=jax.random.key(0))
        >>> adapted = adapt(model, needs="layered")
        >>> params, model_state = adapted.split(model)
        >>> [sorted(layer) for layer in params], adapted.model(params, jnp.ones((5, 4))).shape
        ([['bias', 'weight'], ['bias', 'weight']], (5, 3))
    """
    leaves, treedef = jax.tree.flatten(model)
    key = (needs, treedef, tuple(map(mark, leaves)))
    plan = remember(_PLANS, key, lambda: _plan(model, needs), name_of(model))
    if needs == "layered":
        _check_ties(model, plan, leaves, treedef)
    conversion = Conversion(plan, leaves, treedef)
    return Adapted(plan.model, conversion.split, conversion.join)


_PLANS: dict[Hashable, EquinoxPlan] = {}


# ---------------------------------------------------------------------------- layers


def as_layer(module: Any, place: Place) -> Layer:
    """One element of a sequence as a layer."""
    function = structural(module.fn) if type(module) is eqx.nn.Lambda else None
    if function is not None and is_one_of(function, ELEMENTWISE):
        return activation_layer(function)
    part = part_of(module, place)
    init = MadeByLibrary(INIT_HINT) if part.carries or PARAM in part.marks else no_params
    name = part.name if function is None else name_of(function)
    if type(module) in LINEAR_MODULES or (function is not None and is_one_of(function, LINEAR_FUNCTIONS)):
        return linear_layer(init, Affine(part), "identity", name)
    return Layer(init, part, name=name, stateful=part.carries, stochastic=part.draws, finds_key=True)


@dataclass(frozen=True)
class PerNeuron:
    """A scalar function mapped over all entries, as ``eqx.nn.MLP`` does with its activations."""

    function: Callable[[jax.Array], jax.Array]

    def __call__(self, x: jax.Array) -> jax.Array:
        """Same shape as x."""
        return jax.vmap(self.function)(x.ravel()).reshape(x.shape)

    @property
    def __name__(self) -> str:
        return name_of(self.function)


def units_of(model: Any, path: Path = (), place: Place = ()) -> list[Unit]:
    """The layers of a sequence, sequences inside it unrolled.

    Raises:
        ModelError: the model has a forward pass of its own.
    """
    call = type(model).__call__ if callable(model) else None
    if call is eqx.nn.Sequential.__call__:
        length = len(model.layers)
        return [
            unit
            for i, layer in enumerate(model.layers)
            for unit in _element(layer, (*path, "layers", i), (*place, (i, length)))
        ]
    if call is eqx.nn.MLP.__call__:
        return _mlp_units(model, path)
    raise cannot_layer(name_of(model), "an eqx.nn.Sequential or an eqx.nn.MLP")


def _element(module: Any, path: Path, place: Place) -> list[Unit]:
    if type(module) in (eqx.nn.Sequential, eqx.nn.MLP):
        return units_of(module, path, place)
    return [Unit(path, as_layer(module, place))]


def _mlp_units(model: eqx.nn.MLP, path: Path) -> list[Unit]:
    functions = model.activation, model.final_activation
    if getattr(model, "scan", False) or any(map(eqx.is_array, jax.tree.leaves(functions))):
        raise ModelError(
            "This eqx.nn.MLP cannot be split into layers: it scans over them or its activations have parameters.",
            hint="Use scan=False and activations without parameters, or an eqx.nn.Sequential; "
            "or use a rule that takes any callable, such as bp.",
        )
    # The library applies no final activation if there is only one layer.
    last = model.final_activation if model.depth else MLP_IDENTITY
    activations = [*[model.activation] * (len(model.layers) - 1), last]
    pairs = enumerate(zip(model.layers, activations, strict=True))
    return [unit for i, (layer, function) in pairs for unit in _dense((*path, "layers", i), layer, function)]


def _dense(path: Path, layer: eqx.nn.Linear, function: Callable[..., Any]) -> list[Unit]:
    linear = Unit(path, as_layer(layer, ()))
    if function is MLP_IDENTITY:
        return [linear]
    function = structural(function)
    known = is_one_of(function, ELEMENTWISE)
    return [linear, Unit((), activation_layer(function if known else PerNeuron(function)))]


# ---------------------------------------------------------------------------- plans


@dataclass(eq=False)
class EquinoxPlan(Plan):
    """A plan that also knows which entries of the `State` each layer uses."""

    markers: tuple[tuple[Any, ...], ...] = ()


def _plan(model: Any, needs: str) -> EquinoxPlan:
    if needs == "layered":
        units = merge_activations(units_of(model))
        parts = [_part(unit.layer) for unit in units]
        return _plan_of(model, chain(units, name_of(model)), [unit.path for unit in units], parts)
    part = part_of(model)
    return _plan_of(model, Whole(part, part.name, part.carries, STATE_HINT), [()], [part])


def _part(layer: Layer) -> Part | None:
    run = layer.apply if layer.linear is None else layer.linear
    return getattr(run, "part", run if isinstance(run, Part) else None)


def _plan_of(model: Any, seen: Any, paths: list[Path], parts: list[Part | None]) -> EquinoxPlan:
    marks = {path: mark(leaf) for path, leaf in leaves_by_path(model).items()}
    places = {path: place_of(path, paths, name_of(model)) for path, mark in marks.items() if isinstance(mark, Mark)}
    return EquinoxPlan(
        model=seen,
        params={path: place for path, place in places.items() if marks[path] is PARAM},
        carried={path: place for path, place in places.items() if marks[path] is BUFFER},
        fixed=frozenset(set(marks) - set(places)),
        sections=len(paths),
        hint=PARAMS_HINT,
        markers=tuple(part.markers if part else () for part in parts),
    )


def _check_ties(model: Any, plan: Plan, leaves: list[Any], treedef: Any) -> None:
    layout = plan.layout(leaves, treedef)
    owner: dict[int, int] = {}
    for index, slots in enumerate(layout.params):
        for _, position in slots:
            first = owner.setdefault(id(leaves[position]), index)
            if first != index:
                names = [f"layer {i} ({plan.model.layers[i].name})" for i in (first, index)]
                raise tied(name_of(model), names, "make copies: model = jax.tree.map(jnp.copy, model)")


# ---------------------------------------------------------------------------- splitting and joining


class _Form(NamedTuple):
    """The structure of the parameters last split; ``keys`` of the State, None if there was none."""

    layout: Layout
    treedef: Any
    keys: tuple[Any, ...] | None


class Conversion:
    """Splits a model's parameters into plain dicts and joins them back to the form last split.

    Args:
        plan: where every leaf goes.
        leaves: those of the adapted model; its non-parameter leaves are used where ``param`` has none.
        treedef: its structure.
    """

    def __init__(self, plan: EquinoxPlan, leaves: list[Any], treedef: Any) -> None:
        self._plan = plan
        layout = plan.layout(leaves, treedef)
        self._buffers = gather(layout.carried, leaves)
        self._form = _Form(layout, treedef, sum(plan.markers, ()) or None)

    def split(self, param: PyTree) -> tuple[PyTree, PyTree]:
        """``param -> (params, model_state)``.

        Raises:
            ModelError: the structure does not fit the model, or its State is missing.
        """
        is_pair = isinstance(param, tuple) and len(param) == 2 and isinstance(param[1], eqx.nn.State)
        tree, state = param if is_pair else (param, None)
        leaves, treedef = jax.tree.flatten(tree)
        layout = self._plan.layout(leaves, treedef)
        values, keys = ((), None) if state is None else state.tree_flatten()
        self._form = _Form(layout, treedef, keys)
        params = gather(layout.params, leaves)
        carried = self._carried(gather(layout.carried, leaves), dict(zip(keys or (), values, strict=True)))
        return self._plan.as_given(params), self._plan.model_state(carried)

    def _carried(self, buffers: tuple[PyTree, ...], values: dict[Any, Any]) -> tuple[PyTree, ...]:
        differing = set(values) ^ set(sum(self._plan.markers, ()))
        if differing:
            entry = differing.pop()
            what = "has an entry that the model lacks" if entry in values else "lacks an entry that the model has"
            raise ModelError(f"The State in the parameters {what}: {entry}.", STATE_HINT)
        layers = zip(self._buffers, buffers, self._plan.markers, strict=True)
        return tuple(
            {
                "buffers": {**(own or {}), **(given or {})},
                "state": tuple(values[marker] for marker in markers),
            }
            if own or markers
            else ()
            for own, given, markers in layers
        )

    def join(self, params: PyTree, model_state: PyTree) -> PyTree:
        """``(params, model_state)`` in the form last split, None in place of everything but parameters."""
        layout, treedef, keys = self._form
        leaves: list[Any] = [None] * treedef.num_leaves
        scatter(layout.params, self._plan.sections_of(params), leaves)
        tree = jax.tree.unflatten(treedef, leaves)
        if keys is None:
            return tree
        return tree, self._joined_state(keys, self._plan.state_sections(model_state))

    def _joined_state(self, keys: tuple[Any, ...], sections: tuple[PyTree, ...]) -> Any:
        values: dict[Any, Any] = {}
        for markers, section in zip(self._plan.markers, sections, strict=True):
            values.update(zip(markers, section["state"] if markers else (), strict=True))
        return state_of(keys, tuple(values[key] for key in keys))
