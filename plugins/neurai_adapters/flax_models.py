"""The adapter for both of Flax's APIs, NNX and Linen."""

from __future__ import annotations

from typing import Any

import flax.linen as nn

from neurai_adapters import flax_linen, flax_nnx
from neurai_adapters.flax_examples import examples
from neurai_adapters.naming import naming
from neurai_core.adapting import Adapted, Adapter
from neurai_core.arrays import PyTree, Shape
from neurai_core.specs import Config


def build(config: Config, **context: Any) -> Adapter:
    """The bridge to Flax.

    Args:
        config: has no settings.
        **context: not used.
    """
    return Adapter(adapt, own_params, naming, examples)


def own_params(model: Any) -> PyTree | None:
    """The ``nnx.State`` of an NNX module's Params; None for a Linen module, which keeps none."""
    return None if isinstance(model, nn.Module) else flax_nnx.own_params(model)


def adapt(model: Any, *, needs: str = "callable", input_shape: Shape | None = None) -> Adapted:
    """Convert a Flax model to the form that a rule takes.

    Args:
        model: any NNX or Linen module; for ``needs="layered"`` an ``nnx.Sequential`` or ``nn.Sequential``.
        needs: ``"callable"`` or ``"layered"``.
        input_shape: not used; the parameters that are passed determine the shapes.

    Raises:
        ModelError: the model cannot be called, cannot be split into layers, or ties weights between layers.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> model = nn.Sequential([nn.Dense(8), nn.relu, nn.Dense(3)])
        >>> adapted = adapt(model, needs="layered")
        >>> params, model_state = adapted.split(model.init(jax.random.key(0), jnp.ones((1, 4))))
        >>> [sorted(layer) for layer in params], adapted.model(params, jnp.ones((5, 4))).shape
        ([['bias', 'kernel'], ['bias', 'kernel']], (5, 3))
    """
    return flax_linen.adapt(model, needs) if isinstance(model, nn.Module) else flax_nnx.adapt(model, needs)
