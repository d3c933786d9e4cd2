"""The picture of a relaxation, and what it says."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from equilibrium_oracle import problem

import neurai_core as neurai
from neurai_core.errors import OutputError
from neurai_core.report.relaxation import relaxation, words

RELAXES = neurai.spec("algorithm", "ep").relaxes


def traced(**settings):
    model, params, batch = problem()
    rule = neurai.algorithm("ep", loss="squared_error", trace=True, **settings)
    return jax.jit(rule.estimate, static_argnums=0)(model, params, (), batch)[0].aux["trace"]


@pytest.mark.slow
def test_a_hopfield_network_has_settled_at_the_presets_dt_and_not_at_the_default(tmp_path):
    settings = {"energy": "hopfield", "activation": "sigmoid", "mode": "symmetric", "beta": 0.5}
    said = relaxation(traced(**settings, dt=0.5), tmp_path / "settled.png", RELAXES)
    assert said.splitlines()[0].startswith("The free phase had settled")
    said = relaxation(traced(**settings, n_relax=5), tmp_path / "not.png", RELAXES)
    assert said.splitlines()[0].startswith("The free phase had not settled: after 5 steps")
    assert "Raise n_relax or dt" in said
    assert [line.split()[1:3] for line in said.splitlines()] == [["free", "phase"], ["nudged", "1"], ["nudged", "2"]]
    assert (tmp_path / "not.png").stat().st_size > 1000


def test_a_skipped_free_phase_is_said_to_have_begun_at_rest(tmp_path):
    said = relaxation(traced(), tmp_path / "gaussian.png", RELAXES, tol=1e-2, title="ep")
    assert said.startswith("The free phase was skipped: it began at rest.\nThe nudged phase had")


def test_words_name_the_cure():
    rising = {"energy": np.array([0.0, 1.0, 0.5]), "residual": np.array([1.0, 2.0, 1.0])}
    assert words("free", rising, RELAXES).endswith("Lower dt: the energy rose on the way.")
    blown = {"energy": np.array([0.0, np.inf]), "residual": np.array([1.0, np.nan])}
    assert words("free", blown, RELAXES) == "The free phase blew up at step 1. Lower dt."
    assert "had settled" in words("free", {"energy": np.zeros(3), "residual": np.zeros(3)}, RELAXES)


def test_a_folder_that_is_not_there_is_one_clear_error(tmp_path):
    with pytest.raises(OutputError, match="cannot be written"):
        relaxation(traced(), tmp_path / "nowhere" / "picture.png", RELAXES)
