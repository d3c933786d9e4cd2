"""Networks as chains of layers, the form of model that local learning rules use.

A `Layer` is two functions, ``init`` and ``apply``; if the layer is "linear, then elementwise", it also exposes
its two halves, so that a rule can derive adjoints, exact differences and constant drives from them. A `Layered`
is a tuple of layers. Both compare and hash by structure, so rebuilding a model does not retrace.

Parameters are plain pytrees, one per layer. Batch axis first; images are ``(B, H, W, C)``.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from neurai_core.arrays import Elementwise, PyTree, Shape, default_float, float_type, shape_text, whole_number
from neurai_core.errors import ModelError, UnknownName
from neurai_core.naming import canonical, did_you_mean


class Variables(NamedTuple):
    """Parameters of a `Layered` together with the collections that its forward pass updates.

    Attributes:
        params: a tuple, one plain pytree per layer.
        model_state: a tuple, one pytree per layer; ``()`` when no layer carries anything.
    """

    params: PyTree
    model_state: PyTree = ()


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


@dataclass(frozen=True, eq=False)
class Layered:
    """A chain of layers: ``model(params, x)`` evaluates it.

    Example:
        >>> model = Layered((dense(8, "tanh"), dense(2)))
        >>> params, model_state = model.init(jax.random.key(0), (4,))
        >>> model(params, jnp.ones((16, 4))).shape
        (16, 2)
    """

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        if not self.layers:
            raise ModelError("A Layered needs at least one layer, got none.", hint="For example Layered((dense(10),)).")
        for index, layer in enumerate(self.layers):
            if not isinstance(layer, Layer):
                raise ModelError(
                    f"Layer {index} is a {type(layer).__name__}, expected a Layer.",
                    hint="Makers: dense, conv, avg_pool, max_pool, flatten, residual, block, function.",
                )

    @cached_property
    def _hash(self) -> int:
        return hash(self.layers)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Layered) and self.layers == other.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def init(self, key: jax.Array, input_shape: Shape) -> tuple[PyTree, PyTree]:
        """Create parameters.

        Args:
            key: PRNG key.
            input_shape: shape of one example, without the batch axis, for instance ``(64,)`` or ``(28, 28, 1)``.

        Returns:
            ``(params, model_state)``: a tuple with one plain pytree per layer, and the same for the collections
            that the forward pass updates, ``()`` when there are none.

        Raises:
            ModelError: a layer cannot take the output of the layer before it.
        """
        made = []
        shape = tuple(input_shape)
        for index, (layer, layer_key) in enumerate(zip(self.layers, jax.random.split(key, len(self)), strict=True)):
            with naming(index, layer, shape):
                params, model_state = layer.init(layer_key, shape)
                shape = output_shape(layer, params, model_state, shape)
            made.append((params, model_state))
        params, model_state = zip(*made, strict=True)
        return params, model_state if jax.tree.leaves(model_state) else ()

    def apply(
        self,
        params: PyTree,
        model_state: PyTree,
        x: PyTree,
        *,
        key: jax.Array | None = None,
        train: bool = False,
    ) -> tuple[PyTree, PyTree]:
        """Run all layers; each stochastic layer draws from its own part of ``key``.

        Returns:
            ``(y, model_state)`` with the model state updated when ``train``.
        """
        states = self.layer_states(model_state)
        updated = []
        x = self.inputs(params, x)
        for index, (layer, layer_params, layer_state) in enumerate(zip(self.layers, params, states, strict=True)):
            layer_key = self.layer_key(key, index)
            x, layer_state = layer.apply(layer_params, layer_state, x, key=layer_key, train=train)
            updated.append(layer_state)
        return x, model_state if model_state == () else tuple(updated)

    def __call__(self, params: PyTree, x: PyTree, model_state: PyTree = ()) -> PyTree:
        """The outputs, in evaluation mode."""
        return self.apply(params, model_state, x)[0]

    def inputs(self, params: PyTree, x: PyTree) -> PyTree:
        """Convert a batch for the first layer: integers to the parameters' float type, if they are numeric.

        >>> Layered((flatten(), dense(2))).inputs(((), {"w": jnp.ones((4, 2))}), jnp.ones((3, 2, 2), int)).dtype
        dtype('float32')
        """
        return _in_floats(x, params) if self.layers[0].numeric else x

    def layer_key(self, key: jax.Array | None, index: int) -> jax.Array | None:
        """The key for a layer's ``apply``, from that of the model."""
        return key if key is None or self.layers[index].finds_key else jax.random.fold_in(key, index)

    def layer_states(self, model_state: PyTree) -> tuple[PyTree, ...]:
        """One model state per layer.

        Raises:
            ModelError: a layer carries state and none was given.
        """
        if model_state != ():
            return tuple(model_state)
        for index, layer in enumerate(self.layers):
            if layer.stateful:
                raise ModelError(
                    f"Layer {index} ({layer.name}) carries a model state and none was given.",
                    hint="Pass the model_state that init or as_layered returned, as in Variables(params, model_state).",
                )
        return ((),) * len(self)


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
        >>> forward(lambda params, x: params * x, 2.0, jnp.ones(3))[0].tolist()
        [2.0, 2.0, 2.0]
    """
    apply = getattr(model, "apply", None)
    if apply is None:
        return model(params, x), model_state
    return apply(params, model_state, x, key=key, train=train)


# ---------------------------------------------------------------------------- activations


def identity(x: jax.Array) -> jax.Array:
    """The identity, the activation of a linear layer."""
    return x


def hard_sigmoid(x: jax.Array) -> jax.Array:
    """``clip(x, 0, 1)``: the hard sigmoid of the equilibrium propagation literature."""
    return jnp.clip(x, 0.0, 1.0)


ACTIVATIONS: dict[str, Elementwise] = {
    "identity": identity,
    "relu": jax.nn.relu,
    "leaky_relu": jax.nn.leaky_relu,
    "elu": jax.nn.elu,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "softplus": jax.nn.softplus,
    "sigmoid": jax.nn.sigmoid,
    "hard_sigmoid": hard_sigmoid,
    "tanh": jnp.tanh,
}
RECTIFIERS = frozenset({"relu", "leaky_relu", "elu", "gelu", "silu", "softplus"})


def activation_function(activation: str | Elementwise) -> Elementwise:
    """Return the elementwise function of a given name; a callable is returned unchanged.

    Raises:
        UnknownName: no activation has that name.

    >>> activation_function("tanh")(jnp.zeros(2)).tolist()
    [0.0, 0.0]
    """
    if callable(activation):
        return activation
    found = {canonical(name): function for name, function in ACTIVATIONS.items()}.get(canonical(str(activation)))
    if found is None:
        raise UnknownName(
            f"No activation is named {activation!r}.{did_you_mean(str(activation), ACTIVATIONS)}",
            hint=f"Names: {', '.join(ACTIVATIONS)}; or pass an elementwise callable.",
        )
    return found


# ---------------------------------------------------------------------------- layer makers


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


Initializer = Callable[[jax.Array, Shape, Any], jax.Array]


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


def dense_linear(params: PyTree, x: jax.Array) -> jax.Array:
    """``x @ w + b``; x is ``(..., D_in)``."""
    y = x @ params["w"]
    return y + params["b"] if "b" in params else y


def dense_columns(params: PyTree, x: jax.Array) -> jax.Array:
    """`dense_linear` with the batch axis last: ``w' @ x + b``; x is ``(D_in, B)``."""
    y = params["w"].T @ x
    return y + params["b"][:, None] if "b" in params else y


