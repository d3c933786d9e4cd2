"""Scratch memory of a training step by the number of time steps: back-propagation through time beside online training.

python benchmarks/figures/ottt.py [--json FILE]

Xiao et al. 2022, arXiv:2210.04195, report that online training through time needs constant memory, however many steps
there are. Here: 64-128-128-10, a batch of 64, float32, as XLA plans it for the CPU; the input sequence is not counted.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from timing import write

import neurai_core as neurai
from neurai_core.models.spiking import snn

STEPS = (10, 30, 100, 300, 1000)
RULES = {
    "`bp`": ("bp", {}),
    "`eprop`": ("eprop", {}),
    "`eprop`, `forward`": ("eprop", {"direction": "forward"}),
    "`ottt`": ("ottt", {}),
    "`decolle`": ("decolle", {}),
}


def scratch(name: str, settings: dict[str, Any], steps: int) -> float:
    """Megabytes of temporary memory of one estimate."""
    model = snn((64, 128, 128, 10), surrogate=neurai.surrogate("superspike"))
    params, _ = model.init(jax.random.key(0), (steps, 64))
    rule = neurai.algorithm(name, loss="cross_entropy", **settings)
    state = rule.init(model, params, key=jax.random.key(1))
    batch = jax.ShapeDtypeStruct((64, steps, 64), jnp.float32), jax.ShapeDtypeStruct((64,), jnp.int32)
    compiled = jax.jit(partial(rule.estimate, model)).lower(params, state, batch).compile()
    return float(compiled.memory_analysis().temp_size_in_bytes) / 1e6


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", help="write the figures to this file")
    args = parser.parse_args()
    found = {label: [scratch(*rule, steps) for steps in STEPS] for label, rule in RULES.items()}
    print("| steps |", " | ".join(map(str, STEPS)), "|")
    print("| --- |", " | ".join("---" for _ in STEPS), "|")
    for label, sizes in found.items():
        print(f"| {label} |", " | ".join(f"{size:.2f} MB" for size in sizes), "|")
    write(args.json, {"steps": list(STEPS), "megabytes": found})


if __name__ == "__main__":
    main()
