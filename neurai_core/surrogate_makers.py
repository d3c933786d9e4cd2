"""Where `custom` and `normalized` can be imported from as well; they live in `neurai_core.surrogates`."""

from neurai_core.surrogates import custom as custom
from neurai_core.surrogates import normalized as normalized
