"""From settings to a training task: data, network, rule, loss and optimizer that fit together.

Everything that can be known before the first step is checked here, without computing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, cast

import jax
import numpy as np
import optax

import neurai_core as neurai
from neurai_core.arrays import PyTree, Shape, shape_text
from neurai_core.data import Dataset, check, steps_per_epoch
from neurai_core.errors import DataError, ModelError, SettingsError
from neurai_core.layered import check_forward
from neurai_core.losses import accuracy_function, cross_entropy, loss_function, sum_cross_entropy
from neurai_core.rule import Objective, Problem, Rule, check_objective, objective
from neurai_core.specs import AlgorithmSpec
from neurai_core.training.activities import seen
from neurai_core.training.defaults import STOPPER
from neurai_core.training.networks import network
from neurai_core.training.optimizers import optimizer
from neurai_core.training.settings import Chosen, RunSettings, needs_of, stopping_of
from neurai_core.training.starting import key_of
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
        loss_name: the loss, for the record.
        data_sha256: hash of the data as read, before reshaping for the model.
        source_sha256: hash of the file with the user's model; empty for a built-in one.
        surrogate: surrogate of a spiking network; None for any other.
        own_loss: what the rule reports as its loss, in words, if it is not that of the feed-forward pass.
        unsupervised: whether the rule learns from inputs alone, so that a linear probe scores what it learned.
        observers: observers of this run, besides those that are active anyway.
    """

    rule: Rule
    model: Any
    params: PyTree
    data: Dataset
    score: Objective
    optimizer: optax.GradientTransformation
    epochs: int
    batch_size: int
    seed: int = 0
    model_state: PyTree = ()
    loss_name: str = ""
    data_sha256: str = ""
    source_sha256: str = ""
    surrogate: Any = None
    own_loss: str = ""
    unsupervised: bool = False
    observers: tuple[Any, ...] = ()

    @property
    def problem(self) -> Problem:
        """What the rule is trained on: shapes and dtypes of a batch, and the number of classes."""
        x, y = (
            jax.ShapeDtypeStruct((self.batch_size, *one.shape[1:]), jax.dtypes.canonicalize_dtype(one.dtype))
            for one in (self.data.x_train, self.data.y_train)
        )
        return Problem((x, y), self.data.n_classes)

    @property
    def epoch_steps(self) -> int:
        """Steps of one epoch."""
        return steps_per_epoch(len(self.data.x_train), self.batch_size)

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.epochs * self.epoch_steps

    @property
    def n_params(self) -> int:
        """Number of parameters."""
        return sum(int(np.size(leaf)) for leaf in jax.tree.leaves(self.params))


def prepare(chosen: Chosen) -> Task:
    """Build the task that a run's settings describe.

    Raises:
        UnknownName: no loss, optimizer or activation has that name.
        SettingsError: a setting of the optimizer is wrong.
        DataError: the data are invalid.
        ModelError: the model does not fit the data, the loss or the rule.
    """
    settings = chosen.settings
    spec = cast(AlgorithmSpec, neurai.spec("algorithm", settings.rule))
    read = neurai.dataset(settings.data, **chosen.parts["data"])
    check(read, batch_size=settings.batch_size, seed=settings.seed)
    _check_labels(spec, settings, read)
    loss, accuracy = _loss_name(settings, read), None if read.n_classes is None else "accuracy"
    rule = neurai.algorithm(settings.rule, loss=loss, accuracy=accuracy, **chosen.parts["rule"])
    steps = optimizer(
        settings.optimizer,
        settings.lr,
        schedule=settings.schedule,
        steps=_n_steps(settings, read),
        settings=chosen.parts["optimizer"],
    )
    key = key_of(settings.seed, 0)
    spike = settings.surrogate and neurai.surrogate(settings.surrogate, **chosen.parts["surrogate"])
    n_outputs = None if spec.unsupervised else _n_outputs(read)
    found = network(settings.model, read.input_shape, n_outputs, key, surrogate=spike, steps=settings.steps)
    data = _reshaped(read, "x", (math.prod(read.input_shape),)) if found.flat else read
    adapted = seen(found.model, settings.activities, needs=needs_of(settings.rule), input_shape=data.input_shape)
    params, model_state = adapted.split(found.params)
    model, extended = adapted.model, getattr(rule, "extended", None)
    if extended is not None:  # checked, as every function of a rule by name
        model, params = extended(model, params, key=jax.random.fold_in(key, 1), input_shape=data.input_shape)
    task = Task(
        rule=with_alignment(rule, loss) if settings.align else rule,
        model=model,
        params=params,
        data=data,
        score=objective(loss_function(loss), accuracy_function(accuracy)),
        optimizer=steps,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        seed=settings.seed,
        model_state=model_state,
        loss_name=loss,
        data_sha256=read.sha256,
        source_sha256=found.sha256,
        surrogate=spike,
        own_loss=spec.own_loss,
        unsupervised=spec.unsupervised,
        observers=_observers(chosen),
    )
    return _fitting(task)


