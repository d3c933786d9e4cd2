"""Settings shared by all surrogates."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Spiking = Annotated[
    bool,
    Field(description="forward pass: the step (true) or the primitive (false); the derivative is the same"),
]
