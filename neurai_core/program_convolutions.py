"""Convolutions of programs in a form whose derivatives are fast.

A relaxation takes the derivative by the images in every sweep. XLA computes it as a convolution with exchanged axes, up
to 20 times slower than others in a loop on a CPU. Where `Convolution` can take its place, it does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from neurai_core.layered.convolving import ConvForms, Convolution
from neurai_core.programs import Equation

FORMS = ConvForms(forward="xla")  # the values are those of the program, to the bit


def computed(equation: Equation, operands: Sequence[Any]) -> Sequence[Any]:
    """The results of an equation; the derivatives of a convolution are fast.

    >>> from neurai_core.programs import read_program
    >>> program = read_program(lambda x: 2 * x, 1.0)
    >>> computed(program.equations[0], [2.0, 5.0])
    [Array(10., dtype=float32, weak_type=True)]
    """
    convolution = convolution_of(equation)
    return equation(*operands) if convolution is None else [convolution(*operands)]


def convolution_of(equation: Equation) -> Callable[[jax.Array, jax.Array], jax.Array] | None:
    """An equation that convolves images with a kernel, as a function; None for every other equation.

    >>> from neurai_core.programs import read_program
    >>> def convolved(x, w):
    ...     return jax.lax.conv(x, w, (1, 1), "SAME")
    >>> x, w = jnp.ones((1, 2, 5, 5)), jnp.ones((3, 2, 3, 3))  # channels first
    >>> convolution = convolution_of(read_program(convolved, x, w).equations[0])
    >>> bool((convolution(x, w) == convolved(x, w)).all())
    True
    """
    if equation.primitive.name != "conv_general_dilated":
        return None
    settings = equation.eqn.params
    avals: list[Any] = [value.aval for value in (*equation.operands, *equation.results)]
    plain = (
        all(aval.ndim == 4 and aval.dtype == avals[0].dtype for aval in avals)
        and jnp.issubdtype(avals[0].dtype, jnp.floating)
        and settings["feature_group_count"] == settings["batch_group_count"] == 1
        and tuple(settings["lhs_dilation"]) == (1, 1)
        and settings["precision"] is None
    )
    if not plain:
        return None
    stride, padding, dilation = (tuple(settings[key]) for key in ("window_strides", "padding", "rhs_dilation"))
    return partial(_arranged, Convolution(stride, padding, dilation, FORMS), settings["dimension_numbers"])


def _arranged(convolution: Convolution, axes: Any, x: jax.Array, w: jax.Array) -> jax.Array:
    """A convolution of arrays whose axes are in the order of ``axes``: specs of (batch or outputs, channels, ...)."""
    of_images, of_kernel, of_results = (tuple(spec) for spec in axes)
    x = x.transpose(of_images[0], *of_images[2:], of_images[1])
    w = w.transpose(*of_kernel[2:], of_kernel[1], of_kernel[0])
    order = of_results[0], *of_results[2:], of_results[1]
    return convolution(x, w).transpose(*np.argsort(order))