def _weights(
    key: jax.Array, shape: Shape, fan_in: int, activation: str | Elementwise, initializer: Initializer | None
) -> jax.Array:
    if fan_in < 1:
        raise ModelError("an example has no entries.", hint="Check the shape of the data.")
    if initializer is not None:
        return _drawn(initializer, key, shape)
    gain = 2.0 if isinstance(activation, str) and activation in RECTIFIERS else 1.0
    return jax.random.normal(key, shape, default_float()) * math.sqrt(gain / fan_in)


def _drawn(initializer: Initializer, key: jax.Array, shape: Shape) -> jax.Array:
    drawn: Any = initializer(key, shape, default_float())
    if getattr(drawn, "shape", None) != shape:
        what = shape_text(drawn) if hasattr(drawn, "shape") else f"a {type(drawn).__name__}"
        raise ModelError(
            f"The initializer gave {what}, expected an array of shape {shape}.",
            hint="For example jax.nn.initializers.orthogonal(), with parentheses: the call makes the initializer.",
        )
    return jnp.asarray(drawn, default_float())


def _checked(initializer: Initializer | None) -> Initializer | None:
    if initializer is not None and not callable(initializer):
        raise ModelError(
            f"An initializer is a callable (key, shape, dtype) -> w, got {initializer!r}.",
            hint="For example jax.nn.initializers.orthogonal().",
        )
    return initializer


