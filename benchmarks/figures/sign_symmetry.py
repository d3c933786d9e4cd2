"""Sign-symmetry: the signs of the feedback weights matter, and their magnitudes do not.

python benchmarks/figures/sign_symmetry.py [--seeds 3] [--json FILE]

Liao, Leibo and Poggio 2016, arXiv:1510.05067, report on 15 data sets that magnitudes do not matter to performance, and
that signs do. Here: digits, ten hidden layers of 128 tanh units, Adam at 1e-3, batches of 64, 25 epochs.
"""

from __future__ import annotations

from typing import Any

import optax
from digits_run import last, run, script

import neurai_core as neurai

HIDDEN, EPOCHS, STEPS = (128,) * 10, 25, optax.adam(1e-3)
RULES: dict[str, tuple[str, dict[str, Any]]] = {
    "bp": ("bp", {}),
    "signs, uniform magnitudes": ("sign-symmetry", {}),
    "signs, fixed random magnitudes": ("sign-symmetry", {"magnitude": "fixed"}),
    "signs, random magnitudes per batch": ("sign-symmetry", {"magnitude": "batch"}),
    "random signs (fa)": ("fa", {}),
}


def figure(seed: int) -> dict[str, Any]:
    """Test errors in percent."""
    return {
        name: last(run(neurai.algorithm(rule, **settings), HIDDEN, STEPS, EPOCHS, seed)).test_error
        for name, (rule, settings) in RULES.items()
    }


if __name__ == "__main__":
    script(__doc__, figure)
