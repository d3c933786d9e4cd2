"""The modules that plugins may import, in rows with their purpose.

The page "Writing a rule" shows this table. Built-in plugins, like third-party ones, import nothing else from the core.
An entry covers the module itself, not the modules of a package below it.
"""

from __future__ import annotations

# Names inside neurai_core, which may be imported itself.
OFFERED = {
    "plugin specs references hookspecs errors": "describing a plugin; no JAX",
    "naming explain": "names compared and suggested, settings checked and in words; no JAX",
    "rule transforms rising explicit_axes": "rules, their wrappers, and the warning that an energy rises",
    "layered losses arrays": "layers, losses, trees of arrays",
    "models models.spiking": "ready-made networks",
    "optax_texts": "schedules and transformations of optax as texts",
    "changes changes.activations": "a function, or an activation, around one point: small changes to the last digit",
    "network automatic_names named_values network_relaxation terms": (
        "functions as networks of their named values, energies of them, relaxation"
    ),
    "programs sources": "what a function computes, equation by equation, and what enters what",
    "energy relaxation curvature": "energies of activities, settling, and the steps that an energy allows",
    "surrogates": "surrogates",
    "probe": "linear probes of features",
    "adapting": "adapters",
    "data batched stored": "data sets, in arrays or batches, and arrays that are read from disk by rows",
    "grads grads.base": "the class API",
    "testing": "checks that a plugin is what its spec says, for its tests",
}


def offered_modules() -> tuple[str, ...]:
    """Every module that plugins may import.

    >>> offered_modules()[:3]
    ('neurai_core', 'neurai_core.plugin', 'neurai_core.specs')
    """
    return ("neurai_core", *(f"neurai_core.{name}" for row in OFFERED for name in row.split()))
