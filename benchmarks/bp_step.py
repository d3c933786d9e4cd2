"""What does `BP.get_grads` cost over a hand-jitted `jax.value_and_grad`? On a real step and on a tiny net.

python benchmarks/bp_step.py [--json FILE]
"""

from __future__ import annotations

import argparse
from typing import Any

import jax
import jax.numpy as jnp
from timing import interleaved, ratios, report, write

from neurai_core.grads import BP
from neurai_core.models import mlp


def compare(sizes: tuple[int, ...], batch_size: int, rounds: int, calls: int) -> dict[str, Any]:
    model = mlp(sizes)
    params, _ = model.init(jax.random.key(0), sizes[:1])
    x = jax.random.normal(jax.random.key(1), (batch_size, sizes[0]))
    y = jax.random.randint(jax.random.key(2), (batch_size,), 0, sizes[-1])
    bp = BP("cross_entropy", "accuracy")

    @jax.jit
    def hand(params, x, y):
        def loss(params):
            outputs = model(params, x)
            return bp.loss_f(outputs, y), outputs

        (value, outputs), grads = jax.value_and_grad(loss, has_aux=True)(params)
        return grads, value, jnp.mean(jnp.argmax(outputs, axis=-1) == y, dtype=outputs.dtype)

    functions = {
        "hand-jitted value_and_grad": lambda: hand(params, x, y),
        "BP.get_grads": lambda: bp.get_grads(model, params, (x, y)),
    }
    return ratios(interleaved(functions, rounds, calls), "hand-jitted value_and_grad")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", help="write the figures to this file")
    args = parser.parse_args()
    results = {
        "784-256-256-10, batch 128": compare((784, 256, 256, 10), 128, 60, 10),
        "4-8-3, batch 8": compare((4, 8, 3), 8, 60, 500),
    }
    for title, rows in results.items():
        report(title, rows)
    tiny = results["4-8-3, batch 8"]
    extra = 1e3 * (tiny["BP.get_grads"]["ms_median"] - tiny["hand-jitted value_and_grad"]["ms_median"])
    print(f"\ndispatch over a hand-jitted call: {extra:.1f} us")
    write(args.json, results)


if __name__ == "__main__":
    main()
