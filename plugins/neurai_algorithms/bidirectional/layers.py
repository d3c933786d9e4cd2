r"""A network that runs both ways: every layer of a `Layered` with its reverse, in one tree of parameters.

    up    f_l(v) = phi_l(A_l v + b_l)               predicts v_l from v_{l-1}
    down  g_l(v) = phi_{l-1}(B_l^T v + c_{l-1})     predicts v_{l-1} from v_l; the identity for phi_0

The transpose comes from `jax.linear_transpose` of the layer's linear half, so dense, convolution, average pooling
and flattening need no code of their own. With shared weights B_l is A_l; with separate ones it is its own set.

The parameters are one entry per layer, ``{"up": the layer's own, "down": {"b": c_{l-1}}}``, with ``"weights"`` of
B_l in ``down`` when they are separate: the structure of ``up``, None where the linear map does not use a leaf.
The bias c has the shape of one example of the layer's input, so the tree determines all downward shapes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Literal

from neurai_core.adapting import adapt
from neurai_core.arrays import PyTree, Shape, float_type, shape_text
from neurai_core.errors import ModelError
from neurai_core.layered import Layer, Layered, LinearThenElementwise, identity, no_params, output_shape

Linear = Callable[[PyTree, PyTree], PyTree]


def two_way(model: Any, shared: bool = True) -> Layered:
    """Add a downward direction to a model; its outputs stay the same.

    Args:
        model: a `Layered` of layers "linear, then elementwise", or a model of a library with an adapter. A
            model that is already two-way is returned as is.
        shared: whether the downward direction uses the upward weights or separate ones.

    Returns:
        A `Layered`; its ``init(key, input_shape)`` gives the ``up`` parameters of the model's own ``init``, plus
        the ``down`` ones.

    Raises:
        ModelError: a layer has no linear half to transpose, is random or carries statistics, or the model is
            two-way with the other kind of weights.

    Example:
        >>> from neurai_core.models import mlp
        >>> params, _ = two_way(mlp((4, 3, 2))).init(jax.random.key(0), (4,))
        >>> jax.tree.map(jnp.shape, params[0])
        {'down': {'b': (4,)}, 'up': {'b': (3,), 'w': (4, 3)}}
    """
    layered = model if isinstance(model, Layered) else adapt(model, needs="layered").model
    if is_two_way(layered):
        if getattr(layered.layers[0].init, "shared", shared) != shared:
            given, expected = ("separate", "shared") if shared else ("shared", "separate")
            raise ModelError(
                f"The model was made two-way with {given} weights, and the rule expects {expected} ones.",
                hint=f"Use two_way(model, shared={shared}), or the rule's other mode.",
            )
        return layered
    return Layered(tuple(_two_way_layer(index, layer, shared) for index, layer in enumerate(layered.layers)))


def is_two_way(model: Any) -> bool:
    """Whether a model was made by `two_way`.

    >>> from neurai_core.models import mlp
    >>> is_two_way(mlp((2, 2))), is_two_way(two_way(mlp((2, 2))))
    (False, True)
    """
    return isinstance(model, Layered) and all(isinstance(layer.init, TwoWayInit) for layer in model.layers)


def _two_way_layer(index: int, layer: Layer, shared: bool) -> Layer:
    if layer.linear is None or layer.activation is None:
        raise ModelError(
            f"Layer {index} ({layer.name}) cannot be reversed: it shows no linear half to transpose.",
            hint="Use layers that are linear, then elementwise: dense, conv, avg_pool, flatten, linear_layer; "
            "a stride or avg_pool instead of max_pool, and the layers of a block one by one.",
        )
    if layer.stateful or layer.stochastic:
        what = "carries a model state" if layer.stateful else "draws at random"
        raise ModelError(
            f"Layer {index} ({layer.name}) cannot be reversed: it {what}.",
            hint="Leave it out of a bidirectional network.",
        )
    linear = Upward(layer.linear)
    return Layer(
        TwoWayInit(layer, index, shared),
        LinearThenElementwise(linear, layer.activation),
        linear,
        layer.activation,
        layer.name,
        numeric=layer.numeric,
    )


@dataclass(frozen=True)
class Upward:
    """The linear half of a layer, its parameters found under ``up``."""

    linear: Linear

    def __call__(self, params: PyTree, x: PyTree) -> PyTree:
        """``A x + b``."""
        return self.linear(params["up"], x)


@dataclass(frozen=True)
class Downward:
    """The reverse of a layer's linear half, from its output to one example of ``shape``.

    The transpose of a map over positions, such as a convolution or pooling, sums over all outputs that see an input.
    For a map from n numbers to m its result is m/n times too large on average, so it is divided by that; for average
    pooling this gives the pseudo-inverse. Separate downward weights are drawn at this scale already.
    """

    linear: Linear
    shape: Shape
    name: str

    def __call__(self, params: PyTree, v: jax.Array) -> jax.Array:
        """``B^T v + c``."""
        down, own = params["down"], jax.tree.leaves(params["down"].get("weights", ()))
        weights = _joined(down["weights"], params["up"]) if "weights" in down else params["up"]
        back = transposed(self.linear, weights, (v.shape[0], *self.shape), self.name)(v)
        if len(self.shape) > 1 and not own:
            back = back * (math.prod(self.shape) / math.prod(v.shape[1:]))
        return back + down["b"]


@dataclass(frozen=True)
class TwoWayInit:
    """Parameters of a layer and of its reverse."""

    layer: Layer
    index: int
    shared: bool

    def __call__(self, key: jax.Array, input_shape: Shape) -> tuple[PyTree, PyTree]:
        """``{"up": ..., "down": ...}``; the ``up`` part is what the layer alone would get from this key."""
        up, _ = self.layer.init(key, input_shape)
        return {"up": up, "down": self.down(up, jax.random.fold_in(key, 1), input_shape, float_type(up))}, ()

    def down(self, up: PyTree, key: jax.Array, input_shape: Shape, dtype: Any) -> PyTree:
        """The downward parameters: zero biases, and separate weights drawn at the reverse scale."""
        shape = tuple(input_shape)
        _check_transposable(self.index, self.layer, up, shape)
        biases = {"b": jnp.zeros(shape, dtype)}
        return biases if self.shared else {"weights": self._weights(up, key, shape), **biases}

    def _weights(self, up: PyTree, key: jax.Array, shape: Shape) -> PyTree:
        """The scale of the layer's own draw if it had as many inputs as the downward direction has."""
        drawn, _ = self.layer.init(key, shape)
        outputs = output_shape(self.layer, up, (), shape)
        scale = math.sqrt(math.prod(shape) / math.prod(outputs))
        used = _takes_part(self.layer.linear, up, shape)
        return jax.tree.map(
            lambda leaf, own, is_used: (leaf * scale).astype(own.dtype) if is_used else None, drawn, up, used
        )


