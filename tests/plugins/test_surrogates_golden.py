"""Surrogates against what other libraries compute; the manifests hold their calls and our settings.

What no library computes is compared with its published formula alone, in `test_surrogates_formulas`.
"""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neurai_core.grads import surrogate_grad

pytestmark = pytest.mark.golden

GOLDEN = Path(__file__).parent.parent / "golden"
FILES = ("surrogates", "surrogates_further")
CASES = [(file, case) for file in FILES for case in json.loads((GOLDEN / f"{file}.json").read_text())["cases"]]
# Another function of the same name, but for the one width at which the two are one.
CONTROLS = [pair for pair in CASES if pair[1].get("negative_control") and pair[1]["params"] != {"alpha": 1.0}]
AGREEING = [pair for pair in CASES if pair not in CONTROLS]
LITERAL = "Gaussian (literal primitive erfc(-alpha u)/2)"  # offered under a name of its own
# At these points of the grid g jumps, and libraries differ in the side that the point belongs to.
JUMPS = {"PiecewiseLeakyReLU": (-1.0, 1.0), "LogTailedReLU": (0.0,)}


@pytest.fixture(scope="module")
def golden():
    return {file: dict(np.load(GOLDEN / f"{file}.npz")) for file in FILES}


def name_of(case):
    return "Erf" if case["surrogate"] == LITERAL else case["surrogate"].partition(" ")[0]


def ours(case):
    return getattr(surrogate_grad, name_of(case))(**case["params"])


def label(pair):
    return pair[1]["id"]


@pytest.mark.parametrize("pair", AGREEING, ids=label)
def test_equal_to_the_library_at_the_manifests_tolerance(pair, golden, x64):
    file, case = pair
    arrays, surrogate = golden[file], ours(case)
    u = arrays["u"]
    smooth = ~np.isin(np.round(u, 9), JUMPS.get(name_of(case), ()))
    # Where a library computes s (1 - s) it cancels in the far tail of the sigmoid; elsewhere digits agree.
    close = {"rtol": 1e-6 if name_of(case) == "Sigmoid" else 1e-11, "atol": 1e-12}
    expected = arrays[f"{case['id']}/grad"]
    gradient = jax.grad(lambda u: surrogate(u).sum())(jnp.asarray(u))
    for found in (surrogate.derivative(u), gradient):
        np.testing.assert_allclose(found[smooth], expected[smooth], **close)
    if "primitive" in case["arrays"]:
        soft = surrogate.replace(spiking=False)
        added = 1e-5 if name_of(case) == "S2NN" else 0  # the library's logarithm is of u + 1 + 1e-5
        np.testing.assert_allclose(soft(u), arrays[f"{case['id']}/primitive"], rtol=1e-14, atol=1e-15 + added)
    if "spike" in case["arrays"]:
        away = u != 0  # at 0 some libraries spike and some do not
        np.testing.assert_array_equal(surrogate(u)[away], arrays[f"{case['id']}/spike"][away])


@pytest.mark.parametrize("pair", CONTROLS, ids=label)
def test_other_functions_of_the_same_name_are_told_apart(pair, golden, x64):
    file, case = pair
    difference = jnp.abs(ours(case).derivative(golden[file]["u"]) - golden[file][f"{case['id']}/grad"])
    assert float(jnp.max(difference)) > 0.1
