"""The table of plugin kinds, one row each; nothing else in NeurAI lists the kinds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from neurai_core.errors import UnknownName
from neurai_core.naming import canonical, did_you_mean


@dataclass(frozen=True)
class Kind:
    """A kind of plugin; one row of the table `KINDS`.

    Attributes:
        name: singular, also the name of the public function.
        plural: for lists.
        group: entry-point group.
        spec: ``"module:class"`` of its specs.
        builds: ``"module:class"`` of the objects that its plugins build, several with spaces between; empty for any.
        admit: ``"module:function"`` that takes a built object, its entry and the context of the build, and returns the
            object to pass on; empty to pass on objects unchanged.
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
    Kind(
        "dataset",
        "datasets",
        "neurai.datasets",
        "neurai_core.specs:DatasetSpec",
        "neurai_core.data:Dataset neurai_core.batched:BatchedData",
    ),
    Kind(
        "observer",
        "observers",
        "neurai.observers",
        "neurai_core.specs:ObserverSpec",
        admit="neurai_core.registry.loading:admit_built_observer",
    ),
)
OBSERVER = "observer"


def find_kind(kinds: Mapping[str, Kind], given: str) -> Kind:
    """The kind with a given name, singular or plural.

    >>> find_kind({kind.name: kind for kind in KINDS}, "Surrogates").name
    'surrogate'
    """
    key = canonical(given)
    for kind in kinds.values():
        if key in (canonical(kind.name), canonical(kind.plural)):
            return kind
    raise UnknownName(f"No kind is named {given!r}.{did_you_mean(given, kinds)}", f"Kinds: {', '.join(kinds)}.")
