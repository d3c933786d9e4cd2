"""Residual networks of dense layers, and how to scale them so that depth does not matter.

    z_1 = a_1 W_1 x ,   z_l = z_{l-1} + a_l W_l phi(z_{l-1})  for 1 < l < L ,   y = a_L W_L phi(z_{L-1})

One learning rate works for all depths if the residual branches together, not each, change the sum by about 1:

    standard   a = 1 ,   variance 2 / N_in before a rectifier, 1 / N_in elsewhere: relu doubles the variance per layer
    depth      the same weights, and a_l = 1 / sqrt(L - 2) on residual branches, the uniform scaling of Hayou et al.
               2021, arXiv:2010.12859
    mupc       W ~ N(0, 1) ,   a_1 = 1 / sqrt(D) , a_l = 1 / sqrt(N L) , a_L = 1 / N: Innocenti et al. 2025,
               arXiv:2505.13124, after Yang et al. 2023, arXiv:2310.02244

with L weight matrices, N units per layer and D inputs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import jax
import jax.numpy as jnp

from neurai_core.arrays import Elementwise, PyTree, whole_number
from neurai_core.errors import ModelError
from neurai_core.layered import (
    DenseInit,
    Layer,
    Layered,
    block,
    dense,
    elementwise,
    linear_layer,
    residual,
)
from neurai_core.naming import did_you_mean

Parametrization = Literal["standard", "depth", "mupc"]
PARAMETRIZATIONS: tuple[str, ...] = get_args(Parametrization)


def resmlp(
    width: int,
    depth: int,
    n_outputs: int,
    activation: str | Elementwise = "relu",
    parametrization: Parametrization = "depth",
) -> Layered:
    """A residual network of dense layers, each preceded by its activation.

    Args:
        width: units of every hidden layer, N.
        depth: number of weight matrices L, at least 3: the first, L - 2 residual ones, and the last.
        n_outputs: width of the last layer.
        activation: name or elementwise callable.
        parametrization: how weights are drawn and scaled, ``standard``, ``depth`` or ``mupc``.

    Returns:
        A `Layered` of L layers, the residual ones with a skip connection.

    Raises:
        ModelError: a depth below 3, a width below 1, or an unknown parametrization.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> model = resmlp(32, 100, 10)
        >>> params, _ = model.init(jax.random.key(0), (784,))
        >>> y = model(params, jnp.ones((4, 784)))
        >>> len(model), y.shape, bool(jnp.abs(y).max() < 20)
        (100, (4, 10), True)
    """
    if parametrization not in PARAMETRIZATIONS:
        raise ModelError(
            f"A residual network has no parametrization {parametrization!r}."
            f"{did_you_mean(str(parametrization), PARAMETRIZATIONS)}",
            hint=f"Parametrizations: {', '.join(PARAMETRIZATIONS)}.",
        )
    layers = whole_number(depth)
    if layers is None or layers < 3:
        raise ModelError(
            f"A residual network needs a whole number of layers, at least 3, got {depth!r}.",
            hint="The first layer, one residual layer and the last one make 3.",
        )
    first, last = dense(width), dense(n_outputs)  # they reject invalid widths
    if parametrization == "mupc":
        init = partial(DenseInit, activation="identity", bias=False, initializer=jax.nn.initializers.normal(1.0))
        first, last = scaled(init(width), 1.0, 0.5), scaled(init(n_outputs), 1.0, 1.0)
        inner = scaled(init(width), 1 / math.sqrt(layers), 0.5)
    else:
        factor = 1 / math.sqrt(layers - 2) if parametrization == "depth" else 1.0
        inner = scaled(DenseInit(width, activation, bias=True), factor, 0.0)
    branch = residual(elementwise(activation), inner)
    return Layered((first, *(branch for _ in range(layers - 2)), block(elementwise(activation), last)))


def scaled(init: DenseInit, factor: float, power: float) -> Layer:
    """``factor / D_in^power (x @ w) + b``: a dense layer with part of its scale outside the weights.

    Args:
        init: initializer of the weights.
        factor: a number.
        power: exponent of the number of inputs, which divides.

    Example:
        >>> import jax.numpy as jnp
        >>> layer = scaled(DenseInit(2, "identity", bias=False), 3.0, 0.5)
        >>> layer.apply({"w": jnp.ones((4, 2))}, (), jnp.ones((1, 4)))[0].tolist()
        [[6.0, 6.0]]
    """
    return linear_layer(init, ScaledDense(factor, power), "identity", f"dense({init.width})")


@dataclass(frozen=True)
class ScaledDense:
    """``factor / D_in^power (x @ w) + b`` on ``(..., D_in)``."""

    factor: float
    power: float

    def __call__(self, params: PyTree, x: jax.Array) -> jax.Array:
        """``(..., D_in) -> (..., D_out)``."""
        scale = self.factor * len(params["w"]) ** -self.power
        y = (x @ params["w"]) * jnp.asarray(scale, params["w"].dtype)
        return y + params["b"] if "b" in params else y
