"""One direction of a two-way network, expressed around the activities that it starts from."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from neurai_algorithms.bidirectional.task import Activities
from neurai_algorithms.differences import Around, add, around, like, subtract, widened, zeros
from neurai_algorithms.predictive_coding.task import Solution, Task, half_square
from neurai_core.arrays import PyTree, Scalar, tree_scale


class Way(NamedTuple):
    """One direction, expressed around the initial activities.

    Attributes:
        task: its layers, clamped input and loss.
        sites: every layer around the activity that it starts from.
        start: the hidden activities that all of them start from, in the order of the layers.
        base: initial errors of the hidden activities; None for exact zeros.
        weights: of the hidden errors in the energy; None for 1.
    """

    task: Task
    sites: tuple[Around, ...]
    start: Activities
    base: tuple[PyTree, ...]
    weights: tuple[Any, ...] | None = None

    def errors(self, deltas: Activities, changes: list[PyTree]) -> tuple[PyTree, ...]:
        """Prediction minus activity, and the derivative of the loss at the end."""
        hidden = (
            subtract(change, d) if base is None else add(base, subtract(change, d))
            for base, change, d in zip(self.base, changes[:-1], deltas, strict=True)
        )
        return (*hidden, jax.grad(self.task.scaled_loss)(self.end(changes)))

    def changes(self, deltas: Activities) -> list[PyTree]:
        """Change of every prediction since the start; the first one, from a clamped input, has none."""
        moved = (site.change(d) for site, d in zip(self.sites[1:], deltas, strict=True))
        return [zeros(self.sites[0].output), *moved]

    def end(self, changes: list[PyTree]) -> PyTree:
        """The prediction of the clamped end."""
        return add(widened(self.sites[-1].output), changes[-1])

    def look(self, deltas: Activities) -> tuple[tuple[PyTree, ...], Activities]:
        """Errors, and minus the gradient of this direction's energy with respect to the hidden activities."""
        seen = [site.pull(d) for site, d in zip(self.sites[1:], deltas, strict=True)]
        errors = self.errors(deltas, [zeros(self.sites[0].output), *(change for change, _ in seen)])
        pulls = self.weighed(errors)
        back = [pull(e) for (_, pull), e in zip(seen, pulls[1:], strict=True)]
        return errors, tuple(subtract(e, b) for e, b in zip(pulls[:-1], back, strict=True))

    def weighed(self, errors: tuple[PyTree, ...]) -> tuple[PyTree, ...]:
        """The errors, weighted as in the energy."""
        if self.weights is None:
            return errors
        return tuple(tree_scale(e, w) for e, w in zip(errors, (*self.weights, 1.0), strict=True))

    def energy(self, deltas: Activities) -> Scalar:
        """This direction's part of F, without its weight."""
        changes = self.changes(deltas)
        return self.task.scaled_loss(self.end(changes)) + self._hidden_energy(self.errors(deltas, changes)[:-1])

    def start_energy(self) -> Scalar:
        """The same at the start, where nothing needs to be recomputed."""
        return self.task.scaled_loss(widened(self.sites[-1].output)) + self._hidden_energy(self.base)

    def _hidden_energy(self, errors: tuple[PyTree, ...]) -> Any:
        if self.weights is None:
            return sum(half_square(e) for e in errors if e is not None)
        return sum(w * half_square(e) for w, e in zip(self.weights, errors, strict=True) if e is not None)

    def gradients(self, deltas: Activities, errors: tuple[PyTree, ...]) -> PyTree:
        """Each layer's own: (df_l/dtheta_l at v_{l-1})^T eps_l."""
        inputs = [self.task.x, *(like(add(widened(v), d), v) for v, d in zip(self.start, deltas, strict=True))]
        return tuple(
            self.task.own_gradient(index, v, site.output, e)
            for index, (v, site, e) in enumerate(zip(inputs, self.sites, self.weighed(errors), strict=True))
        )

    def solution(self, deltas: Activities, errors: tuple[PyTree, ...], n: int) -> Solution:
        """What this direction gives after n sweeps, without its weight."""
        return Solution(
            grads=self.gradients(deltas, errors),
            outputs=self.sites[-1].output,
            states=(),
            errors=errors,
            activities=tuple(add(widened(v), d) for v, d in zip(self.start, deltas, strict=True)),
            steps=n,
        )


def leading(task: Task, weights: tuple[Any, ...] | None = None) -> Way:
    """The direction whose predictions the activities start from, so that its hidden errors begin at zero."""
    sites = task.expanded(task.x)
    start = tuple(site.output for site in sites[:-1])
    return Way(task, sites, start, (None,) * len(start), weights)


def following(task: Task, other: Way, weights: tuple[Any, ...] | None = None) -> Way:
    """The direction around the activities that the other one starts from."""
    start = other.start[::-1]
    layers = zip(task.model.layers, task.params, (task.x, *start), strict=True)
    sites = tuple(around(layer, params, (), v) for layer, params, v in layers)
    base = tuple(subtract(widened(s.output), widened(v)) for s, v in zip(sites, start, strict=False))
    return Way(task, sites, start, base, weights)
