"""A model that is trained with parameters of its rule beside its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from neurai_core.arrays import PyTree
from neurai_core.layered import forward


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
