"""NIR: a network that is written and read again computes the same; what cannot be is named."""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neurai_core.errors import MissingExtra, ModelError
from neurai_core.layered import dense
from neurai_core.models.spiking import ALIF, LIF, Leaky, SpikingNetwork, Stage, from_nir, snn, to_nir
from neurai_surrogates.shapes.superspike import SuperSpike

CELLS = {
    "soft": LIF(0.9),
    "hard": LIF(0.9, reset="hard", v_reset=-0.1, v_rest=0.05, input_gain="complement", threshold=0.7),
    "delayed": LIF(0.85, delay_reset=True, detach_reset=False, input_gain=0.5),
    "synapse": LIF(0.9, synapse=0.7),
    "learned": LIF(0.9, synapse=0.7, learn=("decay", "synapse", "threshold")),
}


def network(cell, recurrent=True):
    stages = (Stage(dense(7), cell, recurrent), Stage(dense(3, bias=False), Leaky(0.8, synapse=0.5)))
    return SpikingNetwork(stages, SuperSpike(10.0))


def problem(model):
    params, _ = model.init(jax.random.key(0), (20, 4))
    params = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(jax.random.key(2), p.shape, p.dtype), params)
    return params, jax.random.normal(jax.random.key(1), (5, 20, 4)) * 2


@pytest.mark.parametrize("name", CELLS)
def test_a_network_survives_the_round_trip(name, x64, tmp_path):
    nir = pytest.importorskip("nir")
    model = network(CELLS[name], recurrent=name != "soft")
    params, x = problem(model)
    nir.write(tmp_path / "network.nir", to_nir(model, params))
    again, numbers = from_nir(nir.read(tmp_path / "network.nir"), surrogate=SuperSpike(10.0))
    np.testing.assert_allclose(again(numbers, x), model(params, x), rtol=1e-9, atol=1e-12)
    assert model.membranes(params, x)[0]["v"].max() > 0.5
    for ours, theirs in zip(params, numbers, strict=True):
        np.testing.assert_allclose(ours["input"]["w"], theirs["input"]["w"], rtol=1e-12)


def test_a_gain_that_differs_goes_into_the_weights(x64):
    nir = pytest.importorskip("nir")
    tau, r = np.array([5e-4, 1e-3]), np.array([2.0, 3.0])
    neuron = nir.LI(tau=tau, r=r, v_leak=np.zeros(2))
    graph = nir.NIRGraph.from_list(nir.Affine(np.eye(2), np.ones(2)), neuron)
    model, params = from_nir(graph, surrogate=None, readout="last")
    decay, by_hand = 1 - 1e-4 / tau, np.zeros(2)
    for _ in range(7):
        by_hand = decay * by_hand + 1e-4 / tau * r * (np.array([0.5, -1.0]) + 1)
    x = jnp.broadcast_to(jnp.array([0.5, -1.0]), (1, 7, 2))
    np.testing.assert_allclose(model(params, x)[0], by_hand, rtol=1e-12)


def test_a_node_that_is_not_known_is_named():
    nir = pytest.importorskip("nir")
    threshold = nir.NIRGraph.from_list(nir.Affine(np.eye(2), np.ones(2)), nir.Threshold(np.ones(2)))
    with pytest.raises(ModelError, match="node 'threshold' of type Threshold, which is not known"):
        from_nir(threshold, surrogate=None)
    twice = nir.NIRGraph.from_list(nir.Linear(np.eye(2)), nir.Linear(np.eye(2)))
    with pytest.raises(ModelError, match="'linear_1' of the NIR graph follows 'linear', expected neurons"):
        from_nir(twice, surrogate=None)
    differing = nir.LI(tau=np.full(2, 1e-3), r=np.ones(2), v_leak=np.array([0.0, 1.0]))
    with pytest.raises(ModelError, match="'li' of the NIR graph differ in v_leak"):
        from_nir(nir.NIRGraph.from_list(nir.Linear(np.eye(2)), differing), surrogate=None)


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ((Stage(dense(3), ALIF()),), "Stage 0 has ALIF neurons"),
        ((Stage(dense(3, "relu"), LIF()),), "only dense ones"),
        ((Stage(dense(3), LIF(1.0)),), "a decay of 1"),
    ],
)
def test_what_nir_does_not_know_is_not_written(stages, words):
    pytest.importorskip("nir")
    model = SpikingNetwork(stages, None)
    with pytest.raises(ModelError, match=words):
        to_nir(model, model.init(jax.random.key(0), (5, 4))[0])


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "nir", None)
    model = snn((4, 3), surrogate=None)
    with pytest.raises(MissingExtra, match=r"neurai\[nir\]"):
        to_nir(model, model.init(jax.random.key(0), (5, 4))[0])
