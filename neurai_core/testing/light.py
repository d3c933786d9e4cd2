"""The check that looking a plugin up imports no JAX, so that lists and descriptions stay quick."""

from __future__ import annotations

from neurai_core.registry import REGISTRY
from neurai_core.registry.isolation import load_isolated
from neurai_core.registry.kinds import KINDS
from neurai_core.testing.checking import Broken, Skipped, Subject, check


@check(hint="Name the build function as text, Plugin(spec, 'package.rule:build'), and import JAX in that module only.")
def light(subject: Subject) -> None:
    """Loading the plugin and its spec imports no JAX, in a fresh interpreter."""
    entry = REGISTRY.find(subject.spec.kind, subject.name)
    if entry.point is None:
        raise Skipped("it is registered in this process, and not loaded from a module")
    if entry.builtin:
        raise Skipped("it ships with NeurAI, whose own tests load it without JAX")
    said = load_isolated(entry, next(kind for kind in KINDS if kind.name == entry.kind), timeout=60.0)
    if said["status"] != "ok":
        raise Broken(f"in a process of its own it is not loaded: {said['error']}", said["hint"])
    if said["jax"]:
        raise Broken(f"loading {entry.value} imports JAX, in {said['jax']}")
