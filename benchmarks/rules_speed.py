"""What does a step of every built-in rule cost beside the matrix products that it needs?

python benchmarks/rules_speed.py [--width 512] [--batch 256] [--json FILE] [--rules NAME ...] [--rounds 15] [--again]

A step is one compiled estimate. Its floor is a program of nothing but the products that the rule needs, by the counts
on the pages of the rules, in the same shapes and layouts, of operands of their own. Floor, step and a step of
back-propagation on the same network run in turn, so that a busy machine slows all of them. Dense networks are
512-512-512-10, with tanh and a batch of 256 or, spiking, over 10 steps with a batch of 128; rules without labels leave
out the last layer. Products of spiking rules are those of one step after another, of e-prop those of all steps at once.
Rules with samples take 4. Printed are

- the products that are needed, and those in the program of the rule: floating-point operations, in forward passes,
- the time of a step relative to the floor: the median over the rounds,
- for rules that draw random numbers, the same relative to a floor that draws as many,
- time and memory of a step relative to one of back-propagation; memory is what XLA plans: arguments, results, scratch.

Results are written to the file rule by rule, and those that stand there are not measured again without `--again`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from timing import interleaved, write

import neurai_core as neurai
from neurai_core.losses import cross_entropy
from neurai_core.models import mlp
from neurai_core.models.spiking import LIF, snn
from neurai_core.products import products
from neurai_core.rule import initial_state, objective, problem_of, true_gradient

CLASSES = 10
STEPS = 10
SAMPLES = 4
SWEEPS = 20


class Product(NamedTuple):
    """A product that is needed: of (m, k) and (k, n), in one of three layouts, so many times one after another.

    Attributes:
        kind: ``forward``, h W; ``error``, e W'; ``update``, h' e.
        m: rows of the result.
        k: what is summed over.
        n: columns of the result.
        times: how often.
    """

    kind: str
    m: int
    k: int
    n: int
    times: int = 1

    @property
    def flops(self) -> float:
        return 2.0 * self.m * self.k * self.n * self.times

    @property
    def shapes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        m, k, n = self.m, self.k, self.n
        return {"forward": ((m, k), (k, n)), "error": ((m, k), (n, k)), "update": ((k, m), (k, n))}[self.kind]

    def of(self, a: jax.Array, b: jax.Array) -> jax.Array:
        return {"forward": lambda: a @ b, "error": lambda: a @ b.T, "update": lambda: a.T @ b}[self.kind]()

    def repeated(self, a: jax.Array, b: jax.Array) -> jax.Array:
        """The product, so many times; the barrier keeps the compiler from computing it once."""

        def again(_: Any, carried: Any) -> Any:
            a, _ = jax.lax.optimization_barrier(carried)
            return a, self.of(a, b)

        if self.times == 1:
            return self.of(a, b)
        return jax.lax.fori_loop(0, self.times, again, (a, jnp.zeros((self.m, self.n))))[1]


@dataclass(frozen=True)
class Net:
    """The products of a network of dense layers, layers counted from 1."""

    sizes: tuple[int, ...]
    batch: int
    times: int = 1

    @property
    def last(self) -> int:
        return len(self.sizes) - 1

    def forward(
        self, first: int = 1, last: int | None = None, times: int = 1, batch: int | None = None
    ) -> list[Product]:
        """h W of the layers from first to last."""
        return self._each("forward", first, last, times, batch)

    def error(self, first: int = 2, last: int | None = None, times: int = 1) -> list[Product]:
        """e W' of the layers from first to last."""
        return self._each("error", first, last, times, None)

    def update(
        self, first: int = 1, last: int | None = None, times: int = 1, batch: int | None = None
    ) -> list[Product]:
        """h' e of the layers from first to last."""
        return self._each("update", first, last, times, batch)

    def _each(self, kind: str, first: int, last: int | None, times: int, batch: int | None) -> list[Product]:
        rows, found = batch or self.batch, []
        for layer in range(first, (last or self.last) + 1):
            below, above = self.sizes[layer - 1 : layer + 1]
            m, k, n = {"forward": (rows, below, above), "error": (rows, above, below), "update": (below, rows, above)}[
                kind
            ]
            found.append(Product(kind, m, k, n, times * self.times))
        return found


@dataclass(frozen=True)
class Need:
    """What a step of a rule needs.

    Attributes:
        net: the network.
        products: of matrices.
        draws: shapes of normal random numbers.
        settings: of the rule.
    """

    net: Net
    products: list[Product]
    draws: list[tuple[int, ...]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)


def small(rows: int, k: int, n: int, times: int = 1) -> Product:
    """A product with a matrix that is not one of the network's."""
    return Product("forward", rows, k, n, times)


