"""A function around one point."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from neurai_core.arrays import PyTree
from neurai_core.changes.arithmetic import apart, as_dtype, change_dtype
from neurai_core.changes.cone import Stage, cone
from neurai_core.changes.dependence import NONE, Names, dependence
from neurai_core.changes.resting import Resting, awake
from neurai_core.changes.seeing import see
from neurai_core.errors import ModelError, UnknownName
from neurai_core.naming import did_you_mean
from neurai_core.programs import JITS, REMATS, read_program

UNROLLED = 300  # equations in the light cone that are compiled one by one


class Around:
    """A function expanded around one point, whose named values may move.

    The function is evaluated once, here. Afterwards, changes of its named values give changes of its results, without
    cancellation however small they are. The values needed for this are kept, rematerialized or not.

    Args:
        function: any function of JAX that names values by `jax.ad_checkpoint.checkpoint_name`.
        *args: the point.

    Attributes:
        outputs: what the function returns.
        at: name -> value, in order of computation. A name inside ``scan`` has the axis of the loop in front.
        base: name -> the difference of each of its predictions from its value: None for the first, which is the value,
            and a change for a name that occurs again.
        depends: name -> for each of its predictions the names on which it depends directly, not through another.
        outputs_depend: the names on which the outputs depend directly.

    Raises:
        ModelError: a name inside ``while`` or ``cond``, or twice with different shapes.

    Example:
        >>> from jax.ad_checkpoint import checkpoint_name
        >>> def function(w, x):
        ...     return jnp.tanh(w * checkpoint_name(jnp.exp(x), "h"))
        >>> here = Around(function, jnp.float32(0.5), jnp.float32(0.0))
        >>> round(float(here.outputs), 4), float(here.at["h"])
        (0.4621, 1.0)
        >>> outputs, predictions = here.changes({"h": jnp.float32(1e-12)})
        >>> round(float(outputs) * 1e12, 5), predictions
        (0.39322, {'h': (None,)})
    """

    def __init__(self, function: Callable[..., PyTree], *args: PyTree) -> None:
        program = read_program(function, *args, inline=JITS | REMATS)
        leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(args)]
        reach = dependence(program, [NONE] * len(leaves))
        self.depends: Mapping[str, tuple[Names, ...]] = dict(reach.predictions)
        self.outputs_depend: Names = NONE.union(*reach.outputs)
        self._work = reach.work
        seen = see(program, leaves, [False] * len(leaves))
        self._carry, self._structure, self._inputs = seen.carry, program.structure, len(leaves)
        self.outputs: PyTree = jax.tree.unflatten(self._structure, seen.outputs)
        self.at: dict[str, Any] = dict(seen.at)
        self.base: dict[str, tuple[Any, ...]] = {
            name: (None, *(_difference(name, one, self.at[name]) for one in ones[1:]))
            for name, ones in seen.predictions.items()
        }

    def changes(
        self, named: Mapping[str, Any], *, resting: Collection[str] = ()
    ) -> tuple[PyTree, dict[str, tuple[Any, ...]]]:
        """The change of the outputs and of every prediction, for changes of named values.

        Differentiable: its derivative is that of the function at the moved point.

        Args:
            named: name -> change, of the shape of the value, in 32 bits at least; None, or left out, for none.
            resting: names whose change is currently zero: they are differentiated, but products with them are
                skipped.

        Returns:
            The tree of the outputs, and name -> one for each prediction. None means always zero; the
            change of an integer is an integer, that of a boolean whether it differs.

        Raises:
            UnknownName: the function names no such value.
            ModelError: a change has a different shape from its value.
        """
        given = {name: self._given(name, change, name in resting) for name, change in named.items()}
        outputs, predictions = awake(self._carry([None] * self._inputs, given))
        return jax.tree.unflatten(self._structure, outputs), predictions

    def cone(self, sweeps: int, visits: int | None = None) -> tuple[Stage, ...]:
        """The first sweeps of a relaxation in stages, until every activity takes part.

        Args:
            sweeps: maximum number of sweeps to divide.
            visits: maximum number of visits to activities that are compiled; beyond it stages take several sweeps. By
                default as many as make a program of moderate size.
        """
        if visits is None:
            visits = UNROLLED * len(self.at) // max(1, self._work)
        return cone(self.depends, self.outputs_depend, sweeps, max(1, visits))

    def _given(self, name: str, change: Any, is_resting: bool) -> Any:
        if name not in self.at:
            raise UnknownName(f"No value is named {name!r}.{did_you_mean(name, self.at)}", _listed(self.at))
        if change is None:
            return None
        value, change = self.at[name], jnp.asarray(change)
        if change.shape != value.shape:
            raise ModelError(f"The change of {name!r} has shape {change.shape}; the value has {value.shape}.")
        change = as_dtype(change, change_dtype(value.dtype))
        return Resting(change) if is_resting else change


def _listed(names: Collection[str]) -> str:
    return f"Named values: {', '.join(names)}." if names else "The function names no value."


def _difference(name: str, prediction: Any, value: Any) -> Any:
    if prediction.shape != value.shape:
        raise ModelError(
            f"{name!r} names values of shapes {value.shape} and {prediction.shape}.",
            "Each further use of a name is another prediction of the same activity: give other values other names.",
        )
    return apart(prediction, value)
