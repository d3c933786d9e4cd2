"""What rules that learn forward in time ask of a spiking network: stages of LIF neurons and a leaky readout."""

from __future__ import annotations

from typing import Any

from neurai_core.errors import ModelError
from neurai_core.layered import ChainApply, activation_function, dense_linear
from neurai_core.models.spiking import LIF, Leaky, SpikingNetwork, Stage

_HINT = "snn((64, 128, 128, 10), surrogate=...) is such a network; BP takes any other."

_WITHOUT_PARAMETERS = ("avg_pool", "flatten")  # linear layers that have none


def check_stages(rule: str, model: Any) -> None:
    """Check that a network is LIF or ALIF stages, all of whose weights are synapses, and a Leaky readout.

    Raises:
        ModelError: it is not; names the part that does not fit.

    >>> check_stages("E-prop", lambda params, x: x)
    Traceback (most recent call last):
        ...
    neurai_core.errors.ModelError: E-prop trains a SpikingNetwork, got a function.
    snn((64, 128, 128, 10), surrogate=...) is such a network; BP takes any other.
    """
    if not isinstance(model, SpikingNetwork):
        raise ModelError(f"{rule} trains a SpikingNetwork, got a {type(model).__name__}.", _HINT)
    cells: list[Any] = [stage.cell for stage in model.stages]
    spiking = all(isinstance(cell, LIF) for cell in cells[:-1])
    if len(cells) < 2 or not spiking or type(cells[-1]) is not Leaky or model.stages[-1].recurrent:
        made = ", ".join(type(cell).__name__ for cell in cells)
        raise ModelError(f"{rule} trains stages of LIF or ALIF and a Leaky readout, got {made}.", _HINT)
    for index, cell in enumerate(cells):
        if cell.learn:
            raise ModelError(
                f"{rule} trains weights, and stage {index} learns {', '.join(cell.learn)} too.",
                "Give the cell learn=(), or train with BP.",
            )
    if cells[-1].v_rest or model.record:
        what = "a readout that leaks to another potential than 0" if cells[-1].v_rest else "a network that records"
        raise ModelError(f"{rule} cannot train {what}.", _HINT)


def is_linear(stage: Stage) -> bool:
    """Whether the synapses of a stage are one linear layer, perhaps with pooling by averages and flattening around it.

    >>> from neurai_core.layered import dense
    >>> is_linear(Stage(dense(3), LIF())), is_linear(Stage(dense(3, "tanh"), LIF()))
    (True, False)
    """
    chain = stage.synapse.apply
    layers = chain.model.layers if isinstance(chain, ChainApply) else (stage.synapse,)
    rest = [layer for layer in layers if layer.name.partition("(")[0] not in _WITHOUT_PARAMETERS]
    return len(rest) == 1 and rest[0].linear is not None and rest[0].activation is activation_function("identity")


def is_dense(stage: Stage) -> bool:
    """Whether the synapses of a stage are one dense layer without an activation.

    >>> from neurai_core.layered import conv, dense
    >>> is_dense(Stage(dense(3), LIF())), is_dense(Stage(conv(3, 3), LIF()))
    (True, False)
    """
    return stage.synapse.linear is dense_linear and is_linear(stage)


def check_dense(rule: str, model: SpikingNetwork) -> None:
    """Check that all synapses are dense.

    Raises:
        ModelError: one stage's are not.

    >>> from neurai_core.layered import conv
    >>> check_dense("E-prop", SpikingNetwork((Stage(conv(3, 3), LIF()),), None))
    Traceback (most recent call last):
        ...
    neurai_core.errors.ModelError: E-prop needs dense synapses, and stage 0 has conv(3, 3).
    Give that stage dense(...), or train with BP.
    """
    for index, stage in enumerate(model.stages):
        if not is_dense(stage):
            raise ModelError(
                f"{rule} needs dense synapses, and stage {index} has {stage.synapse.name}.",
                "Give that stage dense(...), or train with BP.",
            )
