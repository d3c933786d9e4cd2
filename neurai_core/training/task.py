"""From settings to a training task: data, network, rule, loss and optimizer that fit together.

Everything that can be known before the first step is checked here, without computing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import numpy as np
import optax
from jax.sharding import Mesh

import neurai_core as neurai
from neurai_core.adapting import adapt
from neurai_core.arrays import PyTree, Shape, shape_text
from neurai_core.batched import BatchedData
from neurai_core.data import Dataset, check
from neurai_core.errors import DataError, ModelError, SettingsError
from neurai_core.layered import check_forward
from neurai_core.losses import accuracy_function, cross_entropy, loss_function, sum_cross_entropy
from neurai_core.optax_texts import lacks
from neurai_core.optimizers import optimizer, per_part
from neurai_core.rule import Objective, Problem, Rule, check_objective, objective
from neurai_core.run_defaults import STOPPER
from neurai_core.specs import AlgorithmSpec
from neurai_core.stored import is_stored
from neurai_core.training.activities import seen
from neurai_core.training.devices import Shard, check_divides, mesh_of, place_params
from neurai_core.training.networks import Untrained, initial_params, network
from neurai_core.training.precision import computing_in
from neurai_core.training.setting_sources import blaming_spec
from neurai_core.training.setting_texts import log_of, part_of, stopping_of
from neurai_core.training.settings import Chosen, RunSettings
from neurai_core.training.starting import key_of
from neurai_core.training.stream import Data, Stream, example_of, reshaped, steps_of, stream_of_data
from neurai_core.transforms import with_alignment


@dataclass(frozen=True, eq=False)
class Task:
    """A training task: what is trained, on which data, and how.

    Attributes:
        rule: turns the model and a batch into gradients.
        model: a `Layered`, an adapted model or a callable ``model(params, x)``.
        params: the parameters to start from.
        data: inputs and targets in the shapes that the model takes and gives.
        score: loss and accuracy of a batch, for the test set; the rule has its own.
        optimizer: turns gradients into updates.
        epochs: passes over the training data.
        batch_size: examples per step; rows that do not fill a batch are left out of their epoch.
        seed: seed of data order and stochastic layers.
        model_state: collections that the model's forward pass updates.
        network_steps: time steps for which the network sees an example, for the record; None if none were chosen, or if
            the data have a time axis and the choice was only the rule's default.
        loss_name: the loss, for the record; auto for a rule that learns from inputs alone.
        data_sha256: hash of the data as read, before reshaping for the model.
        source_sha256: hash of the file with the user's model; empty for a built-in one.
        surrogate: surrogate of a spiking network; None for any other.
        own_loss: what the rule reports as its loss, in words, if it is not that of the feed-forward pass.
        unsupervised: whether the rule learns from inputs alone, so that a linear probe scores what it learned.
        observers: observers of this run, besides those that are active anyway.
        mesh: the devices that share every batch; None for one.
        shard: what is split over the mesh besides batches.
        join: ``(params, model_state) -> `` the parameters in the structure of the user's model.
        network: the network as it was built, which tasks with another rule or optimizer can take; None for one made by
            hand.
    """

    rule: Rule
    model: Any
    params: PyTree
    data: Data
    score: Objective
    optimizer: optax.GradientTransformation
    epochs: int
    batch_size: int
    seed: int = 0
    model_state: PyTree = ()
    network_steps: int | None = None
    loss_name: str = ""
    data_sha256: str = ""
    source_sha256: str = ""
    surrogate: Any = None
    own_loss: str = ""
    unsupervised: bool = False
    observers: tuple[Any, ...] = ()
    mesh: Mesh | None = None
    shard: Shard = None
    join: Callable[[PyTree, PyTree], PyTree] = lambda params, model_state: params
    network: Untrained | None = None

    @property
    def rule_name(self) -> str:
        """The name of the rule; that of its function for one made by hand."""
        return str(self.rule.origin.name if self.rule.origin else self.rule.estimate.__qualname__)

    @property
    def problem(self) -> Problem:
        """What the rule is trained on: shapes and dtypes of a batch, and the number of classes."""
        x, y = (
            jax.ShapeDtypeStruct(one.shape, jax.dtypes.canonicalize_dtype(one.dtype))
            for one in example_of(self.data, self.batch_size)
        )
        return Problem((x, y), self.data.n_classes)

    @property
    def epoch_steps(self) -> int:
        """Steps of one epoch."""
        return steps_of(self.data, self.batch_size)

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.epochs * self.epoch_steps

    @property
    def n_params(self) -> int:
        """Number of parameters."""
        return sum(int(np.size(leaf)) for leaf in jax.tree.leaves(self.params))


class Objects(NamedTuple):
    """Parts of a run that are given as objects, in place of the names in its settings; None for those by name.

    Attributes:
        rule: a learning rule.
        model: a `Layered`, a model of a library with an adapter, or a callable ``model(params, x)``.
        params: its parameters; None takes those inside the model, or initializes a `Layered`.
        data: what is trained and tested on, checked.
        loss: ``(outputs, targets) -> scalar``.
        optimizer: of optax.
        observers: observers of this run, besides those that its settings name.
        network: the network that the settings name, where another task has built it.
    """

    rule: Rule | None = None
    model: Any = None
    params: PyTree = None
    data: Data | None = None
    loss: Callable[..., Any] | None = None
    optimizer: optax.GradientTransformation | None = None
    observers: tuple[Any, ...] = ()
    network: Untrained | None = None


BY_NAME = Objects()
_PARAMS = "Pass its parameters as params, or give a Layered or a model that holds its parameters."


def prepare(chosen: Chosen, objects: Objects = BY_NAME) -> Task:
    """Build the task that a run's settings describe.

    Args:
        chosen: the settings.
        objects: parts that are given as objects.

    Raises:
        UnknownName: no loss, optimizer or activation has that name.
        SettingsError: a setting of the optimizer is wrong, there are fewer devices, or they cannot share a batch.
        DataError: the data are invalid.
        ModelError: the model does not fit the data, the loss or the rule.
    """
    settings = chosen.settings
    mesh = mesh_of(settings.devices)
    spec = _spec(settings, objects)
    unsupervised = spec is not None and spec.unsupervised
    read = _named(chosen) if objects.data is None else objects.data
    check_divides(mesh, len(example_of(read, settings.batch_size).x), stream=isinstance(read, Stream))
    _check_labels(settings, read, unsupervised=unsupervised)
    with blaming_spec(settings.rule, chosen.sources["loss"]):
        loss: Any = _loss_name(settings, read) if objects.loss is None else objects.loss
    accuracy = None if read.n_classes is None else "accuracy"
    rule = objects.rule or neurai.algorithm(settings.rule, loss=loss, accuracy=accuracy, **chosen.parts["rule"])
    key = key_of(settings.seed, 0)
    spike = settings.surrogate and neurai.surrogate(settings.surrogate, **chosen.parts["surrogate"])
    n_outputs = None if unsupervised or objects.model is not None else _n_outputs(read)
    steps = _network_steps(chosen, read.input_shape)
    found = _network(chosen, steps, objects, read.input_shape, n_outputs, key, spike)
    data = reshaped(read, "x", (math.prod(read.input_shape),)) if found.flat else read
    needs = spec.needs if spec else "callable"
    adapted = seen(found.model, settings.activities, needs=needs, input_shape=data.input_shape)
    params, model_state = adapted.split(found.params)
    model, join, extended = adapted.model, adapted.join, getattr(rule, "extended", None)
    if extended is not None:  # checked, as every function of a rule by name
        model, params = extended(model, params, key=jax.random.fold_in(key, 1), input_shape=data.input_shape)
        join = adapt(model).join
    shard = None if mesh is None else settings.shard
    computing = rule if settings.dtype is None else computing_in(rule, settings.dtype)
    task = Task(
        rule=with_alignment(computing, loss) if settings.align else computing,
        model=model,
        params=place_params(mesh, params, shard),
        data=data,
        score=objective(loss_function(loss), accuracy_function(accuracy)),
        optimizer=_optimizer(chosen, objects, read, params),
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        seed=settings.seed,
        model_state=place_params(mesh, model_state),
        network_steps=None if "steps" in found.leaves else steps,
        loss_name=loss if isinstance(loss, str) and not unsupervised else settings.loss,
        data_sha256=read.sha256,
        source_sha256=found.sha256,
        surrogate=None if "surrogate" in found.leaves else spike,
        own_loss=spec.own_loss if spec else "",
        unsupervised=unsupervised,
        observers=(*_observers(chosen), *objects.observers),
        mesh=mesh,
        shard=shard,
        join=join,
        network=found,
    )
    return _fitting(task)


def named_data(chosen: Chosen) -> Dataset:
    """The data that the settings name, checked; not in batches, for several tasks at a time.

    Raises:
        DataError: they come in batches.
    """
    found = _named(chosen)
    if isinstance(found, Stream):
        raise DataError(
            f"{found.name} comes in batches, expected arrays: several runs are trained on the same data at a time.",
            "Train one at a time, with neurai train.",
        )
    return found


def _named(chosen: Chosen) -> Data:
    """The data that the settings name, checked, or the batches, which are checked as they arrive."""
    settings = chosen.settings
    data: Any = neurai.dataset(settings.data, **chosen.parts["data"])
    if not isinstance(data, BatchedData):
        return check(data, batch_size=settings.batch_size, seed=settings.seed)
    at = chosen.sources["batch_size"]
    if at.startswith("--") and not data.takes("batch_size"):
        raise SettingsError(f"{at} is given, and {data.name} comes in batches of its own.", "Leave it out.")
    return stream_of_data(data, epochs=settings.epochs, seed=settings.seed, batch_size=settings.batch_size)


def _spec(settings: RunSettings, objects: Objects) -> AlgorithmSpec | None:
    """The spec of the rule; None for one made by hand."""
    if objects.rule is None:
        return cast(AlgorithmSpec, neurai.spec("algorithm", settings.rule))
    origin = objects.rule.origin
    return cast(AlgorithmSpec, neurai.spec("algorithm", origin.name)) if origin else None


def _network_steps(chosen: Chosen, input_shape: Shape) -> int | None:
    """The time steps for the network; those that nobody asked for give way to the time axis of the data."""
    steps, asked = chosen.settings.steps, chosen.sources["steps"].startswith("--")
    timed = chosen.settings.model.partition(":")[0] == "snn" and len(input_shape) == 2
    return None if timed and not asked else steps


def _network(
    chosen: Chosen,
    steps: int | None,
    objects: Objects,
    input_shape: Shape,
    n_outputs: int | None,
    key: jax.Array,
    spike: Any,
) -> Untrained:
    """The network to train, by name or given. Defaults of a rule are no demand on a network of one's own."""
    if objects.network is not None:
        return objects.network
    asked = [name for name in ("surrogate", "steps") if chosen.sources[name].startswith("--")]
    if objects.model is not None:
        for name in asked:
            raise SettingsError(f"{name} is for networks by name, and the model is an object.", "Leave it out.")
        params = objects.params
        if params is None:
            params = initial_params("The model", objects.model, input_shape, key, hint=_PARAMS)
        return Untrained(objects.model, params, leaves=frozenset({"surrogate", "steps"}))
    made = network(chosen.settings.model, input_shape, n_outputs, key, surrogate=spike, steps=steps, asked=asked)
    return made if objects.params is None else made._replace(params=objects.params)