def _at_least_one(given: Any, needs: str, hint: str) -> int:
    number = whole_number(given)
    if number is None or number < 1:
        raise ModelError(f"{needs}, got {given!r}.", hint=hint)
    return number


def _with_bias(w: jax.Array, bias: bool) -> PyTree:
    return {"w": w, "b": jnp.zeros(w.shape[-1], w.dtype)} if bias else {"w": w}


@dataclass(frozen=True)
class DenseInit:
    """Normal weights of variance ``gain / D_in`` (gain 2 before a rectifier, else 1) or those given, zero biases."""

    width: int
    activation: str | Elementwise
    bias: bool
    initializer: Initializer | None = None

    def __call__(self, key: jax.Array, input_shape: Shape) -> tuple[PyTree, PyTree]:
        """Parameters ``{"w": (D_in, width), "b": (width,)}`` for examples of shape ``(..., D_in)``."""
        if len(input_shape) != 1:
            raise ModelError(
                f"A dense layer takes examples of shape (D,), got {input_shape}.",
                hint="Put flatten() before it.",
            )
        fan_in = input_shape[-1]
        w = _weights(key, (fan_in, self.width), fan_in, self.activation, self.initializer)
        return _with_bias(w, self.bias), ()


def dense(
    width: int,
    activation: str | Elementwise = "identity",
    bias: bool = True,
    initializer: Initializer | None = None,
) -> Layer:
    """Fully connected layer ``activation(x @ w + b)``.

    Args:
        width: number of outputs, at least 1.
        activation: name or elementwise callable.
        bias: whether to add ``b``.
        initializer: ``(key, shape, dtype) -> w``, such as ``jax.nn.initializers.orthogonal()``; normal weights of
            variance ``2 / D_in`` before a rectifier and ``1 / D_in`` elsewhere by default.

    Returns:
        A layer with params ``{"w": (D_in, width), "b": (width,)}``.

    Raises:
        ModelError: width below 1.

    Example:
        >>> dense(10, activation="relu").name
        'dense(10)'
    """
    width = _at_least_one(width, "A dense layer needs a width of at least 1", "For example dense(128).")
    init = DenseInit(width, activation, bias, _checked(initializer))
    return linear_layer(init, dense_linear, activation, f"dense({width})")


def elementwise(activation: str | Elementwise) -> Layer:
    """An activation as a separate layer without parameters, for networks that apply it first.

    Args:
        activation: name or elementwise callable.

    Example:
        >>> elementwise("relu").apply((), (), jnp.array([[-1.0, 2.0]]))[0].tolist()
        [[0.0, 2.0]]
    """
    name = activation if isinstance(activation, str) else getattr(activation, "__name__", "activation")
    return linear_layer(no_params, unchanged, activation, name)


def unchanged(params: PyTree, x: jax.Array) -> jax.Array:
    """The linear half of `elementwise`."""
    return x


