"""Predictions of a trained network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np

from neurai_core.arrays import PyTree, Shape
from neurai_core.errors import DataError
from neurai_core.rule import Rule


@dataclass(frozen=True, eq=False)
class Predictor:
    """``x -> outputs``, by the rule's own prediction, compiled once per shape.

    Args:
        rule: the learning rule.
        model: the model as the rule sees it.
        params: its parameters.
        state: the state of the rule.
        input_shape: shape of one example, as the model takes it.

    Example:
        >>> import neurai_core as neurai
        >>> rule, model = neurai.algorithm("bp"), neurai.models.mlp((4, 2))
        >>> params, _ = model.init(jax.random.key(0), (4,))
        >>> Predictor(rule, model, params, (), (4,))(np.zeros((3, 2, 2))).shape
        (3, 2)
    """

    rule: Rule
    model: Any
    params: PyTree
    state: PyTree
    input_shape: Shape

    def __call__(self, x: Any) -> PyTree:
        """The outputs for inputs x, (B, ...), whose examples may be of another shape with as many numbers.

        Raises:
            DataError: they have another number of numbers.
        """
        array = x if isinstance(x, jax.Array) else np.asarray(x)
        if array.ndim == 0 or math.prod(array.shape[1:]) != math.prod(self.input_shape):
            raise DataError(
                f"x has shape {array.shape}, expected {('B', *self.input_shape)}.", "The batch axis comes first."
            )
        return self._compiled(self.params, array.reshape(len(array), *self.input_shape), self.state)

    @cached_property
    def _compiled(self) -> Any:
        return jax.jit(lambda params, x, state: self.rule.predict(self.model, params, x, state))