def _optimizer(chosen: Chosen, objects: Objects, data: Data, params: PyTree) -> optax.GradientTransformation:
    """The optimizer, given or by name, with those of parts of the parameters."""
    settings = chosen.settings
    make = partial(optimizer, lr=settings.lr, schedule=settings.schedule, steps=_n_steps(settings, data))
    parts = dict(map(part_of, settings.optimizer_for))
    usual = objects.optimizer
    if usual is None:
        _refuse_vain_rate(chosen, [settings.optimizer, *parts.values()])
        with blaming_spec(settings.rule, _source_of_optimizer(chosen)):
            usual = make(settings.optimizer, settings=chosen.parts["optimizer"])
    return per_part(usual, {part: make(text) for part, text in parts.items()}, params) if parts else usual


def _source_of_optimizer(chosen: Chosen) -> str:
    """Where the optimizer comes from: the rule only if nothing of it, nor its rate, was set otherwise."""
    sources = [
        at
        for name, at in chosen.sources.items()
        if at != "default" and (name in ("optimizer", "lr", "schedule") or name.startswith("optimizer."))
    ]
    return min(sources, key=lambda at: at.startswith("rule "), default="default")


def _refuse_vain_rate(chosen: Chosen, texts: list[str]) -> None:
    """Raise for a learning rate that no optimizer takes, because all have their own."""
    given, at = chosen.settings.lr, chosen.sources["lr"]
    used = any("(" not in text or lacks(text, "learning_rate") for text in texts)
    if at.startswith("--") and given != RunSettings.model_fields["lr"].default and not used:
        raise SettingsError(
            f"{at} gives a learning rate, and the optimizer {texts[0]!r} has its own.", "Leave out one of them."
        )