@dataclass(frozen=True)
class ConvLinear:
    """Two-dimensional cross-correlation plus bias on ``(B, H, W, C)``."""

    stride: tuple[int, int]
    padding: Any

    def __call__(self, params: PyTree, x: jax.Array) -> jax.Array:
        """Kernel ``w`` is ``(height, width, C_in, C_out)``."""
        y = self.along(params, x)
        return y + params["b"] if "b" in params else y

    def along(self, params: PyTree, x: jax.Array) -> jax.Array:
        """The convolution without bias: the derivative in the direction ``x``, at any point."""
        dtype = jnp.result_type(x, params["w"])
        return _convolved(self.stride, self.padding, jnp.asarray(x, dtype), jnp.asarray(params["w"], dtype))


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _convolved(stride: tuple[int, int], padding: Any, x: jax.Array, w: jax.Array) -> jax.Array:
    return jax.lax.conv_general_dilated(x, w, stride, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


@_convolved.defjvp
def _convolved_jvp(stride: tuple[int, int], padding: Any, primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    """Both terms with axes ordered so that the transpose of each is an NHWC convolution.

    In loops (a relaxation, a scan over time) XLA runs other layouts up to 20 times slower on a CPU.
    """
    (x, w), (dx, dw) = primals, tangents
    along = partial(jax.lax.conv_general_dilated, window_strides=stride, padding=padding)
    by_x = along(dx, w.swapaxes(2, 3), dimension_numbers=("NHWC", "HWOI", "NHWC"))
    by_w = along(x.transpose(3, 1, 2, 0), dw.transpose(2, 0, 1, 3), dimension_numbers=("CHWN", "IHWO", "HWNC"))
    return _convolved(stride, padding, x, w), by_x + by_w.transpose(2, 0, 1, 3)


@dataclass(frozen=True)
class ConvInit:
    """Normal kernels of variance ``gain / fan_in`` or those given, zero biases."""

    channels: int
    kernel: tuple[int, int]
    activation: str | Elementwise
    bias: bool
    initializer: Initializer | None = None

    def __call__(self, key: jax.Array, input_shape: Shape) -> tuple[PyTree, PyTree]:
        """Parameters ``{"w": (height, width, C_in, channels), "b": (channels,)}``."""
        _check_image("A conv layer", input_shape)
        shape = (*self.kernel, input_shape[-1], self.channels)
        w = _weights(key, shape, math.prod(shape[:-1]), self.activation, self.initializer)
        return _with_bias(w, self.bias), ()


def conv(
    channels: int,
    kernel: int | tuple[int, int],
    stride: int | tuple[int, int] = 1,
    padding: Any = "SAME",
    activation: str | Elementwise = "identity",
    bias: bool = True,
    initializer: Initializer | None = None,
) -> Layer:
    """Two-dimensional convolution of ``(B, H, W, C)`` images, then an elementwise activation.

    Args:
        channels: number of output channels, at least 1.
        kernel: side, or (height, width), in pixels.
        stride: step, or (down, right), in pixels.
        padding: ``"SAME"``, ``"VALID"`` or ((top, bottom), (left, right)).
        activation: name or elementwise callable.
        bias: whether to add one bias per channel.
        initializer: ``(key, shape, dtype) -> w``, as for `dense`.

    Returns:
        A layer with params ``{"w": (height, width, C_in, channels), "b": (channels,)}``.

    Raises:
        ModelError: fewer than one channel, a kernel or stride below 1, or an invalid padding.

    Example:
        >>> params, _ = conv(4, 3).init(jax.random.key(0), (8, 8, 1))
        >>> params["w"].shape
        (3, 3, 1, 4)
    """
    channels = _at_least_one(channels, "A conv layer needs at least 1 channel", "For example conv(16, 3).")
    kernel = _pixels(kernel, "A conv layer needs a kernel", "For example conv(16, 3) or conv(16, (3, 5)).")
    stride = _pixels(stride, "A conv layer needs a stride", "For example conv(16, 3, stride=2).")
    init = ConvInit(channels, kernel, activation, bias, _checked(initializer))
    return linear_layer(init, ConvLinear(stride, _padding(padding)), activation, f"conv({channels}, {_text(kernel)})")


def _pixels(given: Any, needs: str, hint: str) -> tuple[int, int]:
    """One number of pixels for both axes, or one for each."""
    pair = given if isinstance(given, tuple | list) else (given, given)
    numbers = [whole_number(number) or 0 for number in pair]
    if len(numbers) != 2 or min(numbers) < 1:
        raise ModelError(f"{needs} of one or two whole numbers of at least 1, got {given!r}.", hint=hint)
    return numbers[0], numbers[1]


def _text(pair: tuple[int, int]) -> str:
    return str(pair[0] if pair[0] == pair[1] else pair)


PADDINGS = ("SAME", "SAME_LOWER", "VALID")


def _padding(given: Any) -> Any:
    """Padding as a convolution takes it, hashable."""
    if isinstance(given, str) and given.upper() in PADDINGS:
        return given.upper()
    try:
        pairs = () if isinstance(given, str) else tuple(tuple(map(operator.index, pair)) for pair in given)
    except TypeError:
        pairs = ()
    if len(pairs) != 2 or any(len(pair) != 2 for pair in pairs):
        raise ModelError(
            f"A conv layer has no padding {given!r}.",
            hint='Use "SAME", "VALID" or ((top, bottom), (left, right)), such as ((1, 1), (1, 1)).',
        )
    return pairs


def _check_image(layer: str, input_shape: Shape) -> None:
    if len(input_shape) != 3:
        raise ModelError(
            f"{layer} takes examples of shape (H, W, C), got {tuple(input_shape)}.",
            hint="Images are (B, H, W, C); add the channel axis with x[..., None].",
        )


@dataclass(frozen=True)
class AvgPoolLinear:
    """Mean over windows of ``(B, H, W, C)``: a linear map without parameters."""

    window: tuple[int, int]
    stride: tuple[int, int]

    def __call__(self, params: PyTree, x: jax.Array) -> jax.Array:
        """``(B, H, W, C) -> (B, H', W', C)``."""
        _check_image("avg_pool", x.shape[1:])
        x = _in_floats(x, params)
        total = jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, *self.window, 1), (1, *self.stride, 1), "VALID")
        return total / math.prod(self.window)


