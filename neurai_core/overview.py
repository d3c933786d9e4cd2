"""Where `PluginStatus` can be imported from as well; it lives in `neurai_core.registry`."""

from neurai_core.registry import PluginStatus as PluginStatus
