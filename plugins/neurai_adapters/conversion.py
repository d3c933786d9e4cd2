"""Conversion of a library's parameter tree to plain dicts, one per layer, and back; shared by all adapters.

A `Plan` is made once per model structure and records where every leaf goes; a `Conversion` is made by every `adapt`,
applies the plan, and remembers the form of the parameters it last split, so that it can join back to it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import jax

from neurai_core.arrays import PyTree, Shape
from neurai_core.errors import ModelError

Path = tuple[Any, ...]
Slots = tuple[tuple[tuple[str, int], ...], ...]
T = TypeVar("T")

REMEMBERED = 256


def remember(cache: dict[Hashable, T], key: Hashable, make: Callable[[], T], name: str) -> T:
    """The cached value for a model's structure, computed if missing; a full cache drops its oldest entry.

    Raises:
        ModelError: the structure of the model called ``name`` does not hash.

    >>> remember({}, "answer", lambda: 42, "model")
    42
    """
    try:
        found = cache.get(key)
    except TypeError as error:
        raise ModelError(
            f"The model {name} has a setting that cannot be hashed: {error}.",
            hint="Make it a tuple instead of a list or a dict, or an array that is a leaf of the model.",
        ) from error
    if found is None:
        found = make()
        while len(cache) >= REMEMBERED:
            cache.pop(next(iter(cache)))
        cache[key] = found
    return found


def path_text(path: Path) -> str:
    """A path as it is written in code: ``layers.0.weight``."""
    return ".".join(map(str, path))


def plain_path(keys: tuple[Any, ...]) -> Path:
    """Names and indices of a JAX key path, without the step into an NNX Variable.

    >>> plain_path(jax.tree_util.tree_flatten_with_path({"layers": [1.0]})[0][0][0])
    ('layers', 0)
    """
    is_variable = len(keys) > 1 and isinstance(keys[-2], jax.tree_util.DictKey)
    if is_variable and keys[-1] == jax.tree_util.GetAttrKey("value"):
        keys = keys[:-1]
    return tuple(_key(key) for key in keys)


def _key(key: Any) -> Any:
    for attribute in ("name", "idx", "key"):
        if hasattr(key, attribute):
            return getattr(key, attribute)
    return str(key)


def leaves_by_path(tree: PyTree) -> dict[Path, Any]:
    """Every leaf of a tree by its plain path."""
    return {plain_path(keys): leaf for keys, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


class Layout(NamedTuple):
    """Where the leaves of parameter trees of one structure go: per layer, (name, position of the leaf)."""

    params: Slots
    carried: Slots


def gather(slots: Slots, leaves: list[Any]) -> tuple[PyTree, ...]:
    """One plain dict per layer; ``()`` for a layer without leaves."""
    return tuple({name: leaves[i] for name, i in layer} if layer else () for layer in slots)


def scatter(slots: Slots, sections: tuple[PyTree, ...], leaves: list[Any]) -> None:
    """Put the entries of the layers' dicts back where they came from."""
    for layer, section in zip(slots, sections, strict=True):
        for name, i in layer:
            leaves[i] = section[name]


