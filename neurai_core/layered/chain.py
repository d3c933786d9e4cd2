"""A chain of layers as a model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import jax

from neurai_core.arrays import PyTree, Shape, shape_text
from neurai_core.errors import ModelError
from neurai_core.layered.layer import Layer
from neurai_core.layered.shapes import check_not_empty, in_floats, naming, output_shape


class Variables(NamedTuple):
    """Parameters of a `Layered` together with the collections that its forward pass updates.

    Attributes:
        params: a tuple, one plain pytree per layer.
        model_state: a tuple, one pytree per layer; ``()`` when no layer carries anything.
    """

    params: PyTree
    model_state: PyTree = ()


@dataclass(frozen=True, eq=False)
class Layered:
    """A chain of layers: ``model(params, x)`` evaluates it.

    Example:
        >>> import jax.numpy as jnp
        >>> from neurai_core.layered import dense
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
            with naming(index, layer, shape_text(x)):
                y, layer_state = layer.apply(layer_params, layer_state, x, key=layer_key, train=train)
                check_not_empty(y, x)
            x = y
            updated.append(layer_state)
        return x, model_state if model_state == () else tuple(updated)

    def __call__(self, params: PyTree, x: PyTree, model_state: PyTree = ()) -> PyTree:
        """The outputs, in evaluation mode."""
        return self.apply(params, model_state, x)[0]

    def inputs(self, params: PyTree, x: PyTree) -> PyTree:
        """Convert a batch for the first layer: integers to the parameters' float type, if they are numeric.

        >>> import jax.numpy as jnp
        >>> from neurai_core.layered import dense, flatten
        >>> Layered((flatten(), dense(2))).inputs(((), {"w": jnp.ones((4, 2))}), jnp.ones((3, 2, 2), int)).dtype
        dtype('float32')
        """
        return in_floats(x, params) if self.layers[0].numeric else x

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
