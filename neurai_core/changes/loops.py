"""Changes through ``scan``, one iteration at a time, using the values that each iteration keeps.

One loop computes the values and also returns what each iteration keeps. What all iterations share, such as a weight, is
kept once. Changes are then propagated by a separate loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax import lax
from jax.extend import core as jex
from jax.tree_util import Partial

from neurai_core.changes.arithmetic import filled
from neurai_core.changes.dependence import moving_state, names_inside
from neurai_core.changes.expansion import Predictions, Seen
from neurai_core.changes.resting import Resting, all_rest, at_rest, awake
from neurai_core.changes.rule import Changes, Values
from neurai_core.programs import Equation, Loop, Program, Value


def see_loop(
    equation: Equation,
    body: Program,
    operands: Values,
    moves: Sequence[bool],
    at: Mapping[str, Any],
    see: Callable[..., Seen],
) -> Seen:
    """Expand a loop around a point; names inside get the axis of the loop in front.

    Args:
        equation: the loop.
        body: the program of one iteration.
        operands: its values.
        moves: for each operand whether it may change.
        at: the named values so far.
        see: the function that expands the body.
    """
    constants, _, _ = _split(operands, _loop(equation))
    moves_first, _, moves_last = _split(moves, _loop(equation))
    body_moves = [*moves_first, *moving_state(equation, body, moves), *moves_last]
    known = _same_in_all_turns(body, constants)
    before = {name: at[name] for name in names_inside(body) if name in at}
    kept = _Kept({id(value) for value in known.values()})

    def turn(body: Program, operands: Values, named: Mapping[str, Any]) -> Any:
        seen = see(body, operands, body_moves, named, known)
        return list(seen.outputs), (dict(seen.at), seen.predictions, kept.split(seen.carry))

    outputs, (named, predictions, own) = equation.descend(operands, before, turn)
    carrier = _LoopCarrier(equation, body, kept.tree, tuple(kept.same))
    return Seen(outputs, {**at, **named}, predictions, Partial(carrier, list(kept.same.values()), own))


class _Kept:
    """The arrays that iterations keep: arrays from outside, which all share, and others.

    Args:
        outside: the ids of arrays from outside.
    """

    def __init__(self, outside: set[int]) -> None:
        self.outside = outside

    def split(self, carry: Partial) -> list[Any]:
        """The arrays of one iteration; the shared ones and the tree of all are remembered."""
        leaves, self.tree = jax.tree.flatten(carry)
        # By identity: an array from outside that a rule keeps is the same object in the traced iteration.
        self.same = {place: leaf for place, leaf in enumerate(leaves) if id(leaf) in self.outside}
        return [leaf for place, leaf in enumerate(leaves) if place not in self.same]


class _LoopCarrier(NamedTuple):
    """Propagation of changes through a loop: the static part of `Seen.carry`, without arrays.

    Attributes:
        equation: the loop.
        body: the program of one iteration.
        tree: structure of what an iteration keeps.
        places: its leaves that all iterations share.
    """

    equation: Equation
    body: Program
    tree: Any
    places: tuple[int, ...]

    def __call__(
        self, same: Sequence[Any], own: Sequence[Any], changes: Changes, named: Mapping[str, Any]
    ) -> tuple[Changes, Predictions]:
        inside = names_inside(self.body)
        named = {name: named[name] for name in inside if named.get(name) is not None}
        given = [*changes, *named.values()]
        if all(change is None for change in given):
            return [None] * len(self.equation.results), {name: (None,) * count for name, count in inside.items()}
        through = Partial(self._carried, list(same), list(own))
        if not all_rest(given):
            return through((awake(list(changes)), awake(named)))  # type: ignore[no-any-return]
        found = at_rest(through, (awake(list(changes)), awake(named)))
        return jax.tree.map(Resting, found)  # type: ignore[no-any-return]

    def _carried(self, same: list[Any], own: list[Any], given: tuple[list[Any], dict[str, Any]]) -> Any:
        changes, named = given
        constants, start, xs = _split(changes, _loop(self.equation))
        moves = moving_state(self.equation, self.body, [change is not None for change in changes], named)
        avals = [value.aval for value in _split(self.body.inputs, _loop(self.equation))[1]]

        # The state of a loop keeps its structure: what can ever move has an array from the start, the rest stays None.
        def only_moving(state: Sequence[Any]) -> list[Any]:
            parts = zip(state, avals, moves, strict=True)
            return [filled(one, aval) if is_moving else None for one, aval, is_moving in parts]

        def turn(state: list[Any], slices: Any) -> Any:
            own, x, named = slices
            outputs, found = self._whole(same, own)([*constants, *state, *x], named)
            return only_moving(outputs[: len(state)]), (outputs[len(state) :], found)

        state, (ys, found) = _scan(self.equation, turn, only_moving(start), (own, xs, named))
        return [*state, *ys], found

    def _whole(self, same: Sequence[Any], own: Sequence[Any]) -> Partial:
        """The values that one iteration keeps, reassembled."""
        common, rest = dict(zip(self.places, same, strict=True)), iter(own)
        leaves = [common[place] if place in common else next(rest) for place in range(self.tree.num_leaves)]
        return jax.tree.unflatten(self.tree, leaves)  # type: ignore[no-any-return]


def _loop(equation: Equation) -> Loop:
    loop = equation.loop
    assert loop is not None
    return loop


def _split(ones: Sequence[Any], loop: Loop) -> tuple[list[Any], list[Any], list[Any]]:
    """The parts for the constants, the state, and the sequences."""
    end = loop.constants + loop.carry
    return list(ones[: loop.constants]), list(ones[loop.constants : end]), list(ones[end:])


def _scan(equation: Equation, turn: Callable[..., Any], start: list[Any], slices: Any) -> Any:
    settings = equation.eqn.params
    return lax.scan(turn, start, slices, settings["length"], reverse=settings["reverse"], unroll=settings["unroll"])


def _same_in_all_turns(body: Program, constants: Values) -> dict[Value, Any]:
    """The values that are the same in every iteration, computed from the constants."""
    known = {**body.constants, **dict(zip(body.inputs, constants, strict=False))}

    def read(operand: Any) -> Any:
        return operand.val if isinstance(operand, jex.Literal) else known[operand]

    for equation in body.equations:
        is_plain = equation.name is None and not equation.holds_names and not equation.eqn.effects
        if is_plain and all(isinstance(one, jex.Literal) or one in known for one in equation.operands):
            operands = map(read, equation.operands)
            known.update(zip(equation.results, equation(*operands), strict=True))
    return known
