"""``GradeBase``, ``LocalBase``, ``grad`` and the class of every installed learning rule."""

from __future__ import annotations

from neurai_core.grads.base import GradeBase as GradeBase
from neurai_core.grads.base import LocalBase as LocalBase
from neurai_core.grads.classes import attributes_of
from neurai_core.grads.gradient import grad as grad

__getattr__ = attributes_of(__name__, "algorithm")
