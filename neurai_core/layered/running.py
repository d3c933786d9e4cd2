"""One forward pass of any model, and its check."""

from __future__ import annotations

from typing import Any

import jax

from neurai_core.arrays import PyTree, shape_text
from neurai_core.errors import ModelError
from neurai_core.layered.chain import Layered
from neurai_core.layered.shapes import check_not_empty, naming


def forward(
    model: Any,
    params: PyTree,
    x: PyTree,
    *,
    model_state: PyTree = (),
    key: jax.Array | None = None,
    train: bool = False,
) -> tuple[PyTree, PyTree]:
    """Run one forward pass of a `Layered`, an adapted model, or any callable ``model(params, x)``.

    Returns:
        ``(outputs, model_state)``; a plain callable returns its model state unchanged.

    Example:
        >>> import jax.numpy as jnp
        >>> forward(lambda params, x: params * x, 2.0, jnp.ones(3))[0].tolist()
        [2.0, 2.0, 2.0]
    """
    apply = getattr(model, "apply", None)
    if apply is None:
        return model(params, x), model_state
    return apply(params, model_state, x, key=key, train=train)


def check_forward(model: Any, params: PyTree, x: PyTree, *, model_state: PyTree = ()) -> PyTree:
    """Compute the shapes of the outputs, without running the model; a mismatch gives one clear error.

    Args:
        model: a `Layered`, an adapted model or a callable ``model(params, x)``.
        params: its parameters.
        x: a batch of inputs, arrays or ``jax.ShapeDtypeStruct``.
        model_state: collections that the forward pass updates.

    Returns:
        The outputs as ``jax.ShapeDtypeStruct``.

    Raises:
        ModelError: names the layer, what it was given and what it expects.

    Example:
        >>> import jax.numpy as jnp
        >>> from neurai_core.layered import dense
        >>> model = Layered((dense(3),))
        >>> params, _ = model.init(jax.random.key(0), (5,))
        >>> check_forward(model, params, jnp.ones((2, 5))).shape
        (2, 3)
    """
    if isinstance(model, Layered):
        return _check_layers(model, params, x, model_state)
    try:
        return jax.eval_shape(lambda p, s, x: forward(model, p, x, model_state=s)[0], params, model_state, x)
    except ModelError:
        raise
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"The model cannot take inputs {shape_text(x)} with the parameters given: {reason}",
            hint="The model is called as model(params, x), batch axis first; check params and x.",
        ) from error


def _check_layers(model: Layered, params: PyTree, x: PyTree, model_state: PyTree) -> PyTree:
    if not isinstance(params, (tuple, list)) or len(params) != len(model):
        given = f"{len(params)} entries" if isinstance(params, (tuple, list)) else f"a {type(params).__name__}"
        raise ModelError(
            f"params has {given}, expected a tuple of {len(model)}, one entry per layer.",
            hint="model.init(key, input_shape) makes them.",
        )
    below = jax.eval_shape(model.inputs, params, x)
    for index, layer in enumerate(model.layers):
        state = model.layer_states(model_state)[index]
        with naming(index, layer, shape_text(below)):
            above = jax.eval_shape(lambda p, s, x, f=layer.apply: f(p, s, x)[0], params[index], state, below)
            check_not_empty(above, below)
        below = above
    return below
