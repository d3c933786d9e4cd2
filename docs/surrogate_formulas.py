"""A griffe extension: the classes of surrogates show the formulas of their specs, where these are stated once."""

from __future__ import annotations

from functools import cache
from typing import Any

import griffe

import neurai_core
from neurai_core.specs import SurrogateSpec


class SurrogateFormulas(griffe.Extension):
    """Puts the formulas of a built-in surrogate below the first line of its class."""

    def on_class_instance(self, *, cls: griffe.Class, **kwargs: Any) -> None:
        """Called for every class."""
        formulas = formulas_by_class().get(cls.path)
        if formulas and cls.docstring is not None:
            title, blank, rest = cls.docstring.value.partition("\n\n")
            cls.docstring.value = f"{title}\n\n{formulas}{blank}{rest}"


@cache
def formulas_by_class() -> dict[str, str]:
    """The formulas of every class that a surrogate offers, by its path."""
    specs = [neurai_core.spec("surrogate", name) for name in neurai_core.names("surrogate")]
    return {
        target.replace(":", "."): f"$$g(u) = {spec.derivative}$$\n\n$$P(u) = {spec.primitive}$$"
        for spec in specs
        if isinstance(spec, SurrogateSpec)
        for target in spec.offers.values()
    }
