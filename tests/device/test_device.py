"""Every rule and surrogate on an accelerator computes what it computes on the CPU.

pytest -m device                          where there is an accelerator; without one these tests are skipped
NEURAI_TEST_DEVICE=cpu pytest -m device   rehearses them on the CPU

float32 runs at matrix precision "highest" on both, so that TF32 does not enter; bfloat16 casts parameters and inputs
and runs at the default precision. Gradients are compared as a whole: the norm of the difference over the norm.
"""

from __future__ import annotations

import os
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import neurai_core as neurai
from neurai_core.models import cnn, mlp
from neurai_core.models.spiking import snn

pytestmark = pytest.mark.device
# Rounding grows with the number of steps of a relaxation; bfloat16 keeps three digits of every product.
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1}
PRECISION = {"float32": "highest", "bfloat16": "default"}
SPIKE_STEPS = 8
# Beside the defaults of every rule, the modes that take other paths through the code.
MODES = [
    ("pc", {"mode": "fixed_pred"}),
    ("pc", {"mode": "incremental"}),
    ("bipc", {"mode": "bistrict"}),
    ("ep", {"energy": "hopfield", "activation": "sigmoid", "dt": 0.5}),
    ("ep", {"mode": "symmetric", "beta": 0.1}),
]
SHIPPED = {(plugin.kind, plugin.name) for plugin in neurai.plugins() if plugin.distribution == "neurai"}
RULES, SURROGATES = (
    [name for name in neurai.names(kind) if (kind, name) in SHIPPED] for kind in ("algorithm", "surrogate")
)
CASES = [(name, {}) for name in RULES] + MODES


@pytest.fixture(scope="module")
def device() -> Any:
    found = jax.devices(os.environ.get("NEURAI_TEST_DEVICE"))[0]
    if found.platform == "cpu" and "NEURAI_TEST_DEVICE" not in os.environ:
        pytest.skip("there is no accelerator")
    return found


def network(rule: str, family: str) -> tuple[Any, tuple[int, ...]]:
    """A network that the rule can train."""
    if "spiking" in neurai.spec("algorithm", rule).claims:
        spike = neurai.surrogate("superspike", alpha=5.0)
        return snn((8, 16, 4), surrogate=spike), (SPIKE_STEPS, 8)
    if family == "conv":
        return cnn((4, 8), 4, "tanh"), (8, 8, 1)
    return mlp((8, 16, 16, 4), "tanh"), (8,)


def estimate(name: str, settings: dict[str, Any], family: str, dtype: str, device: Any) -> Any:
    """Loss and gradients of one batch, computed there, as float32."""
    rule = neurai.algorithm(name, loss="cross_entropy", accuracy="accuracy", **settings)
    model, shape = network(name, family)
    cpu = jax.devices("cpu")[0]
    with jax.default_device(cpu):  # the same numbers whatever the device draws
        params, _ = model.init(jax.random.key(0), shape)
        if extended := getattr(rule, "extended", None):
            model, params = extended(model, params, key=jax.random.key(4), input_shape=shape)
        x = jax.random.normal(jax.random.key(1), (16, *shape), dtype)
        y = jax.random.randint(jax.random.key(2), (16,), 0, 4)
        params = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
        given = params, (x, y), jax.random.key(3)
    params, batch, key = jax.device_put(given, device)
    with jax.default_matmul_precision(PRECISION[dtype]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        state = rule.init(model, params, key=key)
        found, _ = jax.jit(rule.estimate, static_argnums=0)(model, params, state, batch, key=key)
    return jax.device_put((found.loss, found.grads), cpu)


def distance(one: Any, other: Any) -> float:
    leaves = [[jnp.asarray(leaf, jnp.float32).ravel() for leaf in jax.tree.leaves(tree)] for tree in (one, other)]
    a, b = map(jnp.concatenate, leaves)
    return float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("family", ["dense", "conv"])
@pytest.mark.parametrize(("name", "settings"), CASES, ids=[" ".join([n, *map(str, s.values())]) for n, s in CASES])
def test_a_rule_finds_the_gradients_that_the_cpu_finds(
    name: str, settings: dict[str, Any], family: str, dtype: str, device: Any
) -> None:
    here, there = (estimate(name, settings, family, dtype, where) for where in (device, jax.devices("cpu")[0]))
    assert distance(here, there) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", SURROGATES)
def test_a_surrogate_has_the_spikes_and_slopes_that_it_has_on_the_cpu(name: str, dtype: str, device: Any) -> None:
    spike = neurai.surrogate(name)
    cpu = jax.devices("cpu")[0]

    @jax.jit
    def both(u: jax.Array, key: jax.Array) -> Any:
        spikes, back = jax.vjp(lambda v: spike(v, key=key), u)
        return spikes, back(jnp.ones_like(spikes))[0]

    with jax.default_device(cpu):
        given = jnp.linspace(-3, 3, 1001, dtype=dtype), jax.random.key(0)
    (spikes, slopes), (spikes_there, slopes_there) = (
        jax.device_put(both(*jax.device_put(given, where)), cpu) for where in (device, cpu)
    )
    assert jnp.array_equal(spikes, spikes_there)
    assert distance(slopes, slopes_there) < {"float32": 1e-5, "bfloat16": 1e-2}[dtype]
