"""Does equilibrium propagation learn? Test accuracy beside back-propagation on the same networks and batches.

python benchmarks/ep_learning.py digits [--split drawn|file] [--seeds 5] [--epochs 30] [--only NAME] [--json FILE]
python benchmarks/ep_learning.py fashion-mnist [--seeds 1] [--epochs 10]
python benchmarks/ep_learning.py fashion-conv [--epochs 5]

digits: 64-128-10 with sigmoids, Adam 2e-2, batch 32; every seed draws its own fifth of the images for testing, or
takes the file's own. Fashion-MNIST: 784-256-10 with sigmoids, or convolutions of 8 and 16 channels with tanh; Adam
2e-3, batch 128. Learning rates fall as a cosine. The data of Fashion-MNIST are looked for as `neurai data` says.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from epochs import adam, epochs
from timing import write

import neurai_core as neurai
from neurai_algorithms.equilibrium.spec import PRESETS
from neurai_core.grads import BP, EP
from neurai_core.models import cnn, mlp

DIGITS: dict[str, Any] = {
    "bp": lambda: BP("cross_entropy", "accuracy"),
    **{name: lambda name=name: EP.preset(name) for name in PRESETS},
}
FASHION: dict[str, Any] = {
    "bp": lambda: BP("cross_entropy", "accuracy"),
    "gaussian": lambda: EP.preset("gaussian"),
    "gaussian-symmetric": lambda: EP.preset("gaussian-symmetric"),
}
TASKS = {
    "digits": ("digits", DIGITS, lambda: (mlp((64, 128, 10), "sigmoid"), (64,)), 2e-2, 32, 30, 5),
    "fashion-mnist": ("fashion-mnist", FASHION, lambda: (mlp((784, 256, 10), "sigmoid"), (784,)), 2e-3, 128, 10, 1),
    "fashion-conv": (
        "fashion-mnist",
        FASHION,
        lambda: (cnn((8, 16), 10, "tanh"), (28, 28, 1)),
        2e-3,
        128,
        5,
        1,
    ),
}


def train(
    method: Any, model: Any, optimizer: Any, shape: Any, data: Any, size: int, count: int, seed: int
) -> list[float]:
    """Test accuracy after every epoch."""
    x, y = jnp.asarray(data.x_train).reshape(-1, *shape), jnp.asarray(data.y_train)
    test = jnp.asarray(data.x_test).reshape(-1, *shape), jnp.asarray(data.y_test)
    params, _ = model.init(jax.random.key(seed), shape)
    trained = epochs(method, model, optimizer, params, x, y, size, count, seed)
    return [float(method.predict(model, one, test)[1]) for one in trained]


def drawn(data: Any, seed: int) -> Any:
    """All images, a fifth of them drawn for testing."""
    x, y = (np.concatenate(pair) for pair in ((data.x_train, data.x_test), (data.y_train, data.y_test)))
    order = np.random.default_rng(seed).permutation(len(x))
    test, rest = np.split(order, [len(x) // 5])
    return replace(data, x_train=x[rest], y_train=y[rest], x_test=x[test], y_test=y[test])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--split", choices=("drawn", "file"), default="drawn", help="test images of digits")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--only", help="one method by name")
    parser.add_argument("--json", help="write the figures to this file")
    args = parser.parse_args()
    name, methods, network, rate, size, count, seeds = TASKS[args.task]
    data, results = neurai.dataset(name), {}
    for method, make in methods.items():
        if args.only in (None, method):
            start = time.perf_counter()
            runs, last_epoch = [], args.epochs or count
            (model, shape), rule = network(), make()
            for seed in range(args.seeds or seeds):
                split = drawn(data, seed) if (name, args.split) == ("digits", "drawn") else data
                steps = last_epoch * (len(split.x_train) // size)
                optimizer = adam(rate, steps)
                runs.append(train(rule, model, optimizer, shape, split, size, last_epoch, seed))
            last = [run[-1] for run in runs]
            results[method] = {"runs": runs, "mean": float(np.mean(last)), "sd": float(np.std(last))}
            seconds = (time.perf_counter() - start) / len(runs)
            print(
                f"{method:28} {np.mean(last):.4f} +- {np.std(last):.4f} (worst {min(last):.4f}), {seconds:.0f} s a run"
            )
    write(args.json, results)


if __name__ == "__main__":
    main()
