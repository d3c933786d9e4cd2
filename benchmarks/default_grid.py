"""Do the defaults train? Every rule with every built-in network that it accepts, as `neurai train` runs it.

python benchmarks/default_grid.py --json grid.json [--rules TEXT ...] [--networks ...] [--data ...] [--optimizers ...]
                                  [--epochs N] [--seeds 1]

Nothing is set but the rule (and its mode), the network, the data, the optimizer and the number of epochs; hopfield
energies take the settings of the preset hopfield-symmetric. Plain SGD runs at `--lr 0.3` where the loss is a mean over
the batch, at 0.1 divided by the batch size where it is a sum, and at 1 for incremental predictive coding, whose own
steps it follows. On the 1437 digits it runs 300 epochs, after which back-propagation no longer improves.

Three data sets: digits (8x8), Fashion-MNIST (28x28), and the digits scaled up to 28x28 and read as IDX files; another
folder of IDX files takes their place with --idx FOLDER. Spiking networks see digits for 25 steps.

Each cell is the test accuracy at the end, its distance to bp on the same network, and the smallest step scale that a
relaxation took. Cells that stand in the JSON file already are not run again, so an interrupted grid goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
import warnings
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import jax
import numpy as np
from timing import write

import neurai_core as neurai
from neurai_core.training.callbacks import Callbacks
from neurai_core.training.loop import NotFinite, train_task
from neurai_core.training.settings import choose
from neurai_core.training.task import prepare

RULES: dict[str, tuple[str, tuple[str, ...]]] = {
    "bp": ("bp", ()),
    "pc": ("pc", ()),
    "pc fixed_pred": ("pc", ("mode=fixed_pred",)),
    "pc incremental": ("pc", ("mode=incremental",)),
    "bipc": ("bipc", ()),
    "bipc separate": ("bipc", ("mode=bistrict",)),
    "ep": ("ep", ()),
    "ep hopfield": ("ep", ("energy=hopfield", "activation=sigmoid", "mode=symmetric", "dt=0.5", "beta=0.5")),
    "eprop": ("eprop", ()),
}
NETWORKS = ("mlp:256", "mlp:128,128,128,128", "cnn:8,16", "snn:128")
EPOCHS = {  # of Adam and of SGD
    "digits": {"adam": 25, "sgd": 300},
    "fashion-mnist": {"adam": 5, "sgd": 5},
    "idx": {"adam": 25, "sgd": 300},
}
SPIKE_STEPS = 25
OPTIMIZERS = ("adam", "sgd")


class Cell(NamedTuple):
    """One run of the grid."""

    data: str
    network: str
    optimizer: str
    rule: str
    seed: int

    @property
    def name(self) -> str:
        return " | ".join(map(str, self))


def applies(cell: Cell) -> bool:
    """Whether the rule accepts the network, and whether the data are shown to it here."""
    spiking = cell.network.startswith("snn")
    if spiking and cell.data != "digits":
        return False
    spec = neurai.spec("algorithm", RULES[cell.rule][0])
    return spec.needs == "callable" if spiking else "spiking" not in spec.claims


def run(cell: Cell, epochs: int, idx: Path, lr: float | None = None) -> dict[str, Any]:
    """Train once."""
    rule, sets = RULES[cell.rule]
    data = f"idx:{idx}" if cell.data == "idx" else cell.data
    flags: dict[str, Any] = {
        "rule": rule,
        "model": cell.network,
        "data": data,
        "optimizer": cell.optimizer,
        "epochs": epochs,
        "seed": cell.seed,
        "steps": SPIKE_STEPS if cell.network.startswith("snn") else None,
    }
    if cell.optimizer == "sgd":
        usual = neurai.spec("algorithm", rule).defaults
        summed = str(usual.get("loss", "")).startswith("sum")
        usually = 1.0 if cell.rule == "pc incremental" else 0.1 / usual["batch_size"] if summed else 0.3
        flags["lr"] = usually if lr is None else lr
    began, rows = time.perf_counter(), []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            train_task(
                prepare(choose(flags, sets, environ={})), callbacks=Callbacks(epoch=lambda row, _: rows.append(row))
            )
            finite = True
        except NotFinite:
            finite = False
    accuracies = [row.values["test_accuracy"] for row in rows]
    return {
        "accuracy": accuracies[-1] if finite else math.nan,
        "best": max(accuracies, default=math.nan),
        "step_scale": min((row.values.get("aux/step_scale", 1.0) for row in rows), default=1.0),
        "warnings": sorted({str(one.message)[:80] for one in caught}),
        "step_ms": mean(row.step_ms for row in rows) if rows else math.nan,
        "seconds": time.perf_counter() - began,
    }


def larger_digits(folder: Path) -> Path:
    """The digits of the package, 28x28 by linear interpolation, as the four files of MNIST."""
    digits = neurai.dataset("digits")
    for part, stem in (("train", "train"), ("test", "t10k")):
        x, y = getattr(digits, f"x_{part}"), getattr(digits, f"y_{part}")
        big = jax.image.resize(x.reshape(-1, 8, 8), (len(x), 28, 28), "linear")
        pixels = np.asarray(255 * (big - big.min()) / (big.max() - big.min())).astype(np.uint8)
        _write_idx(folder / f"{stem}-images-idx3-ubyte", pixels)
        _write_idx(folder / f"{stem}-labels-idx1-ubyte", np.asarray(y).astype(np.uint8))
    return folder


def _write_idx(path: Path, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    path.write_bytes(header + array.tobytes())


# ---------------------------------------------------------------------------- the table


def table(results: dict[str, Any]) -> str:
    """One row per rule, one column per network and data set; the distance to bp in points."""
    cells: dict[tuple[str, str, str, str], list[float]] = {}
    for name, found in results.items():
        data, network, optimizer, rule, _ = name.split(" | ")
        cells.setdefault((data, network, optimizer, rule), []).append(found["accuracy"])
    columns = list(dict.fromkeys(key[:3] for key in cells))
    rules = [rule for rule in RULES if any(key[3] == rule for key in cells)]
    lines = []
    for data in dict.fromkeys(column[0] for column in columns):
        here = [column for column in columns if column[0] == data]
        lines += ["", f"{data}", "", "| rule | " + " | ".join(f"{n}, {o}" for _, n, o in here) + " |"]
        lines += ["| --- |" + " ---: |" * len(here)]
        for rule in rules:
            texts = [_text(cells, column, rule) for column in here]
            if any(text for text in texts):
                lines.append(f"| {rule} | " + " | ".join(texts) + " |")
    return "\n".join(lines)


def _text(cells: dict[Any, list[float]], column: tuple[str, str, str], rule: str) -> str:
    found, reference = cells.get((*column, rule)), cells.get((*column, "bp"))
    if found is None:
        return ""
    text = f"{mean(found):.3f}"
    return text if rule == "bp" or reference is None else f"{text} ({100 * (mean(found) - mean(reference)):+.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", help="write the figures to this file, and go on from those that stand there")
    parser.add_argument("--rules", nargs="+", default=list(RULES), choices=RULES)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    parser.add_argument("--data", nargs="+", default=list(EPOCHS), choices=EPOCHS)
    parser.add_argument("--optimizers", nargs="+", default=list(OPTIMIZERS), choices=OPTIMIZERS)
    parser.add_argument("--epochs", type=int, help="instead of those of each data set")
    parser.add_argument("--lr", type=float, help="learning rate of SGD instead of those above; use another JSON file")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--idx", type=Path, help="a folder of IDX files instead of the larger digits")
    args = parser.parse_args()
    results: dict[str, Any] = {}
    if args.json and Path(args.json).exists():
        results = json.loads(Path(args.json).read_text())["results"]
    with tempfile.TemporaryDirectory() as folder:
        idx = args.idx or larger_digits(Path(folder))
        choices = product(args.data, args.networks, args.optimizers, args.rules, range(args.seeds))
        for cell in filter(applies, (Cell(*choice) for choice in choices)):
            if cell.name not in results:
                epochs = args.epochs or EPOCHS[cell.data][cell.optimizer]
                found = results[cell.name] = run(cell, epochs, idx, args.lr)
                print(
                    f"{cell.name:60} {found['accuracy']:.4f}  best {found['best']:.4f}  scale {found['step_scale']:.3f}"
                    f"  {found['step_ms']:7.2f} ms a step  {found['seconds']:5.0f} s  {'; '.join(found['warnings'])}",
                    flush=True,
                )
                write(args.json, results)
    print(table(results))


if __name__ == "__main__":
    main()
