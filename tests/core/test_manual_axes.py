"""Rules inside `jax.shard_map` with its checks on: the estimate of a device's own rows."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
import jax, jax.numpy as jnp, numpy as np
import neurai_core as neurai
from jax.sharding import AxisType, PartitionSpec as P
from neurai_core.losses import cross_entropy
from neurai_core.grads import PC

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_disable_most_optimizations", True)  # the programs run once
mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
model = neurai.models.mlp((6, 8, 4, 3), "tanh")
params, _ = model.init(jax.random.key(0), (6,))
params = jax.tree.map(lambda leaf: leaf.astype(float), params)
batch = jax.random.normal(jax.random.key(1), (8, 6)), jnp.arange(8) % 3
rule = neurai.algorithm("pc", loss="cross_entropy")


def local(params, batch):
    found = rule.estimate(model, params, (), batch)[0]
    outputs = rule.predict(model, params, batch[0], ())
    return jax.lax.pmean(found.grads, "data"), outputs, found.loss[None]


def seeds(params, batch):
    of = lambda share: local(jax.tree.map(lambda leaf: share * leaf, params), batch)[0]
    return jax.vmap(of)(jnp.array([1.0, 0.5]))


def spread(function, out, check=True):
    sharded = jax.shard_map(function, mesh=mesh, in_specs=(P(), P("data")), out_specs=out, check_vma=check)
    return jax.jit(sharded)


each = [rule.estimate(model, params, (), (batch[0][i : i + 2], batch[1][i : i + 2]))[0] for i in range(0, 8, 2)]
grads, outputs, losses = spread(local, (P(), P("data"), P("data")))(params, batch)
mean = jax.tree.map(lambda *leaves: sum(leaves) / 4, *[one.grads for one in each])
equal = lambda a, b: jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14), a, b)
equal(grads, mean)
equal(outputs, rule.predict(model, params, batch[0], ()))
equal(losses, jnp.stack([one.loss for one in each]))
equal(jax.tree.map(lambda leaf: leaf[0], spread(seeds, P())(params, batch)), mean)


# What works without the checks works with them: classes, traced numbers and models closed over, and derivatives.
def by_class(params, batch):
    return jax.lax.pmean(PC("cross_entropy").get_grads(model, params, batch)[0], "data")


def closed_over(params, batch):
    number = jnp.sum(params[0]["b"]) + 0.1
    traced = neurai.algorithm("pc", loss=lambda outputs, y: number * cross_entropy(outputs, y), eta=number)
    found = traced.estimate(model, params, (), batch)[0]
    return jax.lax.pmean(found.grads, "data")


def slope_of_loss(params, batch, check=True):
    mean = lambda p, b: jax.lax.pmean(rule.estimate(model, p, (), b)[0].loss, "data")
    return jax.grad(lambda p: spread(mean, P(), check)(p, batch))(params)


for function in (by_class, closed_over):
    equal(spread(function, P())(params, batch), spread(function, P(), False)(params, batch))
equal(slope_of_loss(params, batch), slope_of_loss(params, batch, False))
"""


@pytest.mark.slow
def test_a_rule_gives_each_device_the_estimate_of_its_rows() -> None:
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "4", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
