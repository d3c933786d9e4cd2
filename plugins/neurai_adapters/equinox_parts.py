"""Equinox modules as pure functions of a batch, with structure and arrays kept apart.

Equinox modules take one example, so the batch is mapped here. The batch axis gets the name that the model's
batch normalization expects.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from neurai_adapters.conversion import leaves_by_path, no_key, path_text, plain_path
from neurai_adapters.naming import is_naming, name_outputs
from neurai_adapters.sequences import module_name, name_of
from neurai_core.arrays import PyTree, batch_size
from neurai_core.errors import ModelError


@dataclass(frozen=True)
class Mark:
    """Stands for an array in the structure of a model."""

    is_param: bool


PARAM, BUFFER = Mark(True), Mark(False)
Place = tuple[tuple[int, int], ...]  # index in a sequence and the sequence's length, the outermost first


def mark(leaf: Any) -> Any:
    """``PARAM`` for an inexact array, ``BUFFER`` for any other array, anything else unchanged."""
    if not isinstance(leaf, jax.Array | np.ndarray | np.generic):
        return leaf
    return PARAM if jnp.issubdtype(leaf.dtype, jnp.inexact) else BUFFER


@dataclass(frozen=True)
class Part:
    """A module as ``(params, model_state, x, *, key, train) -> (y, model_state)`` on a batch.

    Compares by the structure of the module: tree, settings and functions, not the arrays. A module that needs
    a key in evaluation too gets a fixed one there. ``place`` is its place in the sequences around it.
    """

    name: str
    treedef: Any
    marks: tuple[Any, ...]
    names: tuple[str, ...]
    markers: tuple[Any, ...]
    axis_name: Hashable | None
    takes_key: bool
    needs_key: bool
    takes_state: bool
    draws: bool
    place: Place = ()

    @property
    def carries(self) -> bool:
        """Whether the module has arrays that are not parameters, or a `State`."""
        return bool(self.markers) or BUFFER in self.marks

    def module(self, params: PyTree, model_state: PyTree) -> Any:
        """The module with these arrays."""
        arrays = {**(params or {}), **(model_state["buffers"] if model_state else {})}
        leaves = [
            arrays[name] if isinstance(mark, Mark) else mark for mark, name in zip(self.marks, self.names, strict=True)
        ]
        return jax.tree.unflatten(self.treedef, leaves)

    def __call__(
        self, params: PyTree, model_state: PyTree, x: PyTree, *, key: Any = None, train: bool = False
    ) -> tuple[PyTree, PyTree]:
        """One forward pass of a batch; raises ModelError when dropout lacks its key or channels come last."""
        try:
            return self._run(params, model_state, x, key, train)
        except (TypeError, ValueError) as error:
            _check_channels(self.module(params, model_state), x, error)
            raise

    def _run(self, params: PyTree, model_state: PyTree, x: PyTree, key: Any, train: bool) -> tuple[PyTree, PyTree]:
        module = self.module(params, model_state)
        if not train:
            module = eqx.nn.inference_mode(module)
        if is_naming():
            name_outputs(_named_modules(module))
        if key is None and self.draws and train:
            raise no_key(self.name)
        if key is None and self.needs_key:
            key = jax.random.key(0)
        keys = self._keys(key, batch_size(x)) if key is not None and self.takes_key else None
        if not self.takes_state:
            return self._batched(lambda x, key: _call(module, x, key=key), 0)(x, keys), model_state
        state = state_of(self.markers, model_state["state"])
        run = self._batched(lambda x, key: _call(module, x, _fresh(state), key=key), (0, None))
        y, state = run(x, keys)
        return y, {**model_state, "state": state.tree_flatten()[0]}

    def _keys(self, key: Any, batch: int) -> Any:
        """One key per example; a member of a sequence gets the key that the sequence would pass to it."""
        keys = jax.random.split(key, batch)
        for index, length in self.place:
            keys = jax.vmap(lambda key, at=index, n=length: jax.random.split(key, n)[at])(keys)
        return keys

    def _batched(self, example: Callable[..., Any], out_axes: Any) -> Callable[..., Any]:
        def run(x: PyTree, keys: Any) -> Any:
            axes = (0, None if keys is None else 0)
            return jax.vmap(example, in_axes=axes, out_axes=out_axes, axis_name=self.axis_name)(x, keys)

        return run


def _check_channels(module: Any, x: Any, error: Exception) -> None:
    """Explain the failure of a convolution whose images have channels last, or no channels."""
    conv = next((node for node in _nodes(module) if isinstance(node, eqx.nn.Conv | eqx.nn.ConvTranspose)), None)
    shape = getattr(x, "shape", ())
    if conv is None or not shape:
        return
    axes, channels = conv.num_spatial_dims, conv.in_channels
    if len(shape) == axes + 2 and shape[1] != channels and shape[-1] == channels:
        found, hint = "channels last", "Put them first: x = jnp.moveaxis(x, -1, 1)."
    elif len(shape) == axes + 1 and channels == 1:
        found, hint = "no channel axis", "Add one: x = x[:, None]."
    else:
        return
    raise ModelError(
        f"The batch has shape {tuple(shape)}, {found}, and {module_name(conv)} of Equinox takes batches "
        f"(B, {channels}, {', '.join(('D', 'H', 'W')[-axes:])}).",
        hint=hint,
    ) from error


def state_of(keys: tuple[Any, ...], values: tuple[Any, ...]) -> Any:
    """A ``State`` from its keys and values."""
    unflatten: Callable[..., Any] = eqx.nn.State.tree_unflatten
    return unflatten(keys, values)


def _named_modules(root: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[str, Any]]:
    """The callable modules inside, without sequences, which return what their last member returns."""
    children, _ = jax.tree_util.tree_flatten_with_path(
        root, is_leaf=lambda node: node is not root and isinstance(node, eqx.Module)
    )
    for keys, child in children:
        if isinstance(child, eqx.Module):
            at = (*path, *plain_path(keys))
            yield from _named_modules(child, at)
            if callable(child) and type(child) is not eqx.nn.Sequential:
                yield path_text(at), child


def _fresh(state: Any) -> Any:
    """A copy, because a State cannot be used again after an update."""
    return jax.tree.map(lambda leaf: leaf, state)


def _call(module: Any, *args: Any, key: Any) -> Any:
    return module(*args) if key is None else module(*args, key=key)


def part_of(module: Any, place: Place = ()) -> Part:
    """The structure of a module at its place in the sequences around it.

    Raises:
        ModelError: the module cannot be called, or its layers expect several batch axes.
    """
    if not callable(module):
        raise ModelError(
            f"The model {name_of(module)} has no __call__.", hint="Give it __call__(self, x) of one example."
        )
    leaves, treedef = jax.tree.flatten(module)
    markers = _markers(module)
    takes = _parameters(module)
    needs_key = _needs_key(module)
    return Part(
        name=module_name(module),
        treedef=treedef,
        marks=tuple(map(mark, leaves)),
        names=tuple(map(path_text, leaves_by_path(module))),
        markers=markers,
        axis_name=_axis_name(module),
        takes_key="key" in takes,
        needs_key=needs_key,
        takes_state=bool(markers) and _takes_state(takes),
        draws=needs_key or _has_dropout(module),
        place=place,
    )


def _needs_key(module: Any) -> bool:
    """Whether a module, or one of the members that a sequence calls, cannot be called without a key."""
    if type(module) is eqx.nn.Sequential:
        return any(map(_needs_key, module.layers))
    key = _parameters(module).get("key")
    return key is not None and key.default is inspect.Parameter.empty


def _parameters(module: Any) -> dict[str, inspect.Parameter]:
    call = type(module).__call__ if isinstance(module, eqx.Module) else module
    try:
        parameters = dict(inspect.signature(call).parameters)
    except (TypeError, ValueError):
        return {}
    parameters.pop("self", None)
    return parameters


def _takes_state(parameters: dict[str, inspect.Parameter]) -> bool:
    """Whether there is a second positional argument, which is the State whatever its name."""
    positional = [p for name, p in parameters.items() if p.kind <= p.POSITIONAL_OR_KEYWORD and name != "key"]
    return len(positional) > 1


def _nodes(tree: PyTree) -> Iterator[Any]:
    seen: list[Any] = []
    jax.tree.leaves(tree, is_leaf=lambda node: seen.append(node) or False)  # type: ignore[func-returns-value]
    return iter(seen)


def _markers(module: Any) -> tuple[Any, ...]:
    return tuple(node.marker for node in _nodes(module) if isinstance(node, eqx.nn.StateIndex))


def _has_dropout(module: Any) -> bool:
    """Whether dropout is switched on anywhere in the module."""
    return any(isinstance(node, eqx.nn.Dropout) and not node.inference and _nonzero(node.p) for node in _nodes(module))


def _nonzero(p: Any) -> bool:
    return not isinstance(p, int | float) or p != 0


def _axis_name(module: Any) -> Hashable | None:
    given = [getattr(node, "axis_name", None) for node in _nodes(module)]
    found = {tuple(name) if isinstance(name, list) else name for name in given if name is not None}
    if len(found) > 1 or any(isinstance(name, tuple) for name in found):
        raise ModelError(
            f"The layers of {name_of(module)} name several batch axes: {', '.join(sorted(map(str, found)))}.",
            hint='Give them one and the same axis_name, such as "batch"; the batch is the one mapped axis.',
        )
    return next(iter(found), None)
