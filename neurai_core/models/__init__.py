"""Ready-made networks for the command line, the examples and the benchmarks."""

from neurai_core.models.cnn import cnn as cnn
from neurai_core.models.mlp import mlp as mlp
from neurai_core.models.resmlp import resmlp as resmlp