def _observers(chosen: Chosen) -> tuple[Any, ...]:
    settings = chosen.settings
    named = [log_of(text) for text in settings.log]
    if settings.stop_early is not None:
        named.append((STOPPER, stopping_of(settings.stop_early)))
    return tuple(neurai.observer(name, **given) for name, given in named)


def _n_steps(settings: RunSettings, data: Data) -> int:
    """Steps of the whole run, which must fit into 32 bits."""
    steps = settings.epochs * steps_of(data, settings.batch_size)
    if steps >= 2**31:
        raise SettingsError(f"{settings.epochs} epochs are {steps} steps; at most {2**31 - 1} can be counted.")
    return steps


def _n_outputs(data: Data) -> int:
    """The outputs that a model needs."""
    if data.n_classes == 0:
        raise DataError("Batches do not tell how many classes there are.", "Give their number: classes=10.")
    return data.n_classes or math.prod(example_of(data, 1).y.shape[1:])


def _check_labels(settings: RunSettings, data: Data, *, unsupervised: bool) -> None:
    """Check that there are targets if the rule learns from them, and no loss of targets if it does not."""
    if unsupervised and settings.loss != "auto":
        raise SettingsError(
            f"The rule {settings.rule!r} learns from inputs alone and has no use for the loss {settings.loss!r}.",
            "Leave out --loss.",
        )
    if not (unsupervised or data.labeled):
        able = ", ".join(neurai.names("algorithm", supports="unsupervised")) or "none of those installed"
        raise DataError(
            f"{data.name} has no targets, and the rule {settings.rule!r} learns from targets.",
            f"Add y_train and y_test, or choose a rule that learns from inputs alone: {able}.",
        )
    if unsupervised and isinstance(data, Stream) and len(data.x_test):
        raise DataError(
            f"The rule {settings.rule!r} learns from inputs alone and is tested by a linear probe, which needs the "
            "training data in memory.",
            "Give arrays, or leave out the test data.",
        )


