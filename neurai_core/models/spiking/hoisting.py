"""Which stages have their synapses applied to all steps at once, before the loop of the stage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, TypeAlias

import jax

from neurai_core.arrays import PyTree, Shape
from neurai_core.layered import ChainApply, Layer, naming, output_shape
from neurai_core.models.spiking.stages import Stage

# Computing all currents at once pays off if they fit into a cache of this size; measured with 32 MiB of L3.
CACHE_BYTES = 16 * 2**20
# Convolutions gain nothing from more examples at once, and lose as soon as their images leave the cache of one core.
IMAGE_BYTES = 2 * 2**20
Hoist: TypeAlias = bool | Literal["auto"]


def loops(
    stages: Sequence[Stage],
    hoist: Hoist | tuple[bool, ...],
    params: PyTree,
    states: Sequence[PyTree],
    drive: jax.Array,
    steps: int,
    *,
    constant: bool,
) -> list[tuple[int, int, bool]]:
    """Runs of stages that share a loop: first, past the last, and whether the first one is hoisted.

    Args:
        stages: from the input to the output.
        hoist: as in `SpikingNetwork`.
        params: of every stage.
        states: model state of every stage.
        drive: the sequence, or an input that is the same at every step.
        steps: number of steps.
        constant: whether the input is the same at every step.
    """
    inside = _inside(stages, params, states, drive.shape[1:] if constant else drive.shape[2:])
    if isinstance(hoist, tuple):
        hoisted = hoist
    elif isinstance(hoist, bool):
        hoisted = (hoist,) * len(stages)
    else:
        usual = _usual(inside, steps * drive.shape[0] * drive.dtype.itemsize, constant)
        hoisted = tuple(one or stage.synapse.stateful for one, stage in zip(usual, stages, strict=True))
    firsts = [0, *(index for index in range(1, len(hoisted)) if hoisted[index])]
    return [(a, b, hoisted[a]) for a, b in zip(firsts, [*firsts[1:], len(hoisted)], strict=True)]


def _usual(inside: list[list[Shape]], scale: int, constant: bool) -> tuple[bool, ...]:
    """Resolve ``hoist="auto"``; ``scale`` is the number of bytes for one number per example and step."""
    sizes = [math.prod(inside[0][0]), *(math.prod(shapes[-1]) for shapes in inside)]
    images = [0, *(sum(math.prod(one) for one in shapes[1:] if len(one) > 1) for shapes in inside)]
    fits = [
        size * scale <= CACHE_BYTES and image * scale <= IMAGE_BYTES for size, image in zip(sizes, images, strict=True)
    ]
    # The input exists anyway, but spikes of a stage below would have to be written out too.
    first = constant or (sizes[0] >= sizes[1] and not images[1]) or fits[1]
    return first, *(below and here for below, here in pairwise(fits[1:]))


def _inside(stages: Sequence[Stage], params: PyTree, states: Sequence[PyTree], shape: Shape) -> list[list[Shape]]:
    """Of every stage the shapes of its input and of what its synapses compute, their output last."""
    found = []
    for index, (stage, own, running) in enumerate(zip(stages, params, states, strict=True)):
        with naming(index, stage.synapse, shape, what="Stage"):
            found.append([shape, *_shapes_inside(stage.synapse, own["input"], running, shape)])
        shape = found[-1][-1]
    return found


def _shapes_inside(synapse: Layer, params: PyTree, model_state: PyTree, shape: Shape) -> list[Shape]:
    """The shapes that the layers of a synapse compute, the last of them its output."""
    if not isinstance(synapse.apply, ChainApply):
        return [output_shape(synapse, params, model_state, shape)]
    found: list[Shape] = []
    chain = synapse.apply.model
    for layer, own, running in zip(chain.layers, params, chain.layer_states(model_state), strict=True):
        found.extend(_shapes_inside(layer, own, running, found[-1] if found else shape))
    return found
