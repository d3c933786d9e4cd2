"""The multilayer perceptron."""

from __future__ import annotations

from collections.abc import Sequence

from neurai_core.arrays import Elementwise
from neurai_core.errors import ModelError
from neurai_core.layered import Layered, dense


def mlp(sizes: Sequence[int], activation: str | Elementwise = "relu") -> Layered:
    """Dense layers ``y = activation(x @ w + b)``, identity on the last.

    Args:
        sizes: widths from the input to the output, at least two.
        activation: name or elementwise callable of the hidden layers.

    Returns:
        A `Layered` with params ``({"w": (D_in, D_out), "b": (D_out,)}, ...)``.

    Raises:
        ModelError: fewer than two sizes, or a width below 1.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> model = mlp((784, 128, 10))
        >>> params, _ = model.init(jax.random.key(0), (784,))
        >>> model(params, jnp.ones((32, 784))).shape
        (32, 10)
    """
    if len(sizes) < 2:
        raise ModelError(
            f"An MLP needs at least the widths of its input and output, got {tuple(sizes)}.",
            hint="mlp((784, 128, 10)).",
        )
    hidden = [dense(width, activation) for width in sizes[1:-1]]
    return Layered((*hidden, dense(sizes[-1])))