def _observers(chosen: Chosen) -> tuple[Any, ...]:
    if chosen.settings.stop_early is None:
        return ()
    return (neurai.observer(STOPPER, **stopping_of(chosen.settings.stop_early)),)


def _n_steps(settings: RunSettings, data: Dataset) -> int:
    """Steps of the whole run, which must fit into 32 bits."""
    steps = settings.epochs * steps_per_epoch(len(data.x_train), settings.batch_size)
    if steps >= 2**31:
        raise SettingsError(f"{settings.epochs} epochs are {steps} steps; at most {2**31 - 1} can be counted.")
    return steps


def _n_outputs(data: Dataset) -> int:
    return data.n_classes or math.prod(data.y_train.shape[1:])


def _check_labels(spec: AlgorithmSpec, settings: RunSettings, data: Dataset) -> None:
    """Check that there are targets if the rule learns from them, and no loss of targets if it does not."""
    if spec.unsupervised and settings.loss != "auto":
        raise SettingsError(
            f"The rule {spec.name!r} learns from inputs alone and has no use for the loss {settings.loss!r}.",
            "Leave out --loss.",
        )
    if not (spec.unsupervised or data.labeled):
        able = ", ".join(neurai.names("algorithm", supports="unsupervised")) or "none of those installed"
        raise DataError(
            f"{data.name} has no targets, and the rule {spec.name!r} learns from targets.",
            f"Add y_train and y_test, or choose a rule that learns from inputs alone: {able}.",
        )


def _loss_name(settings: RunSettings, data: Dataset) -> str:
    """The requested loss, or the default for the data."""
    if settings.loss == "auto":
        return "mse" if data.n_classes is None else "cross_entropy"
    if loss_function(settings.loss) in (cross_entropy, sum_cross_entropy) and _n_outputs(data) == 1:
        raise DataError(
            f"The loss {settings.loss!r} compares classes, and {data.name} has one number per example to predict.",
            "Use --loss mse, or integer labels.",
        )
    return settings.loss


def _fitting(task: Task) -> Task:
    """The task with targets in the shape of the outputs, checked."""
    shape = (task.batch_size, *task.data.input_shape)
    x = jax.ShapeDtypeStruct(shape, task.data.x_train.dtype)
    outputs = check_forward(task.model, task.params, x, model_state=task.model_state)
    if task.unsupervised:  # any features will do
        return task
    task = replace(task, data=_targets_like(task.data, outputs))
    for y in (task.data.y_train, task.data.y_test):  # all of them, to check their values
        check_objective(task.score, jax.ShapeDtypeStruct((len(y), *outputs.shape[1:]), outputs.dtype), y)
    return task


def _targets_like(data: Dataset, outputs: Any) -> Dataset:
    shape = tuple(getattr(outputs, "shape", ()))
    if data.n_classes is not None:
        _check_classes(data, outputs, shape)
        return data
    targets = data.y_train.shape[1:]
    if math.prod(shape[1:]) != math.prod(targets):
        raise ModelError(
            f"The model gives {shape_text(outputs)}, and each target of {data.name} has shape {targets}.",
            f"Give its last layer {math.prod(targets)} outputs.",
        )
    return _reshaped(data, "y", shape[1:])  # (B,) against (B, 1) would broadcast to (B, B)


def _check_classes(data: Dataset, outputs: Any, shape: Shape) -> None:
    """Check that the model gives a score to every class, at every labeled position."""
    labels = np.issubdtype(data.y_train.dtype, np.integer)
    positions = data.y_train.shape[1:] if labels else data.y_train.shape[1:-1]
    if len(shape) < 2 or shape[1:-1] != positions or shape[-1] < (data.n_classes or 0):
        where = f" at each of {math.prod(positions)} positions" if positions else ""
        wanted = ", ".join(map(str, ("B", *positions, data.n_classes)))
        raise ModelError(
            f"The model gives {shape_text(outputs)}, and {data.name} has {data.n_classes} classes{where}.",
            f"Give its last layer {data.n_classes} outputs" + (f", of shape ({wanted})." if positions else "."),
        )


def _reshaped(data: Dataset, name: str, shape: tuple[int, ...]) -> Dataset:
    parts = {f"{name}_{part}": getattr(data, f"{name}_{part}") for part in ("train", "test")}
    return replace(data, **{key: array.reshape(len(array), *shape) for key, array in parts.items()})
