"""What does a training step cost on an accelerator? Every kind of rule as a ratio to back-propagation, and as a share
of what the card can do.

python benchmarks/on_device.py [--json FILE] [--minutes 6] [--only TEXT ...]

A step is gradients and an SGD update, compiled as one program, waited for after every few calls; rounds of all rules
alternate. Sizes are those of the CPU benchmarks and some that fill a card. Shares of the peak count the operations of
matrix products and convolutions in the step's own program (products.py), against the rate of one large product of the
same type, measured here, and against the maker's figure for dense products where the card is in the table below.
float32 runs at JAX's default precision, which on recent cards means TF32 products; bfloat16 casts parameters and
inputs. Whatever does not fit into the given minutes is left out, by name.

It runs anywhere: without an accelerator it measures the CPU and says so.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from timing import interleaved, write

import neurai_core as neurai
from neurai_core.layered import Layered, avg_pool, conv, dense, flatten
from neurai_core.models import cnn, mlp
from neurai_core.models.spiking import LIF, snn
from neurai_core.products import product_flops

# Dense TFLOP/s as the makers state them: TF32 (or float32 where there is none) and bfloat16.
MAKERS_PEAK = {
    "H200": {"float32": 494.7, "bfloat16": 989.4},
    "H100": {"float32": 494.7, "bfloat16": 989.4},
    "A100": {"float32": 156.0, "bfloat16": 312.0},
    "L4": {"float32": 60.0, "bfloat16": 121.0},
}
RULES: dict[str, tuple[str, dict[str, Any]]] = {
    "bp": ("bp", {}),
    "pc strict": ("pc", {"mode": "strict"}),
    "pc fixed_pred": ("pc", {"mode": "fixed_pred"}),
    "ep gaussian": ("ep", {"energy": "gaussian"}),
    "ep hopfield": ("ep", {"energy": "hopfield", "activation": "sigmoid"}),
}
warnings.filterwarnings("ignore", message="EP: after n_relax")


class Problem(NamedTuple):
    """A network and a batch for it."""

    model: Any
    params: Any
    batch: tuple[jax.Array, jax.Array]


def images(model: Any, shape: tuple[int, ...], batch: int, dtype: str) -> Problem:
    params, _ = model.init(jax.random.key(0), shape)
    x = jax.random.normal(jax.random.key(1), (batch, *shape), dtype)
    y = jax.random.randint(jax.random.key(2), (batch,), 0, 10)
    return Problem(model, jax.tree.map(lambda leaf: leaf.astype(dtype), params), (x, y))


def dense_network(sizes: tuple[int, ...], batch: int, dtype: str = "float32") -> Problem:
    return images(mlp(sizes), sizes[:1], batch, dtype)


def wide_convolutions(dtype: str) -> Layered:
    stages = [layer for width in (64, 128, 256) for layer in (conv(width, 3), avg_pool(2))]
    return Layered((*stages, flatten(), dense(10)))


def spiking(sizes: tuple[int, ...], batch: int, steps: int) -> Problem:
    cell = LIF(0.9)
    model = snn(sizes, surrogate=neurai.surrogate("superspike", alpha=10.0), cell=cell, output=cell, readout="mean")
    params, _ = model.init(jax.random.key(0), (steps, sizes[0]))
    x = jax.random.bernoulli(jax.random.key(1), 0.1, (batch, steps, sizes[0])).astype(jnp.float32)
    return Problem(model, params, (x, jax.random.randint(jax.random.key(2), (batch,), 0, sizes[-1])))


NETWORKS: dict[str, Callable[[], Problem]] = {
    "784-256-256-10, batch 128": lambda: dense_network((784, 256, 256, 10), 128),
    "784-4096-4096-4096-10, batch 1024": lambda: dense_network((784, 4096, 4096, 4096, 10), 1024),
    "784-4096-4096-4096-10, batch 1024, bfloat16": lambda: dense_network((784, 4096, 4096, 4096, 10), 1024, "bfloat16"),
    "cnn:8,16 on 28x28x1, batch 128": lambda: images(cnn((8, 16), 10), (28, 28, 1), 128, "float32"),
    "cnn:64,128,256 on 32x32x3, batch 512": lambda: images(cnn((64, 128, 256), 10), (32, 32, 3), 512, "float32"),
    "cnn:64,128,256 on 32x32x3, batch 512, bfloat16": lambda: images(
        cnn((64, 128, 256), 10), (32, 32, 3), 512, "bfloat16"
    ),
}
SPIKING: dict[str, Callable[[], Problem]] = {
    "snn 784-256-10, 100 steps, batch 64": lambda: spiking((784, 256, 10), 64, 100),
    "snn 784-4096-10, 100 steps, batch 512": lambda: spiking((784, 4096, 10), 512, 100),
}
ELEMENTS = {"surrogates, 1e6 elements": 1_000_000, "surrogates, 1e8 elements": 100_000_000}


class Budget:
    """Minutes that may pass, and what was left out because they had."""

    def __init__(self, minutes: float) -> None:
        self.end, self.left_out = time.monotonic() + 60 * minutes, []

    def allows(self, what: str) -> bool:
        """Whether there is time for more; what is not allowed is kept for the report."""
        if time.monotonic() < self.end:
            return True
        self.left_out.append(what)
        return False


# ---------------------------------------------------------------------------- steps


def training_step(rule: Any, model: Any) -> Any:
    def step(params: Any, batch: Any) -> Any:
        found, _ = rule.estimate(model, params, (), batch)
        return jax.tree.map(lambda p, g: p - jnp.asarray(0.01, p.dtype) * g, params, found.grads), found.loss

    return step


def compiled(function: Callable[..., Any], *arguments: Any) -> tuple[Callable[[], Any], dict[str, float]]:
    """A call of the compiled function, and what can be told before it runs."""
    lowered = jax.jit(function).lower(*arguments)
    began = time.perf_counter()
    program = lowered.compile()
    facts = {"compile_s": time.perf_counter() - began, "gflop": product_flops(function, *arguments) / 1e9}
    return lambda: program(*arguments), facts


def rule_rows(problem: Problem, rules: dict[str, tuple[str, dict[str, Any]]], rounds: int) -> dict[str, Any]:
    """Every rule on one network."""
    calls, rows = {}, {}
    for label, (name, settings) in rules.items():
        rule = neurai.algorithm(name, loss="cross_entropy", accuracy="accuracy", **settings)
        try:
            calls[label], rows[label] = compiled(training_step(rule, problem.model), problem.params, problem.batch)
        except jax.errors.JaxRuntimeError as error:  # more memory than the card has, say
            print(f"  {label}: {str(error).splitlines()[0]:.100}")
    return timed(calls, rows, rounds, base="bp")


def timed(calls: dict[str, Any], rows: dict[str, Any], rounds: int, base: str) -> dict[str, Any]:
    seconds = interleaved(calls, rounds, calls=5)
    for label, times in seconds.items():
        rows[label]["ms"] = 1e3 * median(times)
        rows[label]["ratio"] = median(t / b for t, b in zip(times, seconds[base], strict=True))
    return rows


def surrogate_rows(elements: int, rounds: int) -> dict[str, Any]:
    """Forward and backward of every surrogate; the base moves the same bytes and multiplies once."""
    u = 3 * jax.random.normal(jax.random.key(0), (elements,), jnp.float32)
    key = jax.random.key(2)
    calls, rows = {}, {}
    calls["floor"], rows["floor"] = compiled(lambda u: (jnp.abs(u), u * u), u)
    for name in neurai.names("surrogate"):
        spike = neurai.surrogate(name)

        def both(u: jax.Array, spike: Any = spike) -> Any:
            spikes, back = jax.vjp(lambda v: spike(v, key=key), u)
            return spikes, *back(u)

        calls[name], rows[name] = compiled(both, u)
    return timed(calls, rows, rounds, base="floor")


def product_rate(dtype: str, size: int) -> float:
    """TFLOP/s of one large product, at JAX's default precision."""
    a = jax.random.normal(jax.random.key(0), (size, size), dtype)
    square = jax.jit(lambda a: a @ a)
    times = interleaved({"product": lambda: square(a)}, rounds=5, calls=5)["product"]
    return 2e-12 * size**3 / min(times)