def _joined(weights: PyTree, up: PyTree) -> PyTree:
    """Weights with the unused leaves filled in."""
    return jax.tree.map(lambda w, own: own if w is None else w, weights, up, is_leaf=lambda leaf: leaf is None)


def _takes_part(linear: Any, params: PyTree, shape: Shape) -> PyTree:
    """Which leaves of params the linear map itself depends on: all but the bias."""

    def tangent(params: PyTree, d: jax.Array) -> jax.Array:
        return jax.jvp(lambda x: linear(params, x), (jnp.zeros_like(d),), (d,))[1]

    jaxpr = jax.make_jaxpr(tangent)(params, _example(params, shape)).jaxpr
    needed = {var for var in jaxpr.outvars if not isinstance(var, Literal)}
    for equation in reversed(jaxpr.eqns):
        if needed.intersection(equation.outvars):
            needed.update(var for var in equation.invars if not isinstance(var, Literal))
    leaves, structure = jax.tree.flatten(params)
    return jax.tree.unflatten(structure, [var in needed for var, _ in zip(jaxpr.invars, leaves, strict=False)])


def _example(params: PyTree, shape: Shape) -> jax.Array:
    return jnp.zeros((1, *shape), float_type(params))


# ---------------------------------------------------------------------------- transposing


def transposed(linear: Linear, params: PyTree, shape: Shape, name: str) -> Callable[[jax.Array], jax.Array]:
    """The transpose of ``x -> linear(params, x)`` without its constant.

    Args:
        linear: ``(params, x) -> pre-activation``, affine in x.
        params: its parameters.
        shape: of a batch of its inputs.
        name: the layer's name in errors.

    Raises:
        ModelError: it cannot be transposed.

    Example:
        >>> from neurai_core.layered import dense_linear
        >>> back = transposed(dense_linear, {"w": jnp.array([[1.0], [2.0]]), "b": jnp.ones(1)}, (1, 2), "dense")
        >>> back(jnp.array([[3.0]])).tolist()
        [[3.0, 6.0]]
    """

    def back(v: jax.Array) -> jax.Array:
        x = jax.ShapeDtypeStruct(shape, v.dtype)
        try:
            output = jax.eval_shape(lambda x: linear(params, x), x)
            pull = jax.linear_transpose(lambda x: linear(params, x), x)
            return pull(v.astype(output.dtype))[0].astype(v.dtype)
        except Exception as error:  # what JAX raises for a map that is not linear has no type of its own
            raise ModelError(
                f"{name} cannot be transposed on {shape_text(v)} for inputs of shape {shape}: {_reason(error)}",
                hint="The function linear(params, x) of a layer is affine in x; put the rest in its activation.",
            ) from error

    return back


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _check_transposable(index: int, layer: Layer, params: PyTree, shape: Shape) -> None:
    """Try the transpose without computing.

    Raises:
        ModelError: the layer's linear half is not affine in its input.
    """
    linear: Any = layer.linear
    x = _example(params, shape)
    output = jax.eval_shape(linear, params, x)
    back = transposed(linear, params, x.shape, f"Layer {index} ({layer.name})")
    jax.eval_shape(back, output)


