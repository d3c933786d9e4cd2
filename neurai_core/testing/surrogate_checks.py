"""All checks of surrogates, in the order in which they run."""

from __future__ import annotations

from neurai_core.testing import surrogate_passes, surrogate_shape, surrogate_words

CHECKS = (*surrogate_passes.CHECKS, *surrogate_shape.CHECKS, *surrogate_words.CHECKS)
