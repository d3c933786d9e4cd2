"""The kinds of plugins: one row each, and nothing else of NeurAI says what kinds there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from neurai_core.errors import UnknownName
from neurai_core.naming import canonical, did_you_mean


@dataclass(frozen=True)
class Kind:
    """A kind of plugin; one row of the table `KINDS`.

    Attributes:
        name: singular, also the front door's function.
        plural: for lists.
        group: entry-point group.
        spec: ``"module:class"`` that its specs are instances of.
        builds: ``"module:class"`` that what its plugins build are instances of; empty for anything.
        admit: ``"module:function"`` that takes what a plugin built, its entry and what it was built with, and returns
            what is handed on; empty to hand on whatever was built.
    """

    name: str
    plural: str
    group: str
    spec: str
    builds: str = ""
    admit: str = ""


KINDS = (
    Kind(
        "algorithm",
        "algorithms",
        "neurai.algorithms",
        "neurai_core.specs:AlgorithmSpec",
        admit="neurai_core.contract:admit",
    ),
    Kind(
        "surrogate",
        "surrogates",
        "neurai.surrogates",
        "neurai_core.specs:SurrogateSpec",
        "neurai_core.surrogates:Surrogate",
    ),
    Kind("adapter", "adapters", "neurai.adapters", "neurai_core.specs:AdapterSpec", "neurai_core.adapting:Adapter"),
    Kind("dataset", "datasets", "neurai.datasets", "neurai_core.specs:DatasetSpec", "neurai_core.data:Dataset"),
)
OBSERVER = Kind("observer", "observers", "neurai.observers", "")


def find_kind(kinds: Mapping[str, Kind], given: str) -> Kind:
    """The kind of a name, singular or plural.

    >>> find_kind({kind.name: kind for kind in KINDS}, "Surrogates").name
    'surrogate'
    """
    key = canonical(given)
    for kind in kinds.values():
        if key in (canonical(kind.name), canonical(kind.plural)):
            return kind
    raise UnknownName(f"No kind is named {given!r}.{did_you_mean(given, kinds)}", f"Kinds: {', '.join(kinds)}.")