def avg_pool(window: int | tuple[int, int], stride: int | tuple[int, int] | None = None) -> Layer:
    """Mean over windows of ``(B, H, W, C)`` images; windows that do not fit are left out.

    Args:
        window: side, or (height, width), in pixels.
        stride: step, or (down, right), in pixels; the window's own size by default.

    Raises:
        ModelError: a window or stride below 1.

    Example:
        >>> avg_pool(2).apply((), (), jnp.ones((1, 4, 4, 3)))[0].shape
        (1, 2, 2, 3)
    """
    window, stride = _window("avg_pool", window, stride)
    return linear_layer(no_params, AvgPoolLinear(window, stride), "identity", f"avg_pool({_text(window)})")


def _window(name: str, window: Any, stride: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    pair = _pixels(window, f"{name} needs a window", f"For example {name}(2).")
    return pair, pair if stride is None else _pixels(stride, f"{name} needs a stride", f"For example {name}(3, 2).")


@dataclass(frozen=True)
class MaxPool:
    """Maximum over windows of ``(B, H, W, C)``."""

    window: tuple[int, int]
    stride: tuple[int, int]

    def __call__(self, params: PyTree, x: jax.Array) -> jax.Array:
        """``(B, H, W, C) -> (B, H', W', C)``."""
        _check_image("max_pool", x.shape[1:])
        x = _in_floats(x, params)
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, *self.window, 1), (1, *self.stride, 1), "VALID")


def max_pool(window: int | tuple[int, int], stride: int | tuple[int, int] | None = None) -> Layer:
    """Maximum over windows of ``(B, H, W, C)`` images; windows that do not fit are left out.

    Args:
        window: side, or (height, width), in pixels.
        stride: step, or (down, right), in pixels; the window's own size by default.

    Raises:
        ModelError: a window or stride below 1.

    Example:
        >>> max_pool(2).apply((), (), jnp.ones((1, 4, 4, 3)))[0].shape
        (1, 2, 2, 3)
    """
    window, stride = _window("max_pool", window, stride)
    return Layer(no_params, Stateless(MaxPool(window, stride)), name=f"max_pool({_text(window)})", numeric=True)


def flatten_linear(params: PyTree, x: jax.Array) -> jax.Array:
    """``(B, ...) -> (B, D)``."""
    return x.reshape(x.shape[0], -1)


def flatten() -> Layer:
    """Flatten all axes but the batch axis, ``(B, ...) -> (B, D)``.

    Example:
        >>> flatten().apply((), (), jnp.ones((2, 4, 4, 3)))[0].shape
        (2, 48)
    """
    return linear_layer(no_params, flatten_linear, "identity", "flatten")


@dataclass(frozen=True)
class ChainInit:
    """Parameters and model states of several layers, combined into one."""

    model: Layered
    skip: bool

    def __call__(self, key: jax.Array, input_shape: Shape) -> tuple[PyTree, PyTree]:
        """Raise ModelError if a residual chain does not keep the shape."""
        params, model_state = self.model.init(key, input_shape)
        if self.skip:
            given, got = tuple(input_shape), output_shape(self.model, params, model_state, input_shape)
            if given != got:
                raise ModelError(
                    f"The layers of a residual layer turn shape {given} into {got}, expected the same shape.",
                    hint="Give its last layer the width, channels and stride that keep the shape.",
                )
        return params, model_state


@dataclass(frozen=True)
class ChainApply:
    """Several layers run as one; ``skip`` adds the input to the output."""

    model: Layered
    skip: bool

    def __call__(
        self, params: PyTree, model_state: PyTree, x: PyTree, *, key: Any = None, train: bool = False
    ) -> tuple[PyTree, PyTree]:
        """``y = layers(x)`` or ``y = x + layers(x)``."""
        y, model_state = self.model.apply(params, model_state, x, key=key, train=train)
        return (x + y if self.skip else y), model_state


def _chain(layers: tuple[Layer, ...], skip: bool, name: str) -> Layer:
    model = Layered(layers)
    inner = ", ".join(layer.name for layer in layers)
    return Layer(
        ChainInit(model, skip),
        ChainApply(model, skip),
        name=f"{name}({inner})",
        stateful=any(layer.stateful for layer in layers),
        stochastic=any(layer.stochastic for layer in layers),
        numeric=layers[0].numeric,
    )


