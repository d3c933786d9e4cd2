"""Surrogates against what other libraries compute; the manifest holds their calls and our settings."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neurai_core as neurai
import neurai_surrogates
from neurai_core.grads import surrogate_grad
from neurai_core.plugin import Plugin

GOLDEN = Path(__file__).parent.parent / "golden"
CASES = json.loads((GOLDEN / "surrogates.json").read_text())["cases"]
CONTROLS = [case for case in CASES if case.get("negative_control")]
AGREEING = [case for case in CASES if case not in CONTROLS]


@pytest.fixture(autouse=True, scope="module")
def every_built_in_surrogate_is_found_by_name():
    with ExitStack() as stack:
        for plugin in vars(neurai_surrogates).values():
            if isinstance(plugin, Plugin):
                stack.enter_context(neurai.temporary(plugin, replace=True))
        yield


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "surrogates.npz") as arrays:
        return dict(arrays)


def ours(case):
    return getattr(surrogate_grad, case["surrogate"].partition(" ")[0])(**case["params"])


def test_every_built_in_surrogate_is_compared():
    classes = {name for plugin in vars(neurai_surrogates).values() if isinstance(plugin, Plugin)
               for name in plugin.neurai_spec().offers}  # fmt: skip
    assert {case["surrogate"] for case in AGREEING} == classes


@pytest.mark.parametrize("case", AGREEING, ids=lambda case: case["id"])
def test_equal_to_the_library_at_the_manifests_tolerance(case, golden, x64):
    surrogate, u = ours(case), jnp.asarray(golden["u"])
    # Where a library computes s (1 - s) it cancels in the far tail of the sigmoid; elsewhere digits agree.
    close = {"rtol": 1e-6 if case["surrogate"] == "Sigmoid" else 1e-11, "atol": 1e-12}
    np.testing.assert_allclose(surrogate.derivative(u), golden[f"{case['id']}/grad"], **close)
    gradient = jax.grad(lambda u: surrogate(u).sum())(u)
    np.testing.assert_allclose(gradient, golden[f"{case['id']}/grad"], **close)
    if "primitive" in case["arrays"]:
        soft = surrogate.replace(spiking=False)
        np.testing.assert_allclose(soft(u), golden[f"{case['id']}/primitive"], rtol=1e-14, atol=1e-15)
    if "spike" in case["arrays"]:
        away = golden["u"] != 0  # at 0 some libraries spike and some do not
        np.testing.assert_array_equal(surrogate(u)[away], golden[f"{case['id']}/spike"][away])


@pytest.mark.parametrize("case", CONTROLS, ids=lambda case: case["id"])
def test_other_functions_of_the_same_name_are_told_apart(case, golden, x64):
    difference = jnp.abs(ours(case).derivative(golden["u"]) - golden[f"{case['id']}/grad"])
    assert float(jnp.max(difference)) > 0.1