# ---------------------------------------------------------------------------- the report


def table(title: str, rows: dict[str, Any], rate: float | None, maker: float | None) -> None:
    print(f"\n{title}")
    print(f"  {'':24}{'ms':>10}{'ratio':>9}{'GFLOP':>10}{'of measured':>13}{'of maker':>10}{'compile s':>11}")
    for label, row in rows.items():
        for column, peak in (("of_measured", rate), ("of_maker", maker)):
            if peak and row["gflop"]:
                row[column] = row["gflop"] / row["ms"] / peak
        shares = "".join(
            f"{row[column]:{width}.1%}" if column in row else f"{'-':>{width}}"
            for column, width in (("of_measured", 13), ("of_maker", 10))
        )
        print(
            f"  {label:24}{row['ms']:10.3f}{row['ratio']:9.2f}{row['gflop']:10.2f}{shares}{row['compile_s']:11.2f}",
            flush=True,
        )


def maker_peak(card: str, dtype: str) -> float | None:
    return next((rates[dtype] for name, rates in MAKERS_PEAK.items() if name in card), None)


def wanted(title: str, only: list[str]) -> bool:
    return not only or any(text in title for text in only)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", help="write the figures to this file")
    parser.add_argument("--minutes", type=float, default=6.0, help="after these no further table is begun")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="+", default=[], metavar="TEXT", help="tables whose title holds one of these")
    args = parser.parse_args()
    device, budget = jax.devices()[0], Budget(args.minutes)
    print(f"{device.device_kind}, {device.platform}, JAX {jax.__version__}")
    if device.platform == "cpu":
        print("There is no accelerator here: these are figures of the CPU.")
    rates = {
        dtype: product_rate(dtype, 1024 if device.platform == "cpu" else 8192) for dtype in ("float32", "bfloat16")
    }
    print("one large product:", ", ".join(f"{dtype} {rate:.2f} TFLOP/s" for dtype, rate in rates.items()))
    results: dict[str, Any] = {"card": device.device_kind, "product_tflops": rates, "tables": {}}
    for title, make, measure in tables(args.rounds):
        if not wanted(title, args.only) or not budget.allows(title):
            continue
        dtype = "bfloat16" if "bfloat16" in title else "float32"
        rows = results["tables"][title] = measure(make())
        table(title, rows, rates[dtype], maker_peak(device.device_kind, dtype))
    results["left_out"] = budget.left_out
    if budget.left_out:
        print("\nleft out, for there was no time:", "; ".join(budget.left_out))
    write(args.json, results)


def tables(rounds: int) -> list[tuple[str, Callable[[], Any], Callable[[Any], Any]]]:
    """Title, what is measured, and how; the small ones first."""
    rules = [(title, make, lambda p: rule_rows(p, RULES, rounds)) for title, make in NETWORKS.items()]
    spikes = [(title, make, lambda p: rule_rows(p, {"bp": RULES["bp"]}, rounds)) for title, make in SPIKING.items()]
    shapes = [(title, lambda n=n: n, lambda n: surrogate_rows(n, rounds)) for title, n in ELEMENTS.items()]
    return [*rules, *spikes, *shapes]


if __name__ == "__main__":
    main()