def residual(*layers: Layer) -> Layer:
    """``x + layers(x)`` as one layer; the inner layers keep the shape.

    Example:
        >>> model = Layered((residual(dense(4, "relu"), dense(4)), dense(2)))
        >>> params, _ = model.init(jax.random.key(0), (4,))
        >>> model(params, jnp.ones((3, 4))).shape
        (3, 2)
    """
    return _chain(layers, True, "residual")


def block(*layers: Layer) -> Layer:
    """Several layers as one layer: a local rule keeps activities only at its output.

    Example:
        >>> block(conv(4, 3, activation="relu"), max_pool(2)).name
        'block(conv(4, 3), max_pool(2))'
    """
    return _chain(layers, False, "block")


@dataclass(frozen=True)
class FixedInit:
    """An ``init(key, input_shape) -> params`` as a layer's ``init``."""

    init: Callable[[jax.Array, Shape], PyTree]

    def __call__(self, key: jax.Array, input_shape: Shape) -> tuple[PyTree, PyTree]:
        """The user's parameters and no model state."""
        return self.init(key, input_shape), ()


def function(fn: Callable[[PyTree, PyTree], PyTree], init: Callable[[jax.Array, Shape], PyTree] | None = None) -> Layer:
    """Any callable as a layer.

    Args:
        fn: ``(params, x) -> y``, batch axis first. A function of a module compares by identity, so define it once.
        init: ``(key, input_shape) -> params``; None for a layer without parameters (``params`` is then ``()``).

    Example:
        >>> centered = function(lambda params, x: x - x.mean(axis=-1, keepdims=True))
        >>> centered.apply((), (), jnp.array([[1.0, 3.0]]))[0].tolist()
        [[-1.0, 1.0]]
    """
    made = no_params if init is None else FixedInit(init)
    return Layer(made, Stateless(fn), name=getattr(fn, "__name__", type(fn).__name__))


# ---------------------------------------------------------------------------- types, shapes and their errors


def _in_floats(x: PyTree, params: PyTree) -> PyTree:
    """Convert integers and booleans to the float type of the parameters, or the default one if there are none."""
    dtype = float_type(params)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype) if _is_whole(leaf) else leaf, x)


def _is_whole(leaf: Any) -> bool:
    dtype = jnp.result_type(leaf)
    return jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(dtype, jnp.bool_)


def output_shape(layer: Layer | Layered, params: PyTree, model_state: PyTree, input_shape: Shape) -> Shape:
    """Shape of one example after a layer, without computing.

    Raises:
        ModelError: the output of the layer is empty or not a single array.
    """
    x = jax.ShapeDtypeStruct((1, *input_shape), jax.dtypes.canonicalize_dtype(float_type(params)))
    y = jax.eval_shape(lambda p, s, x: layer.apply(p, s, x)[0], params, model_state, x)
    _check_not_empty(y, x)
    return tuple(one_array(y).shape[1:])


def _check_not_empty(y: PyTree, x: PyTree) -> None:
    if any(0 in leaf.shape for leaf in jax.tree.leaves(y)) and not any(0 in leaf.shape for leaf in jax.tree.leaves(x)):
        raise ModelError(
            f"nothing is left of an input of shape {shape_text(x)}: the output has shape {shape_text(y)}.",
            hint='Use a smaller window, kernel or stride, padding="SAME", or larger images.',
        )


def one_array(activity: PyTree) -> Any:
    """Check that a layer returned a single array.

    Raises:
        ModelError: it is a tuple or another tree.

    >>> one_array(jnp.ones(3)).shape
    (3,)
    """
    if not jax.tree_util.all_leaves([activity]):
        raise ModelError(
            f"it returns {shape_text(activity)}, expected one array per layer.",
            hint="Join the arrays with jnp.concatenate, or put the layers between which they pass into one block.",
        )
    return activity


@contextmanager
def naming(index: int, layer: Layer, shape: Any) -> Iterator[None]:
    """Turn errors inside a layer into one sentence that names the layer."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"Layer {index} ({layer.name}): {error.message}", hint=error.hint) from error
    except (TypeError, ValueError, KeyError, IndexError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"Layer {index} ({layer.name}) cannot take an input of shape {shape}: {reason}",
            hint="Check the width of the layer before it and the shape of the data.",
        ) from error


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
            _check_not_empty(above, below)
        below = above
    return below
