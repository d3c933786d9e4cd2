"""A network whose feedback weights, the transposes of its own, learn to generate: every layer predicts the one below.

    E = 1/2 sum_l |v_{l-1} - v_l W_l^T|^2 ,   v_0 = x ,  v_L = y as one-hot rows

As in Rao and Ballard 1999 the hidden activities relax on E, and W_l takes a step on it where they have come to. The
same W_l take the step of back-propagation on the loss, so that a forward pass classifies.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from neurai_core.arrays import PyTree
from neurai_core.errors import ModelError
from neurai_core.layered import Layered
from neurai_core.rule import Estimate, feedforward_init, feedforward_predict, objective, true_gradient
from neurai_target_projection import GenerativeFeedbackConfig

Activities = tuple[jax.Array, ...]


class Filled(NamedTuple):
    """What `infer` found: inputs, and activities of all layers above."""

    x: jax.Array
    above: Activities


class GenerativeFeedbackRule(NamedTuple):
    """A rule that generates."""

    init: Callable[..., PyTree]
    estimate: Callable[..., tuple[Estimate, PyTree]]
    predict: Callable[..., PyTree]
    generate: Callable[..., jax.Array]
    reconstruct: Callable[..., jax.Array]
    infer: Callable[..., Filled]
    origin: Any = None


def build(
    config: GenerativeFeedbackConfig,
    *,
    loss: Callable[..., Any],
    accuracy: Callable[..., Any] | None = None,
    has_aux: bool = False,
    **context: Any,
) -> GenerativeFeedbackRule:
    """The rule "generative feedback", for dense layers."""
    score = objective(loss, accuracy, has_aux)
    settle = partial(relaxed, config.eta, config.n)

    def init(model: Layered, params: PyTree, *, key: Any = None, model_state: PyTree = ()) -> PyTree:
        matrices(model, params)
        return feedforward_init(model, params, key=key, model_state=model_state)

    def estimate(
        model: Layered, params: PyTree, state: PyTree, batch: PyTree, *, key: Any = None
    ) -> tuple[Estimate, PyTree]:
        found, state = true_gradient(score, model, params, state, batch, key=key)
        x, y = batch
        v = (x, *climb(model, params, x)[:-1], one_hot(model, params, y))
        held = (True, *(False for _ in v[2:]), True)
        v, trace = settle(matrices(model, params), v, held)
        down = jax.grad(lambda params: config.weight * energy(matrices(model, params), v) / len(x))(params)
        aux = found.aux | {"energy": trace["energy"][-1], "energy_trace": trace["energy"]}
        aux |= {"trace": {"settling": trace}} if config.trace else {}
        return found._replace(grads=jax.tree.map(jnp.add, found.grads, down), aux=aux), state

    def generate(model: Layered, params: PyTree, y: jax.Array) -> jax.Array:
        return descend(matrices(model, params), one_hot(model, params, y))

    def reconstruct(model: Layered, params: PyTree, x: jax.Array, layer: int = 1) -> jax.Array:
        return descend(matrices(model, params)[:layer], climb(model, params, x)[layer - 1])

    def infer(model: Layered, params: PyTree, x: Any = None, y: Any = None, mask: Any = None) -> Filled:
        known = jnp.broadcast_to(True if mask is None else mask, x.shape)
        x = jnp.where(known, x, 0)
        *hidden, top = climb(model, params, x)
        top = top if y is None else one_hot(model, params, y)
        held = (known, *(False for _ in hidden), y is not None)
        (x, *above), _ = settle(matrices(model, params), (x, *hidden, top), held)
        return Filled(x, tuple(above))

    return GenerativeFeedbackRule(init, estimate, feedforward_predict, generate, reconstruct, infer)


def matrices(model: Layered, params: PyTree) -> list[jax.Array]:
    """W_1..W_L, each (inputs, outputs)."""
    for index, (layer, own) in enumerate(zip(model.layers, params, strict=True)):
        if layer.linear is None or jnp.ndim(getattr(own, "get", {}.get)("w")) != 2:
            raise ModelError(f"Layer {index} ({layer.name}) is not dense.", hint="Use mlp(...).")
    return [own["w"] for own in params]


def one_hot(model: Layered, params: PyTree, y: jax.Array) -> jax.Array:
    """Labels as activities of the last layer."""
    return jax.nn.one_hot(y, params[-1]["w"].shape[1], dtype=params[-1]["w"].dtype)


def climb(model: Layered, params: PyTree, x: jax.Array) -> list[jax.Array]:
    """v_1..v_L of a forward pass."""
    v = [x]
    for layer, own in zip(model.layers, params, strict=True):
        v.append(layer.apply(own, (), v[-1])[0])
    return v[1:]


def descend(weights: list[jax.Array], v: jax.Array) -> jax.Array:
    """What the layers below are predicted to be, down to the inputs."""
    for w in reversed(weights):
        v = v @ w.T
    return v


def energy(weights: list[jax.Array], v: Activities) -> jax.Array:
    """E, summed over the batch."""
    return sum(jnp.sum((below - above @ w.T) ** 2) for below, above, w in zip(v, v[1:], weights, strict=False)) / 2


def relaxed(
    eta: Any, n: int, weights: list[jax.Array], v: Activities, held: tuple[Any, ...]
) -> tuple[Activities, dict[str, jax.Array]]:
    """n steps down E of what is not held, with energy and residual before every step and at the end."""

    def forces(v: Activities) -> tuple[jax.Array, Activities]:
        value, slopes = jax.value_and_grad(partial(energy, weights))(v)
        return value, tuple(jnp.where(h, 0, g) for h, g in zip(held, slopes, strict=True))

    def seen(v: Activities) -> dict[str, jax.Array]:
        value, force = forces(v)
        return {"energy": value, "residual": sum(jnp.mean(jnp.linalg.norm(f, axis=-1)) for f in force)}

    def step(v: Activities, _: Any) -> tuple[Activities, dict[str, jax.Array]]:
        return tuple(a - eta * f for a, f in zip(v, forces(v)[1], strict=True)), seen(v)

    v, trace = jax.lax.scan(step, v, length=n)
    return v, jax.tree.map(jnp.append, trace, seen(v))
