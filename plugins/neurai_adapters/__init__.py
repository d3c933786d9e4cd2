"""Specs of the adapters for other libraries' models, free of JAX; each implementation has its own files.

No file here is named like a plugin, because importing a submodule binds its name in the package.
"""

from __future__ import annotations

from neurai_core.plugin import Plugin
from neurai_core.specs import AdapterSpec

equinox = Plugin(
    AdapterSpec(
        name="equinox",
        summary="Equinox models: any module for rules that take a callable, sequences and MLPs in layers.",
        library="Equinox",
        models=("eqx.Module", "eqx.nn.Sequential", "eqx.nn.MLP"),
        requires={"equinox": "neurai[equinox]"},
    ),
    "neurai_adapters.equinox_models:build",
)

flax = Plugin(
    AdapterSpec(
        name="flax",
        summary="Flax models, NNX and Linen: any module for rules that take a callable, sequences in layers.",
        library="Flax",
        models=("nnx.Module", "nnx.Sequential", "nn.Module", "nn.Sequential"),
        requires={"flax": "neurai[flax]"},
    ),
    "neurai_adapters.flax_models:build",
)
