"""Equilibrium propagation against five public codes, float64, to 1e-12.

Cases, conventions, commits and hashes are in tests/golden/ep_reference.json. Two of the codes move s <- act(dPhi/ds)
with activities after the activation: that energy is written here, as a third party would.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neurai_algorithms.equilibrium.api import EP
from neurai_algorithms.equilibrium.spec import EPMode
from neurai_core.energy import Coupled, dot
from neurai_core.layered import Layered, dense, hard_sigmoid, identity
from neurai_core.losses import loss_function
from neurai_core.registry import REGISTRY

FOLDER = Path(__file__).parents[1] / "golden"
CASES = json.loads((FOLDER / "ep_reference.json").read_text())["cases"]
ARRAYS = np.load(FOLDER / "ep_reference.npz")
BAR = 1e-12


@pytest.fixture(autouse=True)
def setting(x64, quick_compile):
    """Float64, and programs that need not be fast."""


def of(source):
    return [pytest.param(case, id=case["id"]) for case in CASES if case["source"] == source]


def network(case, activation="identity", scale=1.0):
    """Model, parameters, batch and initial activities of a case."""
    base = case["base"]
    depth = sum(name.startswith(f"{base}/W") for name in ARRAYS.files)
    params = tuple(
        {"w": jnp.asarray(scale * ARRAYS[f"{base}/W{l}"].T), "b": jnp.asarray(ARRAYS[f"{base}/b{l}"])}
        for l in range(depth)
    )
    widths = [p["b"].size for p in params]
    model = Layered([*(dense(width, activation) for width in widths[:-1]), dense(widths[-1])])
    start = tuple(jnp.asarray(ARRAYS[f"{base}/u_init{l + 1}"]) for l in range(depth))
    return model, params, (jnp.asarray(ARRAYS[f"{base}/x"]), jnp.asarray(ARRAYS[f"{base}/y"])), start


def assert_same_gradients(grads, case, prefix):
    for l, layer in enumerate(grads):
        np.testing.assert_allclose(layer["w"].T, ARRAYS[f"{case['id']}/{prefix}_W{l}"], rtol=0, atol=BAR)
        np.testing.assert_allclose(layer["b"], ARRAYS[f"{case['id']}/{prefix}_b{l}"], rtol=0, atol=BAR)


def clip(u):
    """The hard sigmoid with zero slope outside, as that code has it: not projected."""
    return jnp.clip(u, 0.0, 1.0)


RHO = {"sigmoid": "sigmoid", "relu": "relu", "softplus": "softplus", "tanh": "tanh", "hard_sigmoid": clip}
ENERGY = {"restr_hopfield": "hopfield", "cond_gaussian": "gaussian"}


@pytest.mark.few(20)
@pytest.mark.filterwarnings("ignore:EP. after n_relax")
@pytest.mark.parametrize("case", of("smonsays"))
def test_both_energies_with_costs_activations_steps_and_early_stops(case):
    model, params, batch, start = network(case)
    method = EP(
        case["cost"],
        None,
        case["beta"],
        case["dt"],
        case["n_relax"],
        case["tau"],
        case["tol"],
        activation=RHO[case["activation"]],
        energy=ENERGY[case["energy"]],
        init="feedforward" if case["init"] == "feedforward" else start,
    )
    grads, accuracy, loss, energy = method.get_grads(model, params, batch)
    assert_same_gradients(grads, case, "gep")
    assert abs(energy - ARRAYS[f"{case['id']}/F_nudged"].mean()) < BAR
    assert abs(loss - ARRAYS[f"{case['id']}/C_free"].mean()) < BAR
    assert accuracy == -1


@pytest.mark.parametrize("case", [case for case in of("smonsays") if case.values[0]["tag"] == "tol"])
@pytest.mark.filterwarnings("ignore:EP. after n_relax")
def test_steps_and_residuals_of_both_phases(case):
    model, params, batch, start = network(case)
    settings = {name: case[name] for name in ("beta", "dt", "n_relax", "tau", "tol", "activation")}
    context = {"loss": loss_function(case["cost"]), "activities": start}
    rule = REGISTRY.create("algorithm", "ep", context, {**settings, "energy": ENERGY[case["energy"]]})
    estimate, _ = jax.jit(rule.estimate, static_argnums=0)(model, params, (), batch)
    assert estimate.aux["steps_free"] == case["steps_free"]
    assert estimate.aux["steps_nudged"] == case["steps_nudged"]
    np.testing.assert_allclose(estimate.aux["residual_free"], case["du_norm_last_free"], rtol=1e-10)
    np.testing.assert_allclose(estimate.aux["residual"], case["du_norm_last_nudged"], rtol=1e-10)


ALGORITHMS = {
    "PEP": (EPMode.TWO_PHASE_MATCHED, 1),
    "NEP": (EPMode.TWO_PHASE_MATCHED, -1),
    "CEP": (EPMode.SYMMETRIC, 1),
    "CL": (EPMode.CONTRASTIVE, 1),
    "CCpL": (EPMode.COUPLED, 1),
}


@pytest.mark.few(3)
@pytest.mark.parametrize("case", of("rain"))
def test_projected_hard_sigmoid_in_both_orders_with_coupled_and_contrastive_learning(case):
    model, params, batch, _ = network(case, hard_sigmoid, 0.5)
    mode, sign = ALGORITHMS[case["algorithm"]]
    method = EP(
        "squared_error",
        None,
        sign * case["nudging"],
        dt=1.0,
        n_relax=case["n_free"],
        n_nudged=case["n_train"],
        mode=mode,
        energy="hopfield",
        order="synchronous" if case["update_order"] == "synchronous" else "even_odd",
    )
    grads, _, loss, _ = method.get_grads(model, params, batch)
    assert_same_gradients(grads, case, "g")
    assert abs(loss - ARRAYS[f"{case['id']}/C_free"].mean()) < BAR


# ---------------------------------------------------------------------------- a third party's energy


@dataclass(frozen=True)
class Primitive(Coupled):
    """s <- act(dPhi/ds - nudge), Phi = sum_l s_{l+1} . map_l(s_l); the last block may be a readout of its own."""

    act: Callable
    act_last: Callable
    reads_out: bool = False

    @property
    def readout(self):
        return self.reads_out

    def feedforward(self, chain, params):
        return chain.feedforward(params)[: len(chain.blocks) - self.reads_out]

    def value(self, chain, params, s):
        pairs = zip(chain.blocks, (chain.x, *s[:-1]), s, strict=False)
        return -sum(dot(above, block.map(params, below)) for block, below, above in pairs)

    def outputs(self, chain, params, top):
        return chain.blocks[-1].map(params, top) if self.reads_out else top

    def force(self, chain, params, drive, s, nudge):
        seen = [
            jax.vjp(lambda v, f=block.map: f(params, v), v) for block, v in zip(chain.blocks[1:], s[:-1], strict=False)
        ]
        inputs = [drive, *(prediction for prediction, _ in seen)]
        for l, (_, back) in enumerate(seen):
            inputs[l] += back(s[l + 1])[0]
        inputs[-1] -= 0 if nudge is None else nudge
        acts = (*(self.act,) * (len(s) - 1), self.act_last)
        return tuple(v - act(i) for v, act, i in zip(s, acts, inputs, strict=True))

    def couplings(self, chain, params, drive, s):
        return list(zip((chain.x, *s[:-1]), s, strict=True))


def steep_sigmoid(u):
    return 1 / (1 + jnp.exp(-4 * (u - 0.5)))


@pytest.mark.few(3)
@pytest.mark.parametrize("case", of("laborieux2021"))
@pytest.mark.parametrize(
    ("prefix", "mode", "sign"),
    [("gpos", EPMode.TWO_PHASE, 1), ("gneg", EPMode.TWO_PHASE, -1), ("gsym", EPMode.SYMMETRIC, 1)],
)
def test_the_primitive_function_with_three_estimators(case, prefix, mode, sign):
    model, params, batch, _ = network(case, scale=0.5)
    act = {"mysig": steep_sigmoid, "tanh": jnp.tanh}[case["activation"]]
    energy = Primitive(act, act if case["loss"] == "mse" else identity)
    cost = {"mse": "squared_error", "cel": "cross_entropy"}[case["loss"]]
    method = EP(cost, None, sign * case["beta"], 1.0, case["T1"], mode=mode, energy=energy, n_nudged=case["T2"])
    assert_same_gradients(method.get_grads(model, params, batch)[0], case, prefix)


@pytest.mark.parametrize("case", of("holomorphic_eqprop"))
def test_holomorphic_with_a_readout_outside_the_dynamics(case):
    model, params, batch, _ = network(case, scale=0.5)
    energy = Primitive(steep_sigmoid, steep_sigmoid, reads_out=True)
    method = EP(
        "cross_entropy",
        None,
        case["beta"],
        1.0,
        case["T1"],
        mode=EPMode.HOLOMORPHIC,
        n_points=case["N"],
        energy=energy,
        n_nudged=case["T2"],
    )
    assert_same_gradients(method.get_grads(model, params, batch)[0], case, "g")