@dataclass(eq=False)
class Plan:
    """Conversion plan for all models of one structure.

    Attributes:
        model: a `Layered`, or a `Whole` for rules that take any callable.
        params: path of every parameter -> (layer, name).
        carried: path of every array that is not a parameter -> (layer, name).
        fixed: paths of leaves that are not arrays.
        sections: number of layers; 1 for a `Whole`.
        hint: how to get parameters of the right structure.
    """

    model: Any
    params: Mapping[Path, tuple[int, str]]
    carried: Mapping[Path, tuple[int, str]]
    fixed: frozenset[Path]
    sections: int
    hint: str
    layouts: dict[Hashable, Layout] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Whether the model is a single callable."""
        return isinstance(self.model, Whole)

    def layout(self, leaves: list[Any], treedef: Any) -> Layout:
        """The layout of trees of this structure; computed once.

        Raises:
            ModelError: a parameter is missing, or a leaf has no place in the model.
        """
        return remember(
            self.layouts, treedef, lambda: self._layout(treedef.unflatten(leaves)), "whose parameters these are"
        )

    def _layout(self, tree: PyTree) -> Layout:
        paths = list(leaves_by_path(tree))
        missing = [path for path in self.params if path not in set(paths)]
        if missing:
            raise ModelError(f"The parameters lack {path_text(missing[0])}, which the model has.", hint=self.hint)
        strange = [path for path in paths if not self._knows(path)]
        if strange:
            raise ModelError(
                f"The parameters hold {path_text(strange[0])}, which is not a parameter of the model.",
                hint=self.hint,
            )
        return Layout(self._slots(self.params, paths), self._slots(self.carried, paths))

    def _knows(self, path: Path) -> bool:
        return path in self.params or path in self.carried or path in self.fixed

    def _slots(self, places: Mapping[Path, tuple[int, str]], paths: list[Path]) -> Slots:
        found = [(*places[path], i) for i, path in enumerate(paths) if path in places]
        return tuple(tuple((name, i) for at, name, i in found if at == layer) for layer in range(self.sections))

    def sections_of(self, tree: PyTree) -> tuple[PyTree, ...]:
        """A tuple with one tree per layer, even for a model that is a single callable."""
        return (tree,) if self.whole else tree

    def as_given(self, sections: tuple[PyTree, ...]) -> PyTree:
        """The parameters as the rule takes them: a tuple with one tree per layer, or the single tree of a callable."""
        return sections[0] if self.whole else sections

    def model_state(self, sections: tuple[PyTree, ...]) -> PyTree:
        """The state that the rule carries: as in `as_given`, ``()`` if no layer carries anything."""
        return self.as_given(sections) if any(section != () for section in sections) else ()

    def state_sections(self, model_state: PyTree) -> tuple[PyTree, ...]:
        """The inverse of `model_state`."""
        return ((),) * self.sections if model_state == () else self.sections_of(model_state)


@dataclass(frozen=True)
class Whole:
    """A module as a single callable ``model(params, x)``; compares by the structure of the module.

    Attributes:
        part: ``(params, model_state, x, *, key, train) -> (y, model_state)``.
        name: what error messages call the model.
        stateful: whether the module carries collections.
        hint: how to pass them.
    """

    part: Callable[..., tuple[PyTree, PyTree]]
    name: str
    stateful: bool
    hint: str

    @cached_property
    def _hash(self) -> int:
        return hash((self.part, self.name, self.stateful))

    def __hash__(self) -> int:
        return self._hash

    def apply(
        self, params: PyTree, model_state: PyTree, x: PyTree, *, key: Any = None, train: bool = False
    ) -> tuple[PyTree, PyTree]:
        """Run the module on a batch.

        Raises:
            ModelError: the module carries collections and none were given.
        """
        if self.stateful and model_state == ():
            raise ModelError(f"The model {self.name} carries a model state and none was given.", hint=self.hint)
        return self.part(params, model_state, x, key=key, train=train)

    def __call__(self, params: PyTree, x: PyTree, model_state: PyTree = ()) -> PyTree:
        """The outputs for a batch, in evaluation mode."""
        return self.apply(params, model_state, x)[0]


@dataclass(frozen=True)
class MadeByLibrary:
    """The ``init`` of a layer from another library's model; that library makes its parameters."""

    hint: str

    def __call__(self, key: jax.Array, input_shape: Shape) -> tuple[PyTree, PyTree]:
        """Raise ModelError, because the library makes the parameters."""
        raise ModelError("an adapted layer has the parameters that its library made.", hint=self.hint)


def no_key(name: str) -> ModelError:
    """The error for a layer that draws random numbers in training but got no key."""
    return ModelError(
        f"{name} draws random numbers in training and no key was given.",
        hint="Pass one, for instance get_grads(model, param, batch, key=jax.random.key(step)).",
    )
