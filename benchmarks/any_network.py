"""Do networks that people already have train by local rules, unchanged? Four of them, by bp, pc and ep side by side.

python benchmarks/any_network.py [--networks ...] [--data NAME] [--rules ...] [--steps N] [--seeds N]
                                 [--set KEY=VALUE ...] [--time] [--json FILE]

`networks/` holds a convolutional network of an Equinox tutorial, one of a Flax NNX tutorial, a residual network in Flax
Linen and a character transformer in Flax NNX. Each is an ordinary module with a `__call__` of its own, and
`neurai.named(model, "auto")` makes its products the activities. Convolutional networks see images, Fashion-MNIST unless
`--data` says digits; the transformer sees the data set `text`, whose lowest possible loss is known. Mean cross entropy,
batch 64, Adam along a cosine; nothing is set of a rule but its mode or coordinates,
and what `--set` says.

`--time` times one estimate of every rule instead, in interleaved rounds. Cells that stand in the JSON file already are
not run again.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from timing import interleaved, ratios, report, write

import neurai_core as neurai
from neurai_core.data import Dataset, order

RULES: dict[str, tuple[str, dict[str, Any]]] = {
    "bp": ("bp", {}),
    "pc": ("pc", {}),
    "pc error": ("pc", {"mode": "error"}),
    "pc fixed_pred": ("pc", {"mode": "fixed_pred"}),
    "ep": ("ep", {"energy": "gaussian"}),
    "ep errors": ("ep", {"energy": "gaussian", "coordinates": "errors"}),
}
IMAGES, TEXT = ("equinox_cnn", "flax_cnn", "resnet"), ("character_transformer",)
RATES = {"fashion-mnist": 1e-3, "digits": 2e-3, "text": 1e-2}  # of Adam; for text the better of two for bp
BATCH = 64


class Start(NamedTuple):
    """A network as a rule sees it, and where its training starts."""

    model: Any
    params: Any
    model_state: Any


def start(network: str, data: Dataset, rule: str, seed: int) -> Start:
    """Make the network; rules that take networks see it named."""
    make = importlib.import_module(f"networks.{network}").make
    made = make(data.input_shape, data.n_classes, jax.random.key(seed))
    model, params = made if isinstance(made, tuple) else (made, None)
    seen = neurai.adapt(model if rule == "bp" else neurai.named(model, "auto"))
    params, model_state = seen.split(own_params(model) if params is None else params)
    return Start(seen.model, params, model_state)


def own_params(model: Any) -> Any:
    """The parameters that a module holds."""
    from neurai_core.adapting import find_adapter

    return find_adapter(model).params(model)


class Training(NamedTuple):
    """One network by one rule, compiled: seeds differ in what it is given alone."""

    run: Callable[[Any, np.ndarray], Any]
    begin: Callable[[Start, int], Any]
    test: Callable[[Any], tuple[float, float]]


def compiled(rule: Any, found: Start, data: Dataset, steps: int) -> Training:
    """Training for a number of steps: ``run(carry, rows) -> (carry, what each step says)``."""
    optimizer = optax.adam(optax.cosine_decay_schedule(RATES[data.name], steps))

    @partial(jax.jit, donate_argnums=0)
    def run(carry: Any, rows: jax.Array, x: jax.Array, y: jax.Array) -> Any:
        def step(carry: Any, rows: jax.Array) -> Any:
            params, state, moments, key = carry
            key, own = jax.random.split(key)
            estimate, state = rule.estimate(found.model, params, state, (x[rows], y[rows]), key=own)
            updates, moments = optimizer.update(estimate.grads, moments, params)
            said = {name: estimate.aux[name] for name in ("step_scale", "energy_change") if name in estimate.aux}
            return (optax.apply_updates(params, updates), state, moments, key), said | {"loss": estimate.loss}

        return jax.lax.scan(step, carry, rows)

    def begin(at: Start, seed: int) -> Any:
        keys = jax.random.split(jax.random.key(seed))
        state = rule.init(at.model, at.params, key=keys[0], model_state=at.model_state)
        own = jax.tree.map(jnp.array, (at.params, state))
        return *own, optimizer.init(at.params), keys[1]

    arguments = jnp.asarray(data.x_train), jnp.asarray(data.y_train)
    program = run.lower(begin(found, 0), jax.ShapeDtypeStruct((steps, BATCH), "int32"), *arguments).compile()
    train = lambda carry, rows: program(carry, jnp.asarray(rows, "int32"), *arguments)  # noqa: E731
    return Training(train, begin, partial(scores, scorer(rule, found.model), data))


def scorer(rule: Any, model: Any) -> Callable[..., Any]:
    """Test loss and accuracy of a batch, compiled."""
    loss, accuracy = neurai.losses.cross_entropy, neurai.losses.accuracy

    @jax.jit
    def score(params: Any, state: Any, x: jax.Array, y: jax.Array) -> Any:
        outputs = rule.predict(model, params, x, state)
        return loss(outputs, y), accuracy(outputs, y)

    return score


def scores(score: Callable[..., Any], data: Dataset, carry: Any) -> tuple[float, float]:
    """Test loss and accuracy."""
    x, y = data.x_test, data.y_test
    parts = [score(*carry[:2], x[at : at + 500], y[at : at + 500]) for at in range(0, len(x), 500)]
    loss, accuracy = np.mean(jax.device_get(parts), axis=0)
    return float(loss), float(accuracy)


def train(network: str, data: Dataset, rule_name: str, steps: int, seeds: int, more: dict[str, Any]) -> dict[str, Any]:
    """Train once per seed."""
    name, settings = RULES[rule_name]
    rule = neurai.algorithm(name, loss="cross_entropy", **settings, **({} if name == "bp" else more))
    training = compiled(rule, start(network, data, name, 0), data, steps)
    result: dict[str, Any] = {"loss": [], "accuracy": [], "train_loss": [], "step_ms": []}
    said = []
    for seed in range(seeds):
        carry, rows = training.begin(start(network, data, name, seed), seed), batches(data, seed, steps)
        began = time.perf_counter()
        carry, each = jax.block_until_ready(training.run(carry, rows))
        result["step_ms"].append(1e3 * (time.perf_counter() - began) / steps)
        loss, accuracy = training.test(carry)
        result["loss"].append(loss)
        result["accuracy"].append(accuracy)
        result["train_loss"].append(float(each["loss"][-20:].mean()))
        said.append(each)
    if "step_scale" in said[0]:
        result["step_scale"] = float(min(each["step_scale"].min() for each in said))
        result["rises"] = int(sum((each["energy_change"] > 0).sum() for each in said))
    return result


def batches(data: Dataset, seed: int, steps: int) -> np.ndarray:
    """Rows of every batch, (steps, batch): as many epochs as it takes."""
    n = len(data.x_train)
    epochs = -(-steps * BATCH // (n // BATCH * BATCH))
    rows = [order(seed, epoch, n)[: n // BATCH * BATCH] for epoch in range(epochs)]
    return np.concatenate(rows)[: steps * BATCH].reshape(steps, BATCH)


def timed(
    network: str, data: Dataset, rules: list[str], rounds: int, more: dict[str, Any]
) -> dict[str, dict[str, float]]:
    """Milliseconds of one estimate of every rule, and the ratio to the first, measured in turns."""
    batch = jnp.asarray(data.x_train[:BATCH]), jnp.asarray(data.y_train[:BATCH])
    functions = {}
    for rule_name in rules:
        name, settings = RULES[rule_name]
        rule = neurai.algorithm(name, loss="cross_entropy", **settings, **({} if name == "bp" else more))
        at = start(network, data, name, 0)
        state = rule.init(at.model, at.params, key=jax.random.key(0), model_state=at.model_state)
        run = jax.jit(partial(rule.estimate, at.model))
        functions[rule_name] = partial(run, at.params, state, batch, key=jax.random.key(1))
    return ratios(interleaved(functions, rounds=rounds, calls=1), rules[0])


def table(results: dict[str, Any]) -> str:
    """One row per network and rule, beside bp on the same network."""
    lines = ["| network | data | rule | test accuracy | to bp | test loss | to bp | step scale | rises |"]
    lines += ["| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for name, found in results.items():
        network, data, rule = name.split(" | ")
        cells = [network, data, f"`{rule}`"]
        reference = results.get(f"{network} | {data} | bp", found)
        points = 100 * (mean(found["accuracy"]) - mean(reference["accuracy"]))
        percent = 100 * (mean(found["loss"]) / mean(reference["loss"]) - 1)
        cells += [spread(found["accuracy"], 4), f"{points:+.1f}", spread(found["loss"], 4), f"{percent:+.1f} %"]
        cells += [f"{found['step_scale']:.3f}", str(found["rises"])] if "rises" in found else ["", ""]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(values: list[float], digits: int) -> str:
    """Mean and deviation over seeds."""
    text = f"{mean(values):.{digits}f}"
    return f"{text} ± {stdev(values):.{digits}f}" if len(values) > 1 else text


def value(text: str) -> tuple[str, Any]:
    """``KEY=VALUE`` as a setting."""
    key, _, written = text.partition("=")
    try:
        return key, json.loads(written)
    except json.JSONDecodeError:
        return key, written


def main() -> None:
    """Run what is asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=(*IMAGES, *TEXT), default=[*IMAGES, *TEXT])
    parser.add_argument("--data", choices=("fashion-mnist", "digits"), default="fashion-mnist", help="of images")
    parser.add_argument("--rules", nargs="+", choices=RULES, default=list(RULES))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--set", nargs="+", type=value, default=[], metavar="KEY=VALUE", help="of all rules but bp")
    parser.add_argument("--time", action="store_true", help="time one estimate of every rule")
    parser.add_argument("--rounds", type=int, default=5, help="of timing")
    parser.add_argument("--json")
    args = parser.parse_args()
    more = dict(args.set)
    label = "".join(f" {key}={setting}" for key, setting in more.items())
    saved = Path(args.json) if args.json else None
    results = json.loads(saved.read_text())["results"] if saved and saved.exists() else {}
    sets = {name: neurai.dataset(name) for name in {args.data if one in IMAGES else "text" for one in args.networks}}
    data_of = {one: sets[args.data if one in IMAGES else "text"] for one in args.networks}
    if args.time:
        for network, data in data_of.items():
            name = f"{network} | {data.name}"
            results[name] = timed(network, data, willing(network, data, args.rules), args.rounds, more)
            report(f"{name}: one estimate, batch {BATCH}", results[name])
            write(args.json, results)
        return
    for network, rule in product(args.networks, args.rules):
        data = data_of[network]
        name = f"{network} | {data.name} | {rule}{'' if rule == 'bp' else label}"
        if name in results or rule not in willing(network, data, [rule]):
            continue
        results[name] = train(network, data, rule, args.steps, args.seeds, more)
        write(args.json, results)
        print(name, results[name], flush=True)
    print(table(results))


def willing(network: str, data: Dataset, rules: list[str]) -> list[str]:
    """The rules that take the network; why one does not is printed."""
    taken = []
    for rule_name in rules:
        name, settings = RULES[rule_name]
        rule, at = neurai.algorithm(name, loss="cross_entropy", **settings), start(network, data, name, 0)
        batch = data.x_train[:BATCH], data.y_train[:BATCH]
        try:
            state = rule.init(at.model, at.params, key=jax.random.key(0), model_state=at.model_state)
            jax.eval_shape(partial(rule.estimate, at.model), at.params, state, batch, key=jax.random.key(0))
        except neurai.NeurAIError as error:
            print(f"{network} | {rule_name}: left out. {' '.join(str(error).splitlines())}", flush=True)
        else:
            taken.append(rule_name)
    return taken


if __name__ == "__main__":
    main()
