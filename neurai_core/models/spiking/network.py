"""Spiking networks as models: stages run through time, from a batch to one row of numbers per example.

For each stage, the synapses are either applied to all steps at once, before its loop (one large matrix product), or
inside the loop of the stages before it (only membranes are stored).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from neurai_core.arrays import PyTree, Shape, shape_text, wide_float
from neurai_core.errors import ModelError
from neurai_core.layered import Layered, dense, naming, output_shape
from neurai_core.models.spiking.as_layers import stages_as_layers
from neurai_core.models.spiking.cells import LIF, Cell, Leaky, State, exact_decay
from neurai_core.models.spiking.encoders import Constant, Encoder, check_readout, check_steps, encoder, read
from neurai_core.models.spiking.hoisting import Hoist, loops
from neurai_core.models.spiking.stages import Past, Stage
from neurai_core.models.spiking.time_loop import Loop, run, run_plainly

# Defaults of `snn`. A spike over a weight of 1 raises the membrane by about 1 at its peak.
HIDDEN = LIF(exact_decay(10.0), input_gain=0.4, synapse=exact_decay(5.0))
OUTPUT = Leaky(exact_decay(20.0))


class Recorded(NamedTuple):
    """Outputs together with the spikes of the neurons.

    Attributes:
        outputs: ``(B, C)``, or ``(B, T, C)`` with ``readout="all"``.
        spikes: the outputs of every stage before its readout, ``(B, T, ...)`` each.
    """

    outputs: jax.Array
    spikes: tuple[jax.Array, ...]


@dataclass(frozen=True)
class SpikingNetwork:
    """Stages of spiking neurons: ``model(params, x)``, differentiable by back-propagation through time.

    Args:
        stages: from the input to the output.
        surrogate: from `neurai_core.surrogate`; turns potentials into spikes. Its parameters may be traced or
            learned.
        readout: how the last stage's traces become outputs: ``"max"``, ``"last"``, ``"mean"``, ``"sum"`` (for
            spikes, their count) over time, or ``"all"``.
        encode: turns static examples into sequences; None expects sequences ``(B, T, ...)``.
        record: whether to return `Recorded`, with the spikes of every stage.
        hoist: whether a stage's synapses are applied to all steps at once: True, False, one per stage, or
            ``"auto"``: the first stage's, if its fan-in is at least the number of neurons or the currents of
            all steps fit into the cache; a later stage's, if both its currents and the spikes below do. The
            images inside convolutional synapses must fit into the cache of one core. Synapses with batch norm are
            always applied to all steps at once.
        chunk: store only the state every so many steps, and rerun each chunk in the backward pass; for long
            sequences, about sqrt(T). Synapses then stay in the loop.
        store: ``"membrane"`` stores only the membrane of every step and is differentiable in reverse mode;
            ``"all"`` leaves differentiation to JAX: any mode, more memory.
        unroll: steps per iteration of the compiled loop.

    Raises:
        ModelError: there are no stages, or options cannot be combined.
        UnknownName: no readout has that name.

    Example:
        >>> import neurai_core as neurai
        >>> from neurai_core.models.spiking import LIF, Leaky, Stage
        >>> stages = (Stage(dense(16), LIF(0.9), recurrent=True), Stage(dense(3), Leaky(0.9)))
        >>> model = SpikingNetwork(stages, neurai.surrogate("superspike", alpha=10.0))
        >>> params, _ = model.init(jax.random.key(0), (20, 8))
        >>> model(params, jnp.ones((4, 20, 8))).shape
        (4, 3)
    """

    stages: tuple[Stage, ...]
    surrogate: Any
    readout: str = "max"
    encode: Encoder | None = None
    record: bool = False
    hoist: Hoist | tuple[bool, ...] = "auto"
    chunk: int | None = None
    store: Literal["membrane", "all"] = "membrane"
    unroll: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", tuple(self.stages))
        object.__setattr__(self, "readout", check_readout(self.readout))
        _check_options(self)

    def init(self, key: jax.Array, input_shape: Shape) -> tuple[PyTree, PyTree]:
        """Create parameters.

        Args:
            key: PRNG key.
            input_shape: shape of one example: ``(T, D)`` or ``(T, H, W, C)`` for a sequence, the shape without
                time if the network has an encoder.

        Returns:
            ``(params, model_state)``: one dict per stage, and the collections of every stage's synapses, ``()`` when
            there are none.

        Raises:
            ModelError: a stage cannot take the output of the stage before it.
        """
        shape = tuple(input_shape) if self._constant else self._sequence_shape(input_shape)[1:]
        made = []
        for index, (stage, stage_key) in enumerate(zip(self.stages, self._keys(key), strict=True)):
            with naming(index, stage.synapse, shape, what="Stage"):
                own, running = stage.init(stage_key, shape)
                shape = output_shape(stage.synapse, own["input"], running, shape)
            made.append((own, running))
        params, model_state = zip(*made, strict=True)
        return params, model_state if jax.tree.leaves(model_state) else ()

    def apply(
        self, params: PyTree, model_state: PyTree, x: jax.Array, *, key: jax.Array | None = None, train: bool = False
    ) -> tuple[Any, PyTree]:
        """Outputs and the model state, updated in training; a rate code draws from ``key``."""
        befores, states = self._run(params, self._states(model_state), self._drive(params, x, key), train)
        return self._outputs(params, befores), model_state if model_state == () else states

    def __call__(self, params: PyTree, x: jax.Array, model_state: PyTree = ()) -> Any:
        """Outputs of a batch; a rate code draws from its seed."""
        return self.apply(params, model_state, x)[0]

    def start(self, params: PyTree, x: jax.Array, model_state: PyTree = ()) -> tuple[Past, ...]:
        """The state before the first step: every neuron at rest, for a batch like ``x``.

        Args:
            params: as ``init`` makes them.
            x: what the first stage sees at one step, ``(B, ...)``; only its shape matters.
            model_state: likewise.
        """
        below, state = self._numbers(params, x, one_step=True), []
        for index, running in enumerate(self._states(model_state)):
            stage = self.stages[index]
            with naming(index, stage.synapse, shape_text(below), what="Stage"):
                below = jax.eval_shape(stage.project, params[index], below, running)
            state.append(stage.start(below.shape, below.dtype))
        return tuple(state)

    def step(
        self, params: PyTree, state: tuple[Past, ...], x: jax.Array, model_state: PyTree = ()
    ) -> tuple[Any, tuple[Past, ...]]:
        """Advance by one time step, for inputs that arrive one by one, such as those of a control loop.

        A pure function that can be jitted and scanned. Over the steps of a sequence, its outputs are the traces of the
        network with ``readout="all"``.

        Args:
            params: as ``init`` makes them.
            state: from `start`, or from the step before.
            x: what the first stage sees at this step, ``(B, ...)``; the encoder is not used.
            model_state: as ``init`` or training made it; it does not change.

        Returns:
            ``(outputs, state)``: the last stage's spikes or potentials at this step, ``(B, C)``, or `Recorded` with
            the spikes of every stage, ``(B, ...)`` each, if ``record``; and the state after the step.

        Raises:
            ModelError: the parameters or the state are those of another network.

        Example:
            >>> import neurai_core as neurai
            >>> model = snn((8, 16, 3), surrogate=neurai.surrogate("superspike"))
            >>> params, _ = model.init(jax.random.key(0), (20, 8))
            >>> x = jnp.ones((4, 20, 8))
            >>> state, traces = model.start(params, x[:, 0]), []
            >>> for t in range(20):
            ...     outputs, state = model.step(params, state, x[:, t])
            ...     traces.append(outputs)
            >>> bool(jnp.allclose(model.read(jnp.stack(traces, axis=1)), model(params, x), atol=1e-6))
            True
        """
        if not isinstance(state, tuple) or len(state) != len(self.stages):
            given = f"{len(state)} entries" if isinstance(state, tuple) else f"a {type(state).__name__}"
            raise ModelError(
                f"state has {given}, expected a tuple of {len(self.stages)}, one entry per stage.",
                "model.start(params, x) makes the first one.",
            )
        below: Any = self._numbers(params, x, one_step=True)
        spikes, now = [], []
        for index, running in enumerate(self._states(model_state)):
            stage, own = self.stages[index], params[index]
            with naming(index, stage.synapse, shape_text(below), what="Stage"):
                current = stage.project(own, below, running)
            before = stage.charge(own, state[index], current)
            below, past = stage.fire(own, self.surrogate, before)
            spikes.append(below)
            now.append(past)
        return (Recorded(below, tuple(spikes)) if self.record else below), tuple(now)

    def membranes(
        self, params: PyTree, x: jax.Array, *, key: jax.Array | None = None, model_state: PyTree = ()
    ) -> tuple[State, ...]:
        """For every stage, the entries of its state before the reset that determine its output, ``(T, B, ...)`` each.

        Args:
            params: as ``init`` makes them.
            x: a batch.
            key: for a rate code.
            model_state: as ``init`` or training made it.
        """
        return replace(self, record=True)._run(params, self._states(model_state), self._drive(params, x, key))[0]

    def sequence(self, params: PyTree, x: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        """The batch as the first stage sees it, ``(B, T, ...)``, in the dtype of the parameters.

        Args:
            params: as ``init`` makes them.
            x: a batch.
            key: for a rate code.
        """
        if self.encode is None:
            return self._numbers(params, x)
        # Encode before rounding to the parameters' precision: 16 bits cannot distinguish 1000 steps.
        wide = self._numbers(params, x, wide_float)
        return self.encode(wide, key=key).astype(jnp.result_type(*jax.tree.leaves(params)))

    def read(self, traces: jax.Array) -> jax.Array:
        """Outputs from the last stage's traces ``(B, T, C)``."""
        return read(self.readout, traces)

    def layered(self) -> Layered:
        """The same network as a `Layered` whose activities are whole sequences, one layer per stage.

        For rules that work layer by layer. There is then one loop per stage.

        Example:
            >>> import neurai_core as neurai
            >>> model = snn((8, 16, 3), surrogate=neurai.surrogate("superspike"), steps=10)
            >>> params, _ = model.layered().init(jax.random.key(0), (8,))
            >>> model.layered()(params, jnp.ones((4, 8))).shape
            (4, 3)
        """
        return stages_as_layers(self)

    # ---- plumbing

    @property
    def _constant(self) -> bool:
        return isinstance(self.encode, Constant)

    def _keys(self, key: jax.Array) -> jax.Array:
        return jax.random.split(key, len(self.stages))

    def _sequence_shape(self, input_shape: Shape) -> Shape:
        if self.encode is None:
            return tuple(input_shape)
        encode = self.encode
        one = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
        return tuple(jax.eval_shape(lambda x: encode(x), one).shape[1:])

    def _numbers(
        self, params: PyTree, x: jax.Array, chosen: Callable[[Any], Any] = jnp.dtype, *, one_step: bool = False
    ) -> jax.Array:
        """Check a batch, or one step of it, and convert it to the dtype of the parameters, or one chosen by it."""
        if not isinstance(params, (tuple, list)) or len(params) != len(self.stages):
            given = f"{len(params)} entries" if isinstance(params, (tuple, list)) else f"a {type(params).__name__}"
            raise ModelError(
                f"params has {given}, expected a tuple of {len(self.stages)}, one entry per stage.",
                "model.init(key, input_shape) makes them.",
            )
        if self.encode is None and not one_step and jnp.ndim(x) < 3:
            raise ModelError(
                f"A spiking network without an encoder takes sequences (B, T, D), got {jnp.shape(x)}.",
                "Give it encode=Constant(50), Rate(50) or Latency(50).",
            )
        return jnp.asarray(x, chosen(jnp.result_type(*jax.tree.leaves(params))))

    def _drive(self, params: PyTree, x: jax.Array, key: jax.Array | None) -> jax.Array:
        """The sequence, or an input that is the same at every step."""
        return self._numbers(params, x) if self._constant else self.sequence(params, x, key=key)

    def _states(self, model_state: PyTree) -> tuple[PyTree, ...]:
        """One model state per stage."""
        if model_state != ():
            return tuple(model_state)
        for index, stage in enumerate(self.stages):
            if stage.synapse.stateful:
                raise ModelError(
                    f"Stage {index} ({stage.synapse.name}) carries a model state and none was given.",
                    "Pass the model_state that init returned: model(params, x, model_state).",
                )
        return ((),) * len(self.stages)

    def _run(
        self, params: PyTree, states: tuple[PyTree, ...], drive: Any, train: bool = False
    ) -> tuple[tuple[State, ...], tuple[PyTree, ...]]:
        """Run the loops one after another.

        Returns:
            Every stage's state before the reset if recorded, else that of the last; and the model states.
        """
        steps = self.encode.steps if isinstance(self.encode, Constant) else check_steps(drive.shape[1])
        axis, go = None if self._constant else 1, run if self.store == "membrane" else run_plainly
        found: list[State] = []
        updated = list(states)
        hoist = self.hoist if self.chunk is None else False
        for first, last, hoisted in loops(self.stages, hoist, params, states, drive, steps, constant=self._constant):
            stages, own = self.stages[first:last], tuple(params[first:last])
            if hoisted:
                drive, updated[first] = self._projected(params, states[first], first, drive, axis, train)
                own = (_without_input(own[0]), *own[1:])
                axis = None if axis is None else 0
            kept = tuple(range(last - first)) if self.record else (last - first - 1,)
            chunk = None if self.chunk is None else min(self.chunk, steps)
            loop = Loop(stages, steps, axis, hoisted, kept, chunk, self.unroll)
            found.extend(go(loop, self.surrogate, own, drive))
            drive, axis = found[-1], 0
        return tuple(found if self.record else found[-1:]), tuple(updated)

    def _projected(
        self, params: PyTree, running: PyTree, first: int, drive: Any, axis: int | None, train: bool
    ) -> tuple[jax.Array, PyTree]:
        """The currents of stage ``first`` for all steps at once, time axis first, and its model state."""
        stage = self.stages[first]
        if axis is None:
            return stage.projected(params[first], running, drive, train=train)
        if first == 0:
            current, running = _folded(stage, params[0], running, drive, train)
            return jnp.moveaxis(current, axis, 0), running
        below = self.stages[first - 1]

        # Rematerialized: the spikes are recomputed from the membranes, which are stored anyway.
        @jax.checkpoint
        def project(own: PyTree, under: PyTree, surrogate: Any, before: State) -> tuple[jax.Array, PyTree]:
            return _folded(stage, own, running, below.output(under, surrogate, before), train)

        return project(params[first], params[first - 1], self.surrogate, drive)

    def _outputs(self, params: PyTree, befores: tuple[State, ...]) -> Any:
        stages = self.stages if self.record else self.stages[-1:]
        own = params if self.record else params[-1:]
        triples = zip(stages, own, befores, strict=True)
        traces = [jnp.moveaxis(stage.output(p, self.surrogate, before), 0, 1) for stage, p, before in triples]
        outputs = self.read(traces[-1])
        return Recorded(outputs, tuple(traces)) if self.record else outputs


