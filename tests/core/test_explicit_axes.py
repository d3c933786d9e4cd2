"""Rules on meshes with explicit axes, JAX's default: the gradients of one device, sharded like the parameters."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

SCRIPT = """
import warnings
import jax, jax.numpy as jnp, numpy as np
import neurai_core as neurai
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from neurai_core.grads import BP, EP, PC

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_disable_most_optimizations", True)  # the programs are large and run once
mesh = jax.make_mesh((4, 2), ("data", "model"))
assert set(mesh.axis_types) == {AxisType.Explicit}
rows, whole = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
model = neurai.models.mlp((6, 8, 4, 3))
params, _ = model.init(jax.random.key(0), (6,))
params = jax.tree.map(lambda leaf: leaf.astype(float), params)
batch = jax.random.normal(jax.random.key(1), (16, 6)), jnp.arange(16) % 3
spread = jax.device_put(batch, rows)


def equal(found, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(jax.device_get(a), b, rtol=1e-12, atol=1e-14), found, expected)


def case(name, model, params, **settings):
    loss = "sum_squared_error" if name == "bipc" else "cross_entropy"
    rule = neurai.algorithm(name, loss=loss, **settings)
    state = rule.init(model, params, key=jax.random.key(2))
    step = jax.jit(lambda params, state, batch: rule.estimate(model, params, state, batch))
    expected = step(params, state, batch)
    held = jax.device_put((params, state), whole)
    with jax.set_mesh(mesh):
        found = step(*held, spread)
        outputs = jax.jit(lambda params, x: rule.predict(model, params, x, held[1]))(held[0], spread[0])
    equal((found[0].grads, found[0].loss, found[1]), (expected[0].grads, expected[0].loss, expected[1]))
    equal(outputs, rule.predict(model, params, batch[0], state))
    assert jax.typeof(outputs).sharding.spec[0] == "data", outputs.sharding
"""
RULES = {
    "rules": """
        case("bp", model, params)
        case("pc", model, params)
        case("pc", model, params, mode="error")
        case("pc", model, params, mode="fixed_pred")
        case("pc", model, params, mode="incremental")
    """,
    "more rules": """
        case("ep", model, params)
        case("ep", model, params, energy="hopfield", activation="sigmoid", mode="symmetric", beta=0.1)
        rule = neurai.algorithm("bipc", loss="sum_squared_error")
        case("bipc", *rule.extended(model, params, key=jax.random.key(0), input_shape=(6,)))
    """,
    "classes, and parameters in parts": """
        for method in (BP("cross_entropy"), PC("cross_entropy"), EP("cross_entropy")):
            grads = method.get_grads(model, params, batch)[0]
            # No mesh is set: that of the arrays counts.
            equal(method.get_grads(model, jax.device_put(params, whole), spread)[0], grads)
        parts = jax.device_put(params, NamedSharding(mesh, P()))
        parts[0]["w"] = jax.device_put(params[0]["w"], NamedSharding(mesh, P(None, "model")))
        rule = neurai.algorithm("pc", loss="cross_entropy")
        with jax.set_mesh(mesh):
            found = jax.jit(lambda p, batch: rule.estimate(model, p, (), batch)[0].grads)(parts, spread)
        equal(found, PC("cross_entropy").get_grads(model, params, batch)[0])
        assert jax.typeof(found[0]["w"]).sharding.spec == P(None, "model"), found[0]["w"].sharding
    """,
    "wrappers": """
        key = jax.random.key(3)
        for wrapped in (neurai.accumulate(neurai.algorithm("pc"), 4), neurai.per_example(neurai.algorithm("pc"))):
            step = jax.jit(lambda params, batch, key: wrapped.estimate(model, params, (), batch, key=key)[0])
            expected = step(params, batch, key)
            for where in (whole, NamedSharding(mesh, P("model"))):
                held = [{**one, "b": jax.device_put(one["b"], whole)} for one in jax.device_put(params, whole)]
                held[0]["w"] = jax.device_put(params[0]["w"], where)
                with jax.set_mesh(mesh):
                    found = step(tuple(held), spread, key)
                equal((found.grads, found.loss), (expected.grads, expected.loss))
            sharding = jax.typeof(found.grads[0]["w"]).sharding.spec
            assert sharding[0] == ("data" if found.loss.ndim else "model"), sharding
    """,
    "the warning that the energy rises": """
        rule = neurai.algorithm("pc", loss="mse", eta=3.0, stable=False)
        given = jax.device_put((params, ()), whole), jax.device_put((batch[0], jnp.ones((16, 3))), rows)
        with jax.set_mesh(mesh), warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            jax.block_until_ready(jax.jit(lambda held, b: rule.estimate(model, *held, b)[0].loss)(*given))
        assert [one.category for one in seen] == [neurai.RisingEnergy], seen
    """,
}


@pytest.mark.parametrize("what", [pytest.param(one, marks=() if one == "rules" else pytest.mark.slow) for one in RULES])
def test_rules_give_the_numbers_of_one_device(what: str) -> None:
    script = SCRIPT + textwrap.dedent(RULES[what])
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
