"""Networks as chains of layers, the form of model that local learning rules use.

A `Layer` is two functions, ``init`` and ``apply``; if the layer is "linear, then elementwise", it also exposes
its two halves, so that a rule can derive adjoints, exact differences and constant drives from them. A `Layered`
is a tuple of layers. Both compare and hash by structure, so rebuilding a model does not retrace.

Parameters are plain pytrees, one per layer. Batch axis first; images are ``(B, H, W, C)``.
"""

from __future__ import annotations

from neurai_core.layered.activations import ACTIVATIONS, RECTIFIERS, activation_function, hard_sigmoid, identity
from neurai_core.layered.chain import Layered, Variables
from neurai_core.layered.combining import ChainApply, ChainInit, block, residual
from neurai_core.layered.convolution import PADDINGS, ConvInit, ConvLinear, conv
from neurai_core.layered.convolving import ConvForms, Convolution
from neurai_core.layered.fully_connected import DenseInit, dense, dense_columns, dense_linear
from neurai_core.layered.functions import FixedInit, elementwise, flatten, flatten_linear, function, unchanged
from neurai_core.layered.fusing import Fused, fused, fused_groups
from neurai_core.layered.layer import Layer, LinearThenElementwise, Stateless, linear_layer, no_params
from neurai_core.layered.mean_pooled import joins, mean_pooled
from neurai_core.layered.normalizing import BatchNorm, batch_norm
from neurai_core.layered.pooling import AvgPoolLinear, MaxPool, avg_pool, max_pool
from neurai_core.layered.running import check_forward, forward
from neurai_core.layered.shapes import naming, one_array, output_shape
from neurai_core.layered.weights import Initializer

__all__ = [  # noqa: RUF022 - in the order of the page
    "Variables",
    "Layer",
    "Layered",
    "forward",
    "identity",
    "hard_sigmoid",
    "ACTIVATIONS",
    "RECTIFIERS",
    "activation_function",
    "LinearThenElementwise",
    "Stateless",
    "Initializer",
    "no_params",
    "linear_layer",
    "dense_linear",
    "dense_columns",
    "DenseInit",
    "dense",
    "elementwise",
    "unchanged",
    "ConvLinear",
    "ConvInit",
    "conv",
    "ConvForms",
    "Convolution",
    "PADDINGS",
    "AvgPoolLinear",
    "avg_pool",
    "joins",
    "mean_pooled",
    "MaxPool",
    "max_pool",
    "BatchNorm",
    "batch_norm",
    "flatten_linear",
    "flatten",
    "ChainInit",
    "ChainApply",
    "residual",
    "block",
    "Fused",
    "fused",
    "fused_groups",
    "FixedInit",
    "function",
    "output_shape",
    "one_array",
    "naming",
    "check_forward",
]
