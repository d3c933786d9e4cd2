r"""STDP: growth and loss by the pairs of spikes that `spike_pairs` counts.

$$\Delta w_{ij} = F_+ P_{ij} - F_- D_{ij}$$

At given spikes, this is the slope of $E = \frac12 (a_+ P + a_- D) (w - w^*)^2$
with soft bounds, where $w^* = w_{max} a_+ P / (a_+ P + a_- D)$ is the weight at which growth and loss balance, and of
$E = -w (a_+ P - a_- D)$ without bounds. E is what the rule reports as its loss.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from neurai_algorithms.spike_pairs import Sums, Window, check_pairs, count_pairs
from neurai_algorithms.stdp.spec import STDPConfig
from neurai_core.arrays import PyTree, shape_text
from neurai_core.errors import DataError
from neurai_core.rule import Estimate, Rule, feedforward_init, feedforward_predict


def build(config: STDPConfig, **context: Any) -> Rule:
    """The rule "STDP", which predicts the outputs of the network.

    Args:
        config: the validated settings.
        **context: not used: no target enters.
    """

    def init(model: Any, params: PyTree, *, key: Any = None, model_state: PyTree = ()) -> PyTree:
        check_pairs("STDP", model)
        return feedforward_init(model, params, key=key, model_state=model_state)

    def estimate(
        model: Any, params: PyTree, state: PyTree, batch: PyTree, *, key: Any = None
    ) -> tuple[Estimate, PyTree]:
        check_pairs("STDP", model)
        sequence = model.sequence(params, _inputs(batch), key=key)
        window = Window(config.tau_plus, config.tau_minus)
        grads, energies = [], []
        for own, pairs in zip(params, count_pairs(window, model, params, sequence), strict=True):
            made = jax.tree.map(jnp.zeros_like, own)
            if pairs is not None:
                made["input"]["w"], energy = _slope(config, own["input"]["w"], pairs.input)
                energies.append(energy)
            if pairs is not None and "recurrent" in own:
                made["recurrent"], energy = _slope(config, own["recurrent"], pairs.own)
                energies.append(energy)
            grads.append(made)
        return Estimate(tuple(grads), jnp.sum(jnp.stack(energies)), jnp.asarray(-1.0), {}), state

    return Rule(init, estimate, feedforward_predict)


def _slope(config: STDPConfig, w: jax.Array, pairs: Sums) -> tuple[jax.Array, jax.Array]:
    """-Delta w, and the energy whose slope it is."""
    grow, shrink = config.a_plus * pairs.grow, config.a_minus * pairs.shrink
    if config.bounds == "none":
        return (shrink - grow).astype(w.dtype), jnp.sum(w * (shrink - grow))
    w_max = 3.2 / len(w) if config.w_max is None else config.w_max
    slope = shrink * w - grow * (w_max - w)
    total = grow + shrink
    # (w - w*)^2 / 2 times the total, which is 0 where no spikes have met.
    return slope.astype(w.dtype), jnp.sum(slope**2 / jnp.where(total == 0, 1, total)) / 2


def _inputs(batch: PyTree) -> jax.Array:
    x, y = batch
    if not len(x) or len(y) != len(x):
        raise DataError(
            f"A batch has inputs {shape_text(x)} and targets {shape_text(y)}.",
            "Give at least one row; without targets, let y have the shape (B, 0).",
        )
    return jnp.asarray(x)
