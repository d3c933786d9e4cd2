"""The digits by grain: shuffled in every epoch, loaded by threads, resumable at any step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grain
import numpy as np

import neurai_core as neurai
from neurai_core.batched import BatchedData
from neurai_core.plugin import Plugin
from neurai_core.specs import Config, DatasetSpec

grain_digits = Plugin(
    DatasetSpec(
        name="grain-digits",
        summary="The digits, loaded by grain",
        split="as that of digits",
        source="the data set digits",
    ),
    "grain_digits:build",
)


def build(config: Config, **context: Any) -> BatchedData:
    """Pictures of 64 numbers; a loader of your own reads files instead."""
    data = neurai.dataset("digits")
    rows = grain.MapDataset.source(range(len(data.x_train)))

    def load(row: int) -> tuple[np.ndarray, np.ndarray]:
        return data.x_train[row].reshape(64), data.y_train[row]

    def train(epoch: int, seed: int, batch_size: int, start: int) -> Iterable[Any]:
        shuffled = rows.shuffle(seed=int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0]))
        batches = shuffled.map(load).batch(batch_size, drop_remainder=True)
        return batches[start:].to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=16))

    return BatchedData(
        "grain-digits",
        train,
        data.x_test.reshape(-1, 64),
        data.y_test,
        classes=data.classes,
        license=data.license,
        steps=lambda batch_size: len(rows) // batch_size,
        sha256=data.sha256,
    )
