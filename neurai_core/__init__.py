"""NeurAI: learning rules and surrogate derivatives in JAX, found by name.

The public interface. Every public name is a row of one table and is imported on first access, so
``import neurai_core`` takes almost no time.

>>> import neurai_core as neurai
>>> neurai.spec("algorithm", "bp").needs
'callable'
"""

from __future__ import annotations

TYPE_CHECKING = False  # as in typing, whose import would take half the time of this file
if TYPE_CHECKING:
    from typing import Any

    from neurai_core.adapting import adapt as adapt
    from neurai_core.adapting import as_layered as as_layered
    from neurai_core.automatic_names import named as named
    from neurai_core.by_name import adapter as adapter
    from neurai_core.by_name import algorithm as algorithm
    from neurai_core.by_name import dataset as dataset
    from neurai_core.by_name import names as names
    from neurai_core.by_name import observe as observe
    from neurai_core.by_name import observer as observer
    from neurai_core.by_name import plugins as plugins
    from neurai_core.by_name import rebuild as rebuild
    from neurai_core.by_name import register as register
    from neurai_core.by_name import spec as spec
    from neurai_core.by_name import surrogate as surrogate
    from neurai_core.by_name import temporary as temporary
    from neurai_core.errors import BlockedName as BlockedName
    from neurai_core.errors import DataError as DataError
    from neurai_core.errors import DuplicateName as DuplicateName
    from neurai_core.errors import MissingExtra as MissingExtra
    from neurai_core.errors import ModelError as ModelError
    from neurai_core.errors import NeurAIError as NeurAIError
    from neurai_core.errors import OutputError as OutputError
    from neurai_core.errors import PluginError as PluginError
    from neurai_core.errors import RisingEnergy as RisingEnergy
    from neurai_core.errors import SettingsError as SettingsError
    from neurai_core.errors import TrainingError as TrainingError
    from neurai_core.errors import UnknownName as UnknownName
    from neurai_core.errors import UsageError as UsageError
    from neurai_core.grads.autograd import grad as grad
    from neurai_core.hookspecs import hookimpl as hookimpl
    from neurai_core.layered import Layer as Layer
    from neurai_core.layered import Layered as Layered
    from neurai_core.network import Network as Network
    from neurai_core.network import activity as activity
    from neurai_core.network import network_of as network_of
    from neurai_core.network_relaxation import Relaxed as Relaxed
    from neurai_core.network_relaxation import langevin as langevin
    from neurai_core.network_relaxation import relax as relax
    from neurai_core.plugin import Plugin as Plugin
    from neurai_core.registry import PluginStatus as PluginStatus
    from neurai_core.registry import Registry as Registry
    from neurai_core.rising import unwatched as unwatched
    from neurai_core.rule import Estimate as Estimate
    from neurai_core.rule import Rule as Rule
    from neurai_core.specs import AdapterSpec as AdapterSpec
    from neurai_core.specs import AlgorithmSpec as AlgorithmSpec
    from neurai_core.specs import Config as Config
    from neurai_core.specs import DatasetSpec as DatasetSpec
    from neurai_core.specs import ObserverSpec as ObserverSpec
    from neurai_core.specs import Origin as Origin
    from neurai_core.specs import PluginSpec as PluginSpec
    from neurai_core.specs import Reference as Reference
    from neurai_core.specs import Relaxes as Relaxes
    from neurai_core.specs import SurrogateSpec as SurrogateSpec
    from neurai_core.surrogates import Surrogate as Surrogate
    from neurai_core.terms import NetworkEnergy as NetworkEnergy
    from neurai_core.training.compare import Comparison as Comparison
    from neurai_core.training.compare import compare as compare
    from neurai_core.training.fit import Fitted as Fitted
    from neurai_core.training.fit import fit as fit
    from neurai_core.training.loading import Run as Run
    from neurai_core.training.loading import load_run as load_run
    from neurai_core.training.sweep import Sweep as Sweep
    from neurai_core.training.sweep import sweep as sweep
    from neurai_core.transforms import accumulate as accumulate
    from neurai_core.transforms import per_example as per_example
    from neurai_core.transforms import with_alignment as with_alignment

    __version__: str

    from neurai_core import grads as grads
    from neurai_core import layered as layered
    from neurai_core import losses as losses
    from neurai_core import models as models
    from neurai_core import terms as terms

# A name is public if and only if it is here. No name may equal that of a module of this package, because
# whichever is imported first would hide the other.
_HOME = {
    "adapting": ("adapt", "as_layered"),
    "by_name": (
        "adapter",
        "algorithm",
        "dataset",
        "names",
        "observe",
        "observer",
        "plugins",
        "rebuild",
        "register",
        "spec",
        "surrogate",
        "temporary",
    ),
    "errors": (
        "BlockedName",
        "DataError",
        "DuplicateName",
        "MissingExtra",
        "ModelError",
        "NeurAIError",
        "OutputError",
        "PluginError",
        "RisingEnergy",
        "SettingsError",
        "TrainingError",
        "UnknownName",
        "UsageError",
    ),
    "grads.autograd": ("grad",),
    "hookspecs": ("hookimpl",),
    "layered": ("Layer", "Layered"),
    "automatic_names": ("named",),
    "network": ("Network", "activity", "network_of"),
    "network_relaxation": ("Relaxed", "langevin", "relax"),
    "plugin": ("Plugin",),
    "registry": ("PluginStatus", "Registry"),
    "rising": ("unwatched",),
    "rule": ("Estimate", "Rule"),
    "surrogates": ("Surrogate",),
    "specs": (
        "AdapterSpec",
        "AlgorithmSpec",
        "Config",
        "DatasetSpec",
        "ObserverSpec",
        "Origin",
        "PluginSpec",
        "Reference",
        "Relaxes",
        "SurrogateSpec",
    ),
    "terms": ("NetworkEnergy",),
    "training.compare": ("Comparison", "compare"),
    "training.fit": ("Fitted", "fit"),
    "training.loading": ("Run", "load_run"),
    "training.sweep": ("Sweep", "sweep"),
    "transforms": ("accumulate", "per_example", "with_alignment"),
}
# Modules that are accessible as attributes, as in `neurai.models.mlp`.
_MODULES = ("grads", "layered", "losses", "models", "terms")
_PUBLIC = {name: module for module, names_there in _HOME.items() for name in names_there}


def __getattr__(name: str) -> Any:
    import importlib

    if name == "__version__":
        from importlib_metadata import version

        value: Any = version("neurai")
    elif name in _PUBLIC:
        value = getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    elif name in _MODULES:
        value = importlib.import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*_PUBLIC, "__version__", "__doc__", "__name__", "__file__", "__path__"})
