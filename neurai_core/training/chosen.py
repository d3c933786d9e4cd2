"""What was chosen for a run: every setting, and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from neurai_core.run_settings import RunSettings

PYTHON = "python:"  # begins the description of an object that was given in place of a name


@dataclass(frozen=True)
class Chosen:
    """The requested settings of a run.

    Attributes:
        settings: the run's own settings.
        parts: settings of ``rule``, ``data``, ``surrogate`` and ``optimizer``, as given.
        sources: where each value comes from; settings of a part are named like ``rule.eta``.
        record: what the file says about the run that wrote it: data hash and versions.
    """

    settings: RunSettings
    parts: dict[str, dict[str, Any]]
    sources: dict[str, str]
    record: dict[str, Any] = field(default_factory=dict)

    def values(self) -> dict[str, Any]:
        """Every value by its name, those of parts as ``rule.eta``."""
        inner = {f"{part}.{key}": value for part, given in self.parts.items() for key, value in given.items()}
        return self.settings.model_dump() | inner

    def on_one_device(self, **others: Any) -> Chosen:
        """The same without several devices, for what needs only one, and with other settings of the run."""
        return replace(self, settings=self.settings.model_copy(update={"devices": 1, "shard": None, **others}))