def snn(
    sizes: Sequence[int],
    *,
    surrogate: Any,
    steps: int | None = None,
    encode: str | Encoder = "constant",
    cell: Cell | None = None,
    output: Cell | None = None,
    recurrent: bool = False,
    bias: bool = True,
    readout: str = "mean",
    **options: Any,
) -> SpikingNetwork:
    """A network of dense spiking stages with a leaky readout.

    Args:
        sizes: widths from the input to the output, at least two.
        surrogate: from `neurai_core.surrogate`.
        steps: number of steps for static inputs, which are then encoded; None expects sequences.
        encode: ``"constant"``, ``"rate"``, ``"latency"`` or an encoder.
        cell: the hidden neurons; by default `LIF` with a membrane of 10 steps and a synaptic current of 5.
        output: the output neurons; by default `Leaky` with 20 steps.
        recurrent: whether the hidden stages are recurrent.
        bias: whether the synapses have a bias, a constant current that accumulates over the steps.
        readout: as in `SpikingNetwork`.
        **options: further options of `SpikingNetwork`.

    Raises:
        ModelError: fewer than two sizes, a width below 1, or fewer than one step.
        UnknownName: no encoder or readout has that name.

    Example:
        >>> import neurai_core as neurai
        >>> model = snn((64, 128, 10), surrogate=neurai.surrogate("superspike", alpha=10.0), steps=50)
        >>> params, _ = model.init(jax.random.key(0), (64,))
        >>> model(params, jnp.ones((4, 64))).shape
        (4, 10)
    """
    if len(sizes) < 2:
        raise ModelError(
            f"A spiking network needs at least the widths of its input and output, got {tuple(sizes)}.",
            "snn((64, 128, 10), ...)",
        )
    hidden = [Stage(dense(width, bias=bias), cell or HIDDEN, recurrent) for width in sizes[1:-1]]
    stages = (*hidden, Stage(dense(sizes[-1], bias=bias), output or OUTPUT))
    return SpikingNetwork(stages, surrogate, readout, _encoder(encode, steps), **options)