def _loss_name(settings: RunSettings, data: Data) -> str:
    """The requested loss, or the default for the data."""
    if settings.loss == "auto":
        return "mse" if data.n_classes is None else "cross_entropy"
    classes = loss_function(settings.loss) in (cross_entropy, sum_cross_entropy)
    if classes and data.n_classes != 0 and _n_outputs(data) == 1:
        raise DataError(
            f"The loss {settings.loss!r} compares classes, and {data.name} has one number per example to predict.",
            "Use --loss mse, or integer labels.",
        )
    return settings.loss


def _fitting(task: Task) -> Task:
    """The task with targets in the shape of the outputs, checked."""
    x, _ = task.problem.batch
    outputs = check_forward(task.model, task.params, x, model_state=task.model_state)
    if task.unsupervised:  # any features will do
        return task
    task = replace(task, data=_targets_like(task.data, outputs))
    for y in _targets(task.data):  # all of them, to check their values; numbers in files have been checked
        given = jax.ShapeDtypeStruct(y.shape, y.dtype) if is_stored(y) else y
        check_objective(task.score, jax.ShapeDtypeStruct((len(y), *outputs.shape[1:]), outputs.dtype), given)
    return task


def _targets(data: Data) -> list[Any]:
    return [y for y in (data.first.y if isinstance(data, Stream) else data.y_train, data.y_test) if len(y)]


def _targets_like(data: Data, outputs: Any) -> Data:
    shape = tuple(getattr(outputs, "shape", ()))
    if isinstance(data, Stream) and data.n_classes == 0:  # labels, of as many classes as the model has outputs
        data = replace(data, n_classes=shape[-1] if len(shape) > 1 else 1)
    target = example_of(data, 1).y
    if data.n_classes is not None:
        _check_classes(data, target, outputs, shape)
        return data
    targets = target.shape[1:]
    if math.prod(shape[1:]) != math.prod(targets):
        raise ModelError(
            f"The model gives {shape_text(outputs)}, and each target of {data.name} has shape {targets}.",
            f"Give its last layer {math.prod(targets)} outputs.",
        )
    return reshaped(data, "y", shape[1:])  # (B,) against (B, 1) would broadcast to (B, B)


def _check_classes(data: Data, target: Any, outputs: Any, shape: Shape) -> None:
    """Check that the model gives a score to every class, at every labeled position."""
    labels = np.issubdtype(target.dtype, np.integer)
    positions = target.shape[1:] if labels else target.shape[1:-1]
    if len(shape) < 2 or shape[1:-1] != positions or shape[-1] < (data.n_classes or 0):
        where = f" at each of {math.prod(positions)} positions" if positions else ""
        wanted = ", ".join(map(str, ("B", *positions, data.n_classes)))
        one_hot = labels and positions[-1:] == (data.n_classes,)
        raise ModelError(
            f"The model gives {shape_text(outputs)}, and {data.name} has {data.n_classes} classes{where}.",
            "Whole numbers are labels; of one-hot rows, give y.argmax(axis=-1)."
            if one_hot
            else f"Give its last layer {data.n_classes} outputs" + (f", of shape ({wanted})." if positions else "."),
        )
