"""``SurrogateFunctionBase`` and the class of every installed surrogate.

Every class comes from its plugin, found through the registry on first access, so third-party classes
appear here too.

Example:
    >>> import numpy as np
    >>> from neurai_core.grads.surrogate_grad import Sigmoid
    >>> Sigmoid(alpha=4.0, spiking=True)(np.array([-1.0, 2.0, 3.0])).tolist()
    [0.0, 1.0, 1.0]
"""

from __future__ import annotations

from neurai_core.grads.classes import attributes_of
from neurai_core.surrogates import Facts as Facts
from neurai_core.surrogates import Surrogate as SurrogateFunctionBase
from neurai_core.surrogates import custom as custom
from neurai_core.surrogates import normalized as normalized

__all__ = ["Facts", "SurrogateFunctionBase", "custom", "normalized"]
__getattr__ = attributes_of(__name__, "surrogate")
