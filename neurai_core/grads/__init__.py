"""The documented class API: gradient algorithms in `autograd`, surrogates in `surrogate_grad`.

Every class comes from its plugin, found through the registry on first access, so third-party classes
appear here too.

Example:
    >>> from neurai_core.grads import BP
    >>> BP.__name__
    'BP'
"""

from __future__ import annotations

from neurai_core.grads.base import GradeBase as GradeBase
from neurai_core.grads.base import LocalBase as LocalBase
from neurai_core.grads.classes import attributes_of
from neurai_core.grads.gradient import grad as grad

__getattr__ = attributes_of(__name__, "algorithm")
