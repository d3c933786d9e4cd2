"""A rule with parameters of its own beside those of the model, and the model that is trained with both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from neurai_core.arrays import PyTree
from neurai_core.layered import forward
from neurai_core.rule import Estimate


class ExtendedRule(NamedTuple):
    """A `Rule` that adds parameters of its own to those of the model.

    Attributes:
        init: as in `Rule`.
        estimate: as in `Rule`.
        predict: as in `Rule`.
        extended: ``(model, params, *, key, input_shape) -> (model, params)``: adds the rule's own parameters.
        origin: as in `Rule`.
    """

    init: Callable[..., PyTree]
    estimate: Callable[..., tuple[Estimate, PyTree]]
    predict: Callable[..., PyTree]
    extended: Callable[..., tuple[Any, PyTree]]
    origin: Any = None


@dataclass(frozen=True)
class Extended:
    """A model whose own parameters are the entry ``"forward"`` of those that are trained.

    >>> Extended(lambda params, x: params * x)({"forward": 2.0, "feedback": 0.0}, 3.0)
    6.0
    """

    plain: Any

    def __call__(self, params: PyTree, x: PyTree) -> PyTree:
        """The outputs of the plain model."""
        return forward(self.plain, params["forward"], x)[0]

    def apply(
        self, params: PyTree, model_state: PyTree, x: PyTree, *, key: Any = None, train: bool = False
    ) -> tuple[PyTree, PyTree]:
        """The outputs of the plain model, and its collections."""
        return forward(self.plain, params["forward"], x, model_state=model_state, key=key, train=train)
