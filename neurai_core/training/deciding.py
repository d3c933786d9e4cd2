"""What decides the bits of a run, so that a run is continued only where all of it is the same.

Every checkpoint carries these facts; its own SHA-256 covers them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, cast

import jax

from neurai_core.training.settings import Chosen
from neurai_core.training.task import Task

NEUTRAL = ("stop_early", "log", "align", "model", "data", "loss")  # decide no bit, or are told more precisely below
_FLAGS = {
    "x64": "jax_enable_x64",
    "matmul_precision": "jax_default_matmul_precision",
    "prng": "jax_default_prng_impl",
    "prng_partitionable": "jax_threefry_partitionable",
    "without_optimizations": "jax_disable_most_optimizations",
}
_MISSING = "nothing"
_UNSET = {"devices": "1"}


def as_trained(chosen: Chosen, task: Task) -> dict[str, Any]:
    """The settings of a run, with those that the rule and the data decided."""
    devices = None if task.mesh is None else task.mesh.size
    found = {"steps": task.network_steps, "loss": task.loss_name, "devices": devices, "shard": task.shard}
    return chosen.settings.model_dump() | found


def numerics() -> dict[str, Any]:
    """What of JAX's configuration and of the machine decides bits.

    >>> numerics()["x64"], numerics()["matmul_precision"]
    (False, 'default')
    """
    found = {name: getattr(jax.config, flag, None) for name, flag in _FLAGS.items()}
    return {name: "default" if value is None else value for name, value in found.items()} | {
        "xla_flags": " ".join(sorted(os.environ.get("XLA_FLAGS", "").split())),
        "platform": jax.default_backend(),
    }


def deciding(
    chosen: Chosen, task: Task, parts: Mapping[str, Mapping[str, Any]], versions: Mapping[str, str]
) -> dict[str, Any]:
    """Everything that decides the bits of a run, by name.

    Args:
        chosen: its settings.
        task: the task that they describe.
        parts: settings of its rule, surrogate and optimizer in full.
        versions: of distributions, by name, and the kind of device.
    """
    settings = {name: value for name, value in as_trained(chosen, task).items() if name not in NEUTRAL and value != ()}
    if settings["schedule"] == "constant":
        del settings["epochs"]  # more epochs only go on
    model = chosen.settings.model
    found = settings | {
        "model": model.rpartition(":")[2] if task.source_sha256 else model,  # its file may be moved
        "model_sha256": task.source_sha256,
        "data": task.data.name,
        "data_sha256": task.data_sha256,
        "loss": task.loss_name,
    }
    for part in ("rule", "surrogate", "optimizer"):
        found |= {f"{part}.{name}": value for name, value in parts.get(part, {}).items()}
    everything = found | dict(versions) | numerics()
    return cast(dict[str, Any], json.loads(json.dumps(everything, default=str)))  # as a checkpoint gives it back


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What has changed, one clause each.

    >>> differences({"lr": 0.1, "seed": 0, "x64": False}, {"lr": 0.2, "seed": 0, "x64": False})
    ['lr was 0.1 and is 0.2']
    """
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if "epochs" in changed and not ("epochs" in before and "epochs" in now):
        changed.remove("epochs")  # they decide nothing with a constant schedule, and that is told
    return [f"{name} was {_text(before, name)} and is {_text(now, name)}" for name in changed]


def _text(given: Mapping[str, Any], name: str) -> str:
    value = given.get(name)
    return _UNSET.get(name, _MISSING) if value is None or value == "" else str(value)
