"""The learning window of STDP, measured from single pairs of spikes, beside the published exponentials.

python benchmarks/figures/stdp.py [--json FILE]

Song, Miller and Abbott 2000, doi:10.1038/78829: a pair changes a weight by A_+ exp(-dt / tau_+) if the input came first
and by -A_- exp(dt / tau_-) if it came last. Here: A_+ = 0.1, A_- = 0.105, both time constants 20 steps, float64.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import jax
import jax.numpy as jnp

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from timing import write

import neurai_core as neurai
from neurai_core.layered import dense
from neurai_core.models.spiking import LIF, SpikingNetwork, Stage

A_PLUS, A_MINUS, TAU = 0.1, 0.105, 20.0
DELAYS = (-40, -20, -10, -5, -1, 1, 5, 10, 20, 40)


def measured(delay: int) -> float:
    """The change of a weight by an input spike at step 50 and a spike of the neuron this much later."""
    rule = neurai.algorithm("stdp", bounds="none", a_plus=A_PLUS, a_minus=A_MINUS, tau_plus=TAU, tau_minus=TAU)
    model = SpikingNetwork((Stage(dense(1, bias=False), LIF(0.0)),), neurai.surrogate("superspike"))
    params = ({"input": {"w": jnp.array([[0.1], [100.0]])}, "cell": {}},)  # the second input decides when it fires
    x = jnp.zeros((1, 101, 2)).at[0, 50, 0].set(1.0).at[0, :, 1].set(-1.0).at[0, 50 + delay, 1].set(1.0)
    return -float(rule.estimate(model, params, (), (x, jnp.zeros((1, 0))))[0].grads[0]["input"]["w"][0, 0])


def published(delay: int) -> float:
    """The exponential window."""
    return A_PLUS * math.exp(-delay / TAU) if delay > 0 else -A_MINUS * math.exp(delay / TAU)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", help="write the figures to this file")
    args = parser.parse_args()
    with jax.enable_x64(True):
        ours = [measured(delay) for delay in DELAYS]
    print("| output after input, steps |", " | ".join(map(str, DELAYS)), "|")
    print("| --- |", " | ".join("---" for _ in DELAYS), "|")
    print("| published |", " | ".join(f"{published(delay):.5f}" for delay in DELAYS), "|")
    print("| measured |", " | ".join(f"{one:.5f}" for one in ours), "|")
    write(args.json, {"delays": list(DELAYS), "published": [published(d) for d in DELAYS], "measured": ours})


if __name__ == "__main__":
    main()
