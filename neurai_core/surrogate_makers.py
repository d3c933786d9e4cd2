"""Another import path for the makers of surrogates, which are defined in `neurai_core.surrogates`."""

from neurai_core.surrogates.makers import Custom as Custom
from neurai_core.surrogates.makers import Normalized as Normalized
from neurai_core.surrogates.makers import custom as custom
from neurai_core.surrogates.makers import normalized as normalized
