"""Spiking networks: neurons, stages, networks as models, encoders, losses over time, and NIR."""

from neurai_core.models.spiking.cells import ALIF as ALIF
from neurai_core.models.spiking.cells import LIF as LIF
from neurai_core.models.spiking.cells import Leaky as Leaky
from neurai_core.models.spiking.cells import euler_decay as euler_decay
from neurai_core.models.spiking.cells import exact_decay as exact_decay
from neurai_core.models.spiking.encoders import ENCODERS as ENCODERS
from neurai_core.models.spiking.encoders import Constant as Constant
from neurai_core.models.spiking.encoders import Delta as Delta
from neurai_core.models.spiking.encoders import Latency as Latency
from neurai_core.models.spiking.encoders import Rate as Rate
from neurai_core.models.spiking.losses import activity_price as activity_price
from neurai_core.models.spiking.losses import of_outputs as of_outputs
from neurai_core.models.spiking.losses import over_time as over_time
from neurai_core.models.spiking.losses import with_activity as with_activity
from neurai_core.models.spiking.network import Recorded as Recorded
from neurai_core.models.spiking.network import SpikingNetwork as SpikingNetwork
from neurai_core.models.spiking.network import snn as snn
from neurai_core.models.spiking.nir_export import to_nir as to_nir
from neurai_core.models.spiking.nir_import import from_nir as from_nir
from neurai_core.models.spiking.stages import Stage as Stage
