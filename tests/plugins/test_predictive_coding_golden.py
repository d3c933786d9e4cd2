"""Predictive coding against the reference implementation's own numbers; the manifest beside them says whose."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from neurai_algorithms.predictive_coding.rule import build
from neurai_algorithms.predictive_coding.spec import PCConfig
from neurai_core.layered import Layered, avg_pool, block, conv, dense, linear_layer, no_params

pytestmark = pytest.mark.golden

FILES = Path(__file__).parents[1] / "golden"
MANIFEST = json.loads((FILES / "pc_torch2pc.json").read_text())
MODES = {"Strict": "strict", "FixedPred": "fixed_pred", "Exact": "exact"}
LOSSES = {
    "mse_sum": lambda o, y: jnp.sum((o - y) ** 2),
    "ce_sum": lambda o, y: jnp.sum(optax.softmax_cross_entropy_with_integer_labels(o, y)),
    "ce_mean": lambda o, y: jnp.mean(optax.softmax_cross_entropy_with_integer_labels(o, y)),
}


@pytest.fixture(scope="module")
def arrays():
    with np.load(FILES / "pc_torch2pc.npz") as stored:
        return dict(stored)


def channels_first(x):
    return x.transpose(0, 3, 1, 2) if x.ndim == 4 else x


def flatten_channels_first(params, x):
    return channels_first(x).reshape(x.shape[0], -1)


def part_of(op, activation, weights):
    """One operation of the manifest as a layer of ours, with its parameters."""
    kind = op["op"]
    if kind == "linear":
        w, b = weights
        return dense(len(b), activation), {"w": w.T, "b": b}
    if kind == "conv2d":
        w, b = weights
        padding = tuple((p, p) for p in op["padding"])
        layer = conv(len(b), tuple(op["kernel"]), tuple(op["stride"]), padding, activation)
        return layer, {"w": w.transpose(2, 3, 1, 0), "b": b}
    if kind.startswith("avgpool"):
        return avg_pool(op["kernel"], op["stride"]), ()
    return linear_layer(no_params, flatten_channels_first, "identity", "flatten"), ()


def layer_of(ops, stored, prefix):
    parts = []
    for op, following in zip(ops, [*ops[1:], {"op": ""}], strict=True):
        if op["op"] not in ("tanh", "relu"):
            activation = following["op"] if following["op"] in ("tanh", "relu") else "identity"
            weights = [stored[prefix + op[name]] for name in ("weight", "bias_name") if name in op]
            parts.append(part_of(op, activation, weights))
    layers, params = zip(*parts, strict=True)
    return (layers[0], params[0]) if len(parts) == 1 else (block(*layers), params)


def problem(case, stored):
    pairs = [layer_of(ops, stored, f"{case}/param/{l}.") for l, ops in enumerate(MANIFEST["cases"][case]["layers"], 1)]
    layers, params = zip(*pairs, strict=True)
    x = stored[f"{case}/x"]
    x = x.transpose(0, 2, 3, 1) if x.ndim == 4 else x
    return Layered(layers), jax.tree.map(jnp.asarray, (params, x, stored[f"{case}/target"]))


def weight_gradient(grads):
    own = grads if isinstance(grads, dict) else grads[0]
    w = own["w"]
    return {"0.weight": w.T if w.ndim == 2 else w.transpose(3, 2, 0, 1), "0.bias": own["b"]}


def found_arrays(estimate, mode):
    """What we found, under the manifest's keys."""
    yield "loss", estimate.loss
    for l, error in enumerate(estimate.aux["errors"], 1):
        yield f"eps_{l}", channels_first(error)
    for l, activity in enumerate(estimate.aux["activities"] if mode != "Exact" else (), 1):
        yield f"v_{l}", channels_first(activity)
    for l, grads in enumerate(estimate.grads, 1):
        for name, value in weight_gradient(grads).items():
            yield f"grad/{l}.{name}", value


def compare(estimate, stored, case, mode, where):
    prefix = f"{case}/{mode}/"
    cond = float(stored[prefix + "cond"][where]) if prefix + "cond" in stored else 1.0
    rtol = max(1e-10, 1e-14 * cond)  # the manifest's rule
    for name, ours in found_arrays(estimate, mode):
        theirs = stored[f"{case}/loss"] if name == "loss" else stored[prefix + name][where]
        assert ours.shape == theirs.shape, name
        assert np.abs(ours - theirs).max() <= rtol * np.abs(theirs).max() + 1e-13, (name, where)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", MANIFEST["cases"])
def test_every_array_of_the_reference_is_reproduced(case, mode, arrays, x64):
    model, (params, x, y) = problem(case, arrays)
    grid = MANIFEST["cases"][case]
    loss = LOSSES[grid["loss"]]

    def estimate(eta, n):
        sweeps = {} if MODES[mode] == "exact" else {"n": n}
        config = PCConfig(mode=MODES[mode], keep_activities=True, **sweeps).model_copy(
            update={"eta": eta, "stable": False}
        )
        return build(config, loss=loss).estimate(model, params, (), (x, y))[0]

    if mode == "Exact":
        compare(jax.jit(estimate, static_argnums=1)(0.1, 20), arrays, case, mode, ...)
        return
    valid = arrays[f"{case}/{mode}/valid"]
    for j, n in enumerate(grid["n"]):
        run = jax.jit(estimate, static_argnums=1)
        for i, eta in enumerate(grid["eta"]):
            if valid[i, j]:
                compare(run(eta, n), arrays, case, mode, (i, j))
