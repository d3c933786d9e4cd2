"""Find plugins by name: learning rules, surrogates, adapters, data sets, and any further kind.

```
names(kind) ─▶ find(kind, name) ─▶ spec(kind, name) ─▶ create(kind, name)
one scan       one entry           checked and kept    a Rule, a Surrogate, ... that knows its origin
scan           lookup, switches    loading, ledger     loading, origins
```
A name costs one scan of metadata, a spec costs importing pydantic and that one plugin, a build costs importing JAX. The
third line names the modules that do it. `in_process` adds plugins that are not installed, `listing` lists the state of
every plugin, and `observing` calls observers.
"""

from __future__ import annotations

from neurai_core.registry.registry import REGISTRY, Registry
from neurai_core.registry.status import PluginStatus

__all__ = ["REGISTRY", "PluginStatus", "Registry"]
