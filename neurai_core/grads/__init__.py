"""The documented class API: gradient algorithms in `autograd`, surrogates in `surrogate_grad`.

Every class is the plugin's own, found through the registry on first touch, so that a third party's class
appears here too.

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
