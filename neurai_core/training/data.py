"""Another import path for data sets, which are defined in `neurai_core.data`."""

from neurai_core.data import Dataset as Dataset
from neurai_core.data import batches as batches
from neurai_core.data import check as check
from neurai_core.data import check_batch as check_batch
from neurai_core.data import numbered_classes as numbered_classes
from neurai_core.data import order as order
from neurai_core.data import steps_per_epoch as steps_per_epoch
from neurai_core.data import warn_of_empty_classes as warn_of_empty_classes
