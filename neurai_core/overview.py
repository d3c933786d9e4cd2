"""Another import path for `PluginStatus`, which is defined in `neurai_core.registry`."""

from neurai_core.registry import PluginStatus as PluginStatus
