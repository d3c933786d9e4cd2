"""Another import path for the names of a model without names, which are defined in `neurai_core.automatic_names`."""

from neurai_core.automatic_names import ModuleNamed as ModuleNamed
from neurai_core.automatic_names import NamedLayer as NamedLayer
from neurai_core.automatic_names import NamedModel as NamedModel
from neurai_core.automatic_names import named as named
from neurai_core.automatic_names import product_names as product_names
