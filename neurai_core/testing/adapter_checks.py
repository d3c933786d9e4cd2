"""Checks of adapters: the models of a library compute and learn as the library itself has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from neurai_core.adapting import Adapted, Adapter, Example, find_adapter
from neurai_core.arrays import PyTree
from neurai_core.by_name import adapter
from neurai_core.errors import MissingExtra, ModelError
from neurai_core.rule import objective, true_gradient
from neurai_core.specs import AdapterSpec
from neurai_core.testing.checking import Broken, Measured, Skipped, Subject, check

PLAIN = (dict, list, tuple, type(None))
CLOSE = 1e-5  # relative, in float32


@dataclass(frozen=True, eq=False)
class AdapterSubject(Subject):
    """An adapter with models to try it on.

    Attributes:
        given: examples beside those of the adapter.
    """

    spec: AdapterSpec
    given: Mapping[str, Example] = field(default_factory=dict)

    @cached_property
    def adapter(self) -> Adapter:
        """The adapter.

        Raises:
            Skipped: its library is not installed.
        """
        try:
            return adapter(self.name)
        except MissingExtra as error:
            raise Skipped(f"{error.message} {error.hint}") from None

    @cached_property
    def examples(self) -> Mapping[str, Example]:
        """All examples by name.

        Raises:
            Skipped: there are none.
        """
        own = self.adapter.examples
        found = {**(own() if own else {}), **self.given}
        if not found:
            raise Skipped("it has no examples: Adapter(..., examples=...), or check_adapter(..., examples=...)")
        return found

    def adapted(self, example: Example, needs: str = "callable") -> Adapted:
        """The model of an example as a rule sees it."""
        return self.adapter.adapt(example.model, needs=needs, input_shape=np.shape(example.x)[1:])


@check(hint="Add an example under the name of every entry of models=, and let adapt take all of them.")
def accepts(subject: AdapterSubject) -> None:
    """Every model that the spec lists is accepted, and its class leads to this adapter.

    Every failure that the spec expects is that of a check.
    """
    subject.require_real_failures()
    for name in subject.spec.models:
        if name not in subject.examples:
            raise Broken(f"the spec lists {name}, but there is no example of it")
    for name, example in subject.examples.items():
        subject.adapted(example)
        if find_adapter(example.model) != subject.adapter:
            library = type(example.model).__module__.partition(".")[0]
            raise Broken(
                f"the class of {name} comes from {library!r}, which does not lead to this adapter",
                "Name the adapter like the module that the models' classes come from.",
            )


@check(hint="Let split return dicts, lists, tuples and arrays only, made once from the library's containers.")
def plain(subject: AdapterSubject) -> None:
    """Parameters become plain pytrees: dicts, lists and tuples of arrays."""
    for name, example in subject.examples.items():
        for part in subject.adapted(example).split(example.params):
            for node in _nodes(part):
                if not isinstance(node, PLAIN) and not hasattr(node, "dtype"):
                    raise Broken(f"split gives a {type(node).__name__} for {name}, expected plain containers of arrays")


@check(hint="Let join be the inverse of split.")
def round_trip(subject: AdapterSubject) -> None:
    """Split and joined again, parameters are what they were."""
    for name, example in subject.examples.items():
        adapted = subject.adapted(example)
        _same(
            f"the parameters of {name} after split and join",
            adapted.join(*adapted.split(example.params)),
            example.params,
        )


@check(hint="Call the library's own forward pass in adapt, in training mode where a rule trains.")
def gradients(subject: AdapterSubject) -> Measured:
    """Loss and gradients are those of the library's own training pass."""
    return _worst(subject, lambda ours, theirs: [_gap(ours[0], theirs[0]), _gap_of_trees(ours[1], theirs[1])])


@check(hint="Return the updated collections from apply when train=True, and join them to the library's structure.")
def collections(subject: AdapterSubject) -> Measured:
    """What a training pass updates, such as batch statistics, is updated as the library does."""
    return _worst(subject, lambda ours, theirs: [_gap_of_trees(ours[2], theirs[2])])


@check(hint="Compare the layers' functions with the model's: every layer once, in order, with its own parameters.")
def layers(subject: AdapterSubject) -> Measured:
    """In layers, loss, gradients and collections are the library's; a ModelError refuses what cannot be split."""
    gaps = [0.0]
    for name, example in subject.examples.items():
        try:
            ours = _training(subject.adapted(example, "layered"), example)
        except ModelError as error:
            if example.layered:
                raise Broken(f"{name} cannot be split into layers: {error.message}") from error
            continue
        theirs = _library(example)
        gaps += [_gap(ours[0], theirs[0]), *map(_gap_of_trees, ours[1:], theirs[1:])]
    return Measured(_largest(gaps), CLOSE, where="layer by layer against the library")


