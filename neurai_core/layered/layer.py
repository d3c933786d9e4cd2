"""A layer: two functions, and its two halves if it is "linear, then elementwise"."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from neurai_core.arrays import Elementwise, PyTree, Shape, shape_text
from neurai_core.errors import ModelError
from neurai_core.layered.activations import activation_function


@dataclass(frozen=True)
class Layer:
    """One layer. Its callables compare by structure: functions of a module, or frozen dataclasses.

    Attributes:
        init: ``(key, input_shape) -> (params, model_state)``; ``input_shape`` is that of one example.
        apply: ``(params, model_state, x, *, key=None, train=False) -> (y, model_state)``.
        linear: ``(params, x) -> pre-activation``, affine in x; with ``activation`` when
            ``apply = activation . linear``, else None. It may have a method ``along(params, d)``, its derivative
            in the direction d, if that is faster than automatic differentiation.
        activation: elementwise; None for a layer that is not "linear, then elementwise".
        name: its name in error messages.
        stateful: whether ``apply`` updates a model state (batch statistics).
        stochastic: whether ``apply`` in training draws from its key (dropout).
        numeric: whether its input is numeric. Integers are then converted to the parameters' float type; otherwise
            they are kept, as for tokens.
        finds_key: whether ``apply`` takes the key of the whole model and finds its own part of it.

    Example:
        >>> from neurai_core.layered import dense
        >>> layer = dense(3, activation="relu")
        >>> params, _ = layer.init(jax.random.key(0), (5,))
        >>> jax.tree.map(jnp.shape, params)
        {'b': (3,), 'w': (5, 3)}
    """

    init: Callable[..., tuple[PyTree, PyTree]]
    apply: Callable[..., tuple[PyTree, PyTree]]
    linear: Callable[[PyTree, PyTree], PyTree] | None = None
    activation: Elementwise | None = None
    name: str = "layer"
    stateful: bool = False
    stochastic: bool = False
    numeric: bool = False
    finds_key: bool = False


@dataclass(frozen=True)
class LinearThenElementwise:
    """The ``apply`` of every layer that is "linear, then elementwise"."""

    linear: Callable[[PyTree, PyTree], PyTree]
    activation: Elementwise

    def __call__(
        self, params: PyTree, model_state: PyTree, x: PyTree, *, key: Any = None, train: bool = False
    ) -> tuple[PyTree, PyTree]:
        """``activation(linear(params, x))``, with an unchanged model state."""
        a = self.linear(params, x)
        y = self.activation(a)
        if jnp.shape(y) != jnp.shape(a):
            raise ModelError(
                f"An activation must be elementwise; this one turns {shape_text(a)} into {shape_text(y)}.",
                hint="Put other functions into a layer of their own: function(fn).",
            )
        return y, model_state


@dataclass(frozen=True)
class Stateless:
    """The ``apply`` of a layer that is one pure function ``(params, x) -> y``."""

    function: Callable[[PyTree, PyTree], PyTree]

    def __call__(
        self, params: PyTree, model_state: PyTree, x: PyTree, *, key: Any = None, train: bool = False
    ) -> tuple[PyTree, PyTree]:
        """``function(params, x)``, with an unchanged model state."""
        return self.function(params, x), model_state


def no_params(key: jax.Array, input_shape: Shape) -> tuple[PyTree, PyTree]:
    """The ``init`` of a layer without parameters."""
    return (), ()


def linear_layer(
    init: Callable[..., tuple[PyTree, PyTree]],
    linear: Callable[[PyTree, PyTree], PyTree],
    activation: str | Elementwise,
    name: str,
) -> Layer:
    """Make a layer "linear, then elementwise" from its two halves.

    Args:
        init: ``(key, input_shape) -> (params, model_state)``.
        linear: ``(params, x) -> pre-activation``, affine in x.
        activation: name or elementwise callable.
        name: name of the layer in error messages.

    Example:
        >>> scale = linear_layer(lambda key, shape: (jnp.ones(shape), ()), jnp.multiply, "relu", "scale")
        >>> scale.apply(jnp.ones(2), (), jnp.array([[-1.0, 2.0]]))[0].tolist()
        [[0.0, 2.0]]
    """
    elementwise = activation_function(activation)
    return Layer(init, LinearThenElementwise(linear, elementwise), linear, elementwise, name, numeric=True)