def _encoder(encode: str | Encoder, steps: int | None) -> Encoder | None:
    if steps is None:
        return None if isinstance(encode, str) else encode
    return encoder(encode, check_steps(steps)) if isinstance(encode, str) else encode


def _check_options(model: SpikingNetwork) -> None:
    if not model.stages:
        raise ModelError("A spiking network needs at least one stage, got none.", "Stage(dense(10), Leaky(0.9))")
    if model.store not in ("membrane", "all"):
        raise ModelError(f"store={model.store!r} is neither 'membrane' nor 'all'.", "The default is 'membrane'.")
    for name in ("chunk", "unroll"):
        value = getattr(model, name)
        if value is not None and value < 1:
            raise ModelError(f"{name}={value} is not a number of steps, expected at least 1.", f"{name}=10")
    if model.chunk is not None and model.store == "all":
        raise ModelError(
            "chunk stores less than every membrane, and store='all' more.", "Leave one of the two at its default."
        )
    if isinstance(model.hoist, tuple) and len(model.hoist) != len(model.stages):
        raise ModelError(
            f"hoist names {len(model.hoist)} stages of {len(model.stages)}.", "Give one bool per stage, or one for all."
        )
    ahead = model.hoist if isinstance(model.hoist, tuple) else (model.hoist,) * len(model.stages)
    for index, (stage, one) in enumerate(zip(model.stages, ahead, strict=True)):
        if stage.synapse.stateful and (model.chunk is not None or not one):
            what = "hoist keeps" if model.chunk is None else f"chunk={model.chunk} keeps"
            raise ModelError(
                f"Stage {index} ({stage.synapse.name}) has batch statistics over all steps, and {what} its synapses in "
                "the loop.",
                'Leave out chunk, and leave hoist at "auto".',
            )


def _folded(stage: Stage, own: PyTree, running: PyTree, below: jax.Array, train: bool) -> tuple[jax.Array, PyTree]:
    """Currents of all steps, whichever of the two leading axes is the batch axis, and the model state."""
    current, running = stage.projected(own, running, below.reshape(-1, *below.shape[2:]), train=train)
    return current.reshape(*below.shape[:2], *current.shape[1:]), running


def _without_input(own: PyTree) -> PyTree:
    """The parameters that a projected stage still uses, so that its loop carries no gradient for the others."""
    return {name: value for name, value in own.items() if name != "input"}