@check(hint="Use module-level functions or frozen dataclasses for the callables of an adapted model.")
def same_again(subject: AdapterSubject) -> None:
    """Adapted again, a model is equal and hashes the same, so that nothing is compiled again."""
    for name, example in subject.examples.items():
        for needs in ("callable", "layered"):
            try:
                first, again = (subject.adapted(example, needs).model for _ in range(2))
            except ModelError:  # which the checks accepts and layers report
                continue
            if first != again or hash(first) != hash(again):
                raise Broken(f"{name}, adapted again as {needs}, is not equal to itself")


@check(hint="Work on copies: some libraries write what a forward pass updates into the model.")
def untouched(subject: AdapterSubject) -> None:
    """Training changes neither the user's model nor the parameters given."""
    for name, example in subject.examples.items():
        inside = subject.adapter.params(example.model)
        kept = [jax.tree.map(np.array, tree) for tree in (inside, example.params)]
        _training(subject.adapted(example), example)
        _same(f"the parameters inside {name} after training", subject.adapter.params(example.model), kept[0])
        _same(f"the parameters of {name} after training", example.params, kept[1])


# ---- what is compared


def _training(adapted: Adapted, example: Example) -> tuple[Any, PyTree, PyTree]:
    """Loss, gradients and the change of collections, by the adapter, in the library's structure."""
    params, model_state = adapted.split(example.params)
    batch = example.x, jnp.zeros(len(example.x))
    score = objective(lambda outputs, y: _loss(outputs), None)
    found, updated = jax.jit(lambda params: true_gradient(score, adapted.model, params, model_state, batch))(params)
    zeros = jax.tree.map(jnp.zeros_like, model_state)
    moved = jax.tree.map(lambda new, old: new - old, adapted.join(params, updated), adapted.join(params, model_state))
    return found.loss, adapted.join(found.grads, zeros), moved


def _library(example: Example) -> tuple[Any, PyTree, PyTree]:
    """The same by the library alone."""
    value, grads, updated = example.training(example.params, _loss)
    return value, grads, jax.tree.map(lambda new, old: new - old, updated, example.params)


def _loss(outputs: jax.Array) -> jax.Array:
    """A number that depends on every output in its own way."""
    targets = jnp.sin(jnp.arange(outputs.size, dtype=outputs.dtype)).reshape(outputs.shape)
    return jnp.mean((outputs - targets) ** 2)


def _worst(subject: AdapterSubject, gaps_of: Any) -> Measured:
    gaps = {}
    for name, example in subject.examples.items():
        ours = _training(subject.adapted(example), example)
        gaps[name] = _largest(gaps_of(ours, _library(example)))
    where = max(gaps, key=lambda name: np.nan_to_num(gaps[name], nan=np.inf))
    return Measured(gaps[where], CLOSE, where=where)


def _gap_of_trees(ours: PyTree, theirs: PyTree) -> float:
    _same_structure("the structure", ours, theirs)
    sizes = [float(np.max(np.abs(leaf), initial=0.0)) for leaf in jax.tree.leaves(theirs)]
    gaps = map(partial(_gap, size=max(sizes, default=1.0)), jax.tree.leaves(ours), jax.tree.leaves(theirs))
    return _largest([0.0, *gaps])


def _gap(ours: Any, theirs: Any, size: float | None = None) -> float:
    """The largest difference, relative to a size or to the largest of the second."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if ours.shape != theirs.shape:
        raise Broken(f"a leaf has shape {ours.shape}, in the library {theirs.shape}")
    size = float(np.max(np.abs(theirs), initial=0.0)) if size is None else size
    return float(np.max(np.abs(ours - theirs), initial=0.0)) / (size or 1.0)


def _largest(gaps: list[float]) -> float:
    return float(np.max(gaps))  # NaN if one is


def _same(what: str, ours: PyTree, theirs: PyTree) -> None:
    _same_structure(f"the structure of {what}", ours, theirs)
    if not all(map(np.array_equal, jax.tree.leaves(ours), jax.tree.leaves(theirs))):
        raise Broken(f"{what} have other values")


def _same_structure(what: str, ours: PyTree, theirs: PyTree) -> None:
    found, expected = map(str, map(jax.tree.structure, (ours, theirs)))
    if found != expected:
        raise Broken(f"{what} is {found}, expected {expected}")


def _nodes(tree: Any) -> Iterator[Any]:
    yield tree
    if isinstance(tree, dict):
        for value in tree.values():
            yield from _nodes(value)
    elif isinstance(tree, list | tuple):
        for value in tree:
            yield from _nodes(value)


CHECKS = (accepts, plain, round_trip, gradients, collections, layers, same_again, untouched)