# ---------------------------------------------------------------------------- the downward direction


def input_shapes(params: PyTree) -> tuple[Shape, ...]:
    """Shape of one example of every layer's input, read from two-way parameters."""
    return tuple(tuple(entry["down"]["b"].shape) for entry in params)


def reverse(model: Layered, params: PyTree) -> tuple[Layered, PyTree]:
    """The downward direction as a separate network: the layers g_L, ..., g_1 and their parameters in this order.

    Args:
        model: two-way.
        params: its parameters.

    Example:
        >>> from neurai_core.models import mlp
        >>> model = two_way(mlp((4, 3, 2), "tanh"))
        >>> params, _ = model.init(jax.random.key(0), (4,))
        >>> down, down_params = reverse(model, params)
        >>> down(down_params, jnp.ones((5, 2))).shape
        (5, 4)
    """
    bends = (identity, *(layer.activation for layer in model.layers[:-1]))
    layers = [
        _reverse_layer(index, layer, shape, bend)
        for index, (layer, shape, bend) in enumerate(zip(model.layers, input_shapes(params), bends, strict=True))
    ]
    return Layered(tuple(layers[::-1])), tuple(params[::-1])


def _reverse_layer(index: int, layer: Layer, shape: Shape, bend: Any) -> Layer:
    assert isinstance(layer.linear, Upward)  # `two_way` made it
    linear = Downward(layer.linear.linear, shape, f"Layer {index} ({layer.name})")
    return Layer(no_params, LinearThenElementwise(linear, bend), linear, bend, f"reverse of {layer.name}")


# ---------------------------------------------------------------------------- making and checking parameters


def extended(model: Any, params: PyTree, *, key: jax.Array, input_shape: Shape, shared: bool = True) -> PyTree:
    """Extend the parameters of a plain model by downward ones.

    Args:
        model: the plain model.
        params: its parameters, one entry per layer; kept as ``up``.
        key: PRNG key of the downward parameters.
        input_shape: shape of one example.
        shared: as in `two_way`.

    Raises:
        ModelError: a layer cannot be reversed.

    Example:
        >>> from neurai_core.models import mlp
        >>> model = mlp((4, 2))
        >>> params, _ = model.init(jax.random.key(0), (4,))
        >>> both = extended(model, params, key=jax.random.key(1), input_shape=(4,), shared=False)
        >>> jax.tree.map(jnp.shape, both[0]["down"])
        {'b': (4,), 'weights': {'b': None, 'w': (4, 2)}}
    """
    both, shape, dtype, entries = two_way(model, shared), tuple(input_shape), float_type(params), []
    for index, (layer, own) in enumerate(zip(both.layers, params, strict=True)):
        assert isinstance(layer.init, TwoWayInit)  # `two_way` made it
        down = layer.init.down(own, jax.random.fold_in(key, index), shape, dtype)
        entries.append({"up": own, "down": down})
        shape = output_shape(layer, entries[-1], (), shape)
    return tuple(entries)


def checked(model: Any, params: PyTree, shared: bool) -> Layered:
    """The two-way model of a model, whose parameters must cover both directions.

    Raises:
        ModelError: a layer cannot be reversed, or the parameters lack a direction.
    """
    both = two_way(model, shared)
    check_params(both, params)
    return both


def check_params(model: Layered, params: PyTree) -> None:
    """Check that parameters cover both directions.

    Raises:
        ModelError: an entry lacks one, or has the other kind of downward weights.
    """
    hint = "Make them by rule.init(model, key, input_shape), or from those of the plain model by rule.extended."
    if not isinstance(params, tuple | list) or len(params) != len(model):
        raise ModelError(f"params is {shape_text(params)}, expected a tuple of {len(model)}, one per layer.", hint=hint)
    for index, (layer, entry) in enumerate(zip(model.layers, params, strict=True)):
        assert isinstance(layer.init, TwoWayInit)  # `two_way` made it
        expected = {"b"} if layer.init.shared else {"b", "weights"}
        down = entry.get("down") if isinstance(entry, dict) else None
        if not isinstance(down, dict) or "up" not in entry or set(down) != expected:
            raise ModelError(
                f"The parameters of layer {index} ({layer.name}) are {shape_text(entry)}, expected an entry "
                f"'up' and an entry 'down' with {' and '.join(sorted(expected))}.",
                hint=hint,
            )