def needs(width: int, batch: int) -> dict[str, Need]:
    """By rule, and settings of which a step takes another time, the products on its page."""
    d = Net((width, width, width, CLASSES), batch)
    s = Net(d.sizes, batch // 2, STEPS)
    f, sf = (Net(one.sizes[:-1], one.batch, one.times) for one in (d, s))
    a = Net(s.sizes, s.batch * STEPS)  # the spiking network, if the products of all steps are one
    back = [*d.forward(), *d.error(), *d.update()]
    through_time = [*s.forward(), *s.error(), *s.update()]
    weights = [(SAMPLES, *shape) for n, m in zip(d.sizes, d.sizes[1:], strict=False) for shape in ((n, m), (m,))]
    units = [(SAMPLES, batch, width) for width in d.sizes[1:]]
    sampled = {"samples": SAMPLES}
    above = {"first": 2}
    inverses = [Product("forward", batch, m, n) for n, m in zip(d.sizes[1:], d.sizes[2:], strict=False)]
    learned = [Product("update", m, batch, n) for n, m in zip(d.sizes[1:], d.sizes[2:], strict=False)]
    local = [small(s.batch, *pair, STEPS) for pair in ((width, CLASSES), (CLASSES, width))] * 2
    squares = [Product("update", width, batch, width), Product("forward", width, width, width)] * f.last
    signs = {"samples": SAMPLES, "distribution": "signs"}
    forward_gradient = [*d.forward(), *d.forward(times=SAMPLES), *d.forward(**above, times=SAMPLES)]
    weight_perturbation = [*d.forward(), *d.forward(times=2 * SAMPLES)]
    node_perturbation = [*d.forward(), *d.update(), *d.forward(**above, times=2 * SAMPLES)]
    return {
        "bp": Need(d, back),
        "fa": Need(d, back),
        "sign-symmetry": Need(d, back),
        "kolen-pollack": Need(d, back),
        "dfa": Need(d, [*d.forward(), *d.update(), *[small(batch, CLASSES, width)] * 2]),
        "dtp": Need(
            d,
            [*d.forward(), *d.update(), *inverses * 3, *learned, *d.forward(**above)],
            [(batch, width) for width in d.sizes[1:-1]],
        ),
        "pepita": Need(d, [*d.forward(), *d.forward(last=2), *d.update(), small(batch, CLASSES, width)]),
        "forward-forward": Need(
            d,
            [
                *d.forward(last=1),
                *d.update(last=1),
                *d.forward(**above, batch=2 * batch),
                *d.update(**above, batch=2 * batch),
            ],
        ),
        "forward-gradient": Need(d, forward_gradient, weights, sampled),
        "forward-gradient, signs": Need(d, forward_gradient, settings=signs),
        "weight-perturbation": Need(d, weight_perturbation, weights, sampled),
        "weight-perturbation, signs": Need(d, weight_perturbation, settings=signs),
        "node-perturbation": Need(d, node_perturbation, units, sampled),
        "node-perturbation, signs": Need(d, node_perturbation, settings=signs),
        "hebbian": Need(f, [*f.forward(), *f.update(), *squares]),
        "softhebb": Need(f, [*f.forward(), *f.update()]),
        "pc": Need(d, [*d.forward(), *d.update(), *d.forward(**above, times=SWEEPS), *d.error(times=SWEEPS)]),
        "bipc": Need(
            d,
            [
                *d.forward(),
                *d.forward(times=SWEEPS),
                *d.error(1, times=SWEEPS),
                *d.forward(**above, times=SWEEPS),
                *d.error(times=SWEEPS),
                *d.update() * 2,
            ],
        ),
        "ep": Need(d, [*d.forward(), *d.update(), *d.forward(**above, times=SWEEPS), *d.error(times=SWEEPS)]),
        "eprop": Need(s, [*a.forward(), *a.error(), *a.update()]),
        "ottt": Need(s, through_time),
        "decolle": Need(s, [*s.forward(), *s.update(), *local]),
        "stdp": Need(sf, [*sf.forward(), *sf.update() * 2]),
        "reward-stdp": Need(s, [*s.forward() * 2, *s.update(last=2) * 2, *s.update(3)], settings={"trials": 1}),
    }


def floor(need: Need, draws: bool) -> Callable[[], Any]:
    """The products alone, compiled; with as many random numbers as the rule draws, if asked for."""
    keys = iter(jax.random.split(jax.random.key(0), 2 * len(need.products) + 1))
    pairs = [tuple(jax.random.normal(next(keys), shape) for shape in one.shapes) for one in need.products]

    @jax.jit
    def run(pairs: Any, key: jax.Array) -> Any:
        found = [one.repeated(*pair) for one, pair in zip(need.products, pairs, strict=True)]
        drawn = [jax.random.normal(key, shape) for shape in need.draws] if draws else []
        return found, drawn

    key = next(keys)
    return lambda: run(pairs, key)


class Step(NamedTuple):
    """A compiled estimate.

    Attributes:
        call: runs it.
        bytes: memory that it takes.
        flops: operations of its products.
    """

    call: Callable[[], Any]
    bytes: int
    flops: float


def compiled(function: Callable[..., Any], *arguments: Any) -> Step:
    """A program, what it takes, and the products in it."""
    program = jax.jit(function).lower(*arguments).compile()
    used: Any = program.memory_analysis()
    size = used.argument_size_in_bytes + used.output_size_in_bytes + used.temp_size_in_bytes
    return Step(lambda: program(*arguments), size, products(function, *arguments).flops)


def steps(name: str, need: Need) -> tuple[Step, Step]:
    """An estimate of the rule, whose settings may follow its name, and one of back-propagation on the same network."""
    name = name.partition(",")[0]
    spec, net = neurai.spec("algorithm", name), need.net
    spiking, unsupervised = net.times > 1, "unsupervised" in spec.claims
    keys = jax.random.split(jax.random.key(1), 6)
    shape: tuple[int, ...] = (net.batch, STEPS, net.sizes[0]) if spiking else (net.batch, net.sizes[0])
    x = (jax.random.uniform(keys[0], shape) < 0.1) * 1.0 if spiking else jax.random.normal(keys[0], shape)
    y = jnp.arange(net.batch) % CLASSES
    given = {"output": LIF(0.9)} if spiking and unsupervised else {}
    spike = neurai.surrogate("superspike", alpha=10.0)
    model: Any = snn(net.sizes, surrogate=spike, **given) if spiking else mlp(net.sizes, "tanh")
    plain, _ = model.init(keys[1], shape[1:])
    score = objective(cross_entropy, None)
    reference = compiled(lambda params, x, y: true_gradient(score, model, params, (), (x, y))[0], plain, x, y)

    own_loss = {} if spec.own_loss and not unsupervised else {"loss": "cross_entropy"}
    rule = neurai.algorithm(name, **({} if unsupervised else own_loss), **need.settings)
    learner, params = model, plain
    if hasattr(rule, "extended"):
        learner, params = rule.extended(model, plain, key=keys[2], input_shape=shape[1:])
    batch = (x, jnp.zeros((net.batch, 0)) if unsupervised else y)
    state = initial_state(rule, learner, params, key=keys[3], problem=problem_of(batch, CLASSES))

    def step(params: Any, state: Any, batch: Any, key: Any) -> Any:
        return rule.estimate(learner, params, state, batch, key=key)

    return compiled(step, params, state, batch, keys[4]), reference


def measured(name: str, need: Need, rounds: int) -> dict[str, Any]:
    """What a step of a rule costs."""
    own, reference = steps(name, need)
    functions = {"step": own.call, "floor": floor(need, draws=False), "bp": reference.call}
    if need.draws:
        functions["floor with draws"] = floor(need, draws=True)
    for function in functions.values():
        jax.block_until_ready(function())
    began = time.perf_counter()
    jax.block_until_ready(own.call())
    calls = max(1, round(0.03 / (time.perf_counter() - began)))
    seconds = interleaved(functions, rounds=rounds, calls=calls)

    def ratio(base: str) -> float:
        return median(a / b for a, b in zip(seconds["step"], seconds[base], strict=True))

    forward = sum(one.flops for one in need.net.forward())
    return {
        "ms": 1e3 * median(seconds["step"]),
        "needed": sum(one.flops for one in need.products) / forward,
        "in program": own.flops / forward,
        "to floor": ratio("floor"),
        "to floor with draws": ratio("floor with draws") if need.draws else None,
        "to bp": ratio("bp"),
        "memory to bp": own.bytes / reference.bytes,
    }


def table(results: dict[str, dict[str, Any]]) -> str:
    """One row per rule."""
    columns = ["needed", "in program", "to floor", "to floor with draws", "to bp", "memory to bp"]
    return "\n".join(_rows(columns, results))


def _rows(columns: Sequence[str], results: dict[str, dict[str, Any]]) -> Iterable[str]:
    yield f"{'':27}" + "".join(f"{one:>21}" for one in columns)
    for name, found in results.items():
        yield f"{name:27}" + "".join(f"{'' if found[one] is None else f'{found[one]:.2f}':>21}" for one in columns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--json", help="write the results to this file, and keep those that stand there")
    parser.add_argument("--rules", nargs="+", default=list(needs(1, 2)), choices=list(needs(1, 2)), metavar="NAME")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--again", action="store_true", help="measure again what stands in the file")
    args = parser.parse_args()
    results: dict[str, Any] = {}
    if args.json and Path(args.json).exists():
        results = json.loads(Path(args.json).read_text())["results"]
    for name in args.rules:
        if args.again or name not in results:
            results[name] = measured(name, needs(args.width, args.batch)[name], args.rounds)
            print(table({name: results[name]}), flush=True)
            write(args.json, dict(sorted(results.items())))
    print(table(results))


if __name__ == "__main__":
    main()
