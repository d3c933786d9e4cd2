"""LIF networks trained by back-propagation through time equal the peers' code in float64, however they are run."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neurai_core.layered import dense
from neurai_core.losses import cross_entropy, mse
from neurai_core.models.spiking import LIF, SpikingNetwork, Stage
from neurai_surrogates.gaussian.shape import Gaussian
from neurai_surrogates.polynomial.shape import Polynomial
from neurai_surrogates.sigmoid.shape import Sigmoid
from neurai_surrogates.superspike.shape import SuperSpike

pytestmark = pytest.mark.golden

FOLDER = Path(__file__).parents[1] / "golden"
NETWORKS = {one["id"]: one for one in json.loads((FOLDER / "lif_networks.json").read_text())["networks"]}
SURROGATES = {made.__name__: made for made in (Gaussian, Polynomial, Sigmoid, SuperSpike)}
# That all forms agree is tested in test_spiking_networks; here one network each is compared in another than the usual.
FORMS = [
    *((name, {}) for name in NETWORKS),
    ("soft_attached_sigmoid", {"hoist": False}),
    ("hard_attached_polynomial", {"chunk": 7}),
    ("snntorch_leaky_superspike", {"store": "all"}),
]
TOLERANCE = {"spikingjelly": 1e-9, "snntorch": 1e-4}  # the manifest's; snntorch rounds spikes to float32


def cell_of(about):
    """The mapping of the peers' arguments to ours."""
    if about["lib"] == "snntorch":
        return LIF(decay=about["beta"], delay_reset=True, detach_reset=True)
    return LIF(
        decay=1 - 1 / about["tau"],
        input_gain="complement" if about["decay_input"] else 1.0,
        reset="soft" if about["v_reset"] is None else "hard",
        v_reset=about["v_reset"] or 0.0,
        detach_reset=about["detach"],
        threshold=about["th"],
    )


def golden(name):
    with np.load(FOLDER / "lif_networks.npz") as archive:
        return {key.split("/")[1]: archive[key] for key in archive.files if key.startswith(f"{name}/")}


def network_of(about, **options):
    settings = about["surrogate"]
    surrogate = SURROGATES[settings["name"]](alpha=settings["alpha"])
    stages = (Stage(dense(about["nh"]), cell_of(about)), Stage(dense(about["no"]), cell_of(about)))
    readout = "sum" if about["loss"] == "count_ce" else "mean"
    return SpikingNetwork(stages, surrogate, readout, **options)


def inputs_of(arrays):
    params = tuple(
        {"input": {"w": jnp.asarray(arrays[f"W{i}"].T), "b": jnp.asarray(arrays[f"b{i}"])}, "cell": {}} for i in (1, 2)
    )
    return params, jnp.asarray(arrays["x"], float).swapaxes(0, 1), jnp.asarray(arrays["y"])


@pytest.mark.parametrize(("name", "form"), FORMS, ids=str)
def test_loss_and_gradients_equal_the_peers(name, form, x64):
    about, arrays = NETWORKS[name], golden(name)
    network, score = network_of(about, **form), cross_entropy if about["loss"] == "count_ce" else mse
    params, x, y = inputs_of(arrays)
    loss, (grads, d_x) = jax.jit(jax.value_and_grad(lambda p, x: score(network(p, x), y), argnums=(0, 1)))(params, x)
    ours = {"loss": loss, "gx": d_x.swapaxes(0, 1)}
    for i in (1, 2):
        ours |= {f"gW{i}": grads[i - 1]["input"]["w"].T, f"gb{i}": grads[i - 1]["input"]["b"]}
    tolerance = TOLERANCE[about["lib"]]
    for key, value in ours.items():
        scale = np.abs(arrays[key]).max()
        np.testing.assert_allclose(value, arrays[key], rtol=tolerance, atol=tolerance * scale, err_msg=key)


@pytest.mark.parametrize("name", NETWORKS)
def test_spikes_and_membranes_equal_the_peers(name, x64):
    about, arrays = NETWORKS[name], golden(name)
    network = network_of(about)
    params, x, _ = inputs_of(arrays)
    for i, (stage, own, before) in enumerate(
        zip(network.stages, params, network.membranes(params, x), strict=True), start=1
    ):
        spikes, past = stage.fire(own, network.surrogate, before)
        np.testing.assert_array_equal(spikes, arrays[f"s{i}"])
        membrane = past.rest["v"] if about["lib"] == "spikingjelly" else before["v"]  # theirs before its reset
        np.testing.assert_allclose(membrane, arrays[f"v{i}"], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_spikes_are_the_same_in_float32(name):
    about, arrays = NETWORKS[name], golden(name)
    network = network_of(about, record=True)
    params, x, _ = jax.tree.map(lambda one: one.astype(jnp.float32), inputs_of(arrays))
    for i, spikes in enumerate(network(params, x).spikes, start=1):
        np.testing.assert_array_equal(spikes.swapaxes(0, 1), arrays[f"s{i}"])
