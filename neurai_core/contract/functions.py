"""The functions of a rule: their signatures, and the maker of the rule, whom errors name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from neurai_core.arrays import PyTree
from neurai_core.errors import PluginError
from neurai_core.explicit_axes import estimated, predicted
from neurai_core.rule import check_objective

SIGNATURES = {
    "init": "init(model, params, *, key, model_state=(), problem=None), the last one if it is needed",
    "estimate": "estimate(model, params, state, batch, *, key=None)",
    "predict": "predict(model, params, x, state=())",
    "extended": "extended(model, params, *, key, input_shape)",
}
# How they are called: on automatic axes, where that matters.
CALLS: dict[str, Callable[..., Any]] = {
    "init": lambda function, *args, **kwargs: function(*args, **kwargs),
    "estimate": estimated,
    "predict": predicted,
    "extended": lambda function, *args, **kwargs: function(*args, **kwargs),
}
PAGE = "'Writing a rule', docs/writing-a-rule.md, says what a rule is."


class Maker(NamedTuple):
    """The maker of a rule.

    Attributes:
        name: lookup name; empty for a rule made by hand.
        distribution: the distribution that offers it.
        version: that distribution's version.
    """

    name: str = ""
    distribution: str = ""
    version: str = ""

    def __str__(self) -> str:
        came_from = f"{self.distribution} {self.version}".strip()
        return f"Rule {self.name!r}" + (f" ({came_from})" if came_from else "") if self.name else "The rule"

    def error(self, message: str, advice: str = "", *, step: str = "call") -> PluginError:
        """The error for a rule that breaks its contract."""
        return PluginError(f"{self}: {message}", f"{advice} {PAGE}".strip(), distribution=self.distribution, step=step)


class RuleFunction(NamedTuple):
    """One of the functions of a rule.

    Attributes:
        function: as its author wrote it.
        role: ``init``, ``estimate``, ``predict`` or ``extended``.
        maker: the maker of the rule.
        score: the `Objective` the rule was built with, to distinguish a failing loss from a failing rule; or None.
    """

    function: Callable[..., Any]
    role: str
    maker: Maker
    score: Any

    def refuse(self, got: str, expected: str, advice: str = "") -> NoReturn:
        """Raise the error that says what was returned and what was expected."""
        raise self.maker.error(f"{self.role} returned {got}, expected {expected}.", advice)

    def check_score(self, outputs: PyTree, targets: PyTree) -> None:
        """Raise a ModelError if it is the user's loss or accuracy that fails."""
        if self.score is not None:
            check_objective(self.score, outputs, targets)
