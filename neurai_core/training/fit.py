"""`neurai.fit`: training from Python, by the loop of ``neurai train``, with names or objects."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import optax

from neurai_core.arrays import PyTree
from neurai_core.batched import BatchedData
from neurai_core.data import Dataset, check, numbered_classes
from neurai_core.errors import DataError, OutputError, SettingsError, UsageError
from neurai_core.explain import place_of
from neurai_core.registry import REGISTRY
from neurai_core.rule import Rule, model_state_of
from neurai_core.specs import AlgorithmSpec
from neurai_core.training import run
from neurai_core.training.callbacks import Callbacks
from neurai_core.training.chosen import PYTHON
from neurai_core.training.devices import unused
from neurai_core.training.folders import holds_run
from neurai_core.training.loop import Trained, train_task
from neurai_core.training.observed import observed
from neurai_core.training.predicting import Predictor
from neurai_core.training.record import read_metrics
from neurai_core.training.saving import USUALLY, Options, every_of
from neurai_core.training.settings import Chosen, RunSettings, choose
from neurai_core.training.stream import Batch, Data, batch_of, stream_of, stream_of_data
from neurai_core.training.task import Objects, Task, prepare
from neurai_core.training.team import team


@dataclass(frozen=True, eq=False)
class Fitted:
    """A trained network, from `fit`.

    Attributes:
        rule: the learning rule.
        model: the model, as given or as found by name.
        params: its trained parameters, in the model's own structure.
        state: the state of the rule, with the collections of the model (batch statistics).
        metrics: a dictionary per epoch, in order; ``pandas.DataFrame(fitted.metrics)`` makes a table of them.
        steps: number of steps done.
        stopped: why an observer ended training early; empty if none did.
        run: the folder of the run; None if it was trained without one.

    Example:
        >>> import neurai_core as neurai
        >>> fitted = neurai.fit("bp", "mlp:16", None, "digits", epochs=1)
        >>> fitted.predict(neurai.dataset("digits").x_test[:5]).shape
        (5, 10)
    """

    rule: Rule
    model: Any
    params: PyTree = field(repr=False)
    state: PyTree = field(repr=False)
    metrics: list[dict[str, float]] = field(repr=False)
    steps: int
    stopped: str
    run: Path | None
    _predictor: Predictor = field(repr=False)

    def predict(self, x: Any) -> Any:
        """The outputs of the trained network for inputs x, (B, ...), by the rule's own prediction."""
        return self._predictor(x)


def fit(
    rule: str | Rule,
    model: Any,
    params: PyTree,
    data: Any,
    *,
    test: Any = None,
    settings: Mapping[str, Any] | None = None,
    loss: str | Callable[..., Any] | None = None,
    optimizer: str | optax.GradientTransformation | None = None,
    optimizer_settings: Mapping[str, Any] | None = None,
    optimizer_for: Mapping[str, str] | None = None,
    lr: float | str | None = None,
    schedule: str | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    dtype: str | None = None,
    devices: int | str | None = None,
    shard: str | None = None,
    seed: int | None = None,
    activities: str | None = None,
    align: bool | None = None,
    classes: int | None = None,
    steps_per_epoch: int | None = None,
    observers: Iterable[Any] = (),
    out: str | Path | None = None,
    resume: bool = False,
    every: str | int | None = None,
    keep: int = 2,
    force: bool = False,
) -> Fitted:
    """Train a network with a learning rule, as ``neurai train`` does.

    What is not given is as in ``neurai train --rule RULE``: the settings that suit the rule, then the usual defaults.

    Args:
        rule: name, or a rule that was built, ``neurai.algorithm(NAME, loss="mse", accuracy="accuracy")``.
        model: a `Layered`, a model of a library with an adapter (Equinox, Flax), any callable ``model(params, x)``, or
            a text as for ``--model``, such as ``"mlp:128,64"``.
        params: its parameters, which are not changed; None takes those inside the model, or initializes new ones. A
            function of your own needs them.
        data: name of a data set (also ``"npz:FILE"``), a `neurai_core.data.Dataset` or
            `neurai_core.batched.BatchedData`, a pair ``(x, y)`` of arrays or of
            lists of numbers (``(x, None)`` for a rule that learns from inputs alone), or batches: an iterable of pairs
            ``(x, y)`` that can be gone through in every epoch, such as a list or the loader of another library, or a
            function ``epoch -> iterable`` with epochs counted from 0. A generator serves one epoch. Batches keep their
            order.
        test: test data beside arrays or batches: a pair ``(x, y)``, or batches, which are then held in memory. Without
            them, there are no test metrics.
        settings: settings of a rule that is given by name, such as ``{"n": 10}``.
        loss: name, or a callable ``(outputs, targets) -> scalar``; by default cross entropy for labels, else mean
            squared error. A `Rule` has its own; then it is that of the test data.
        optimizer: name of an optax optimizer, a text as for ``--optimizer``, such as ``"chain(clip(1.0), adamw())"``,
            or an optax optimizer.
        optimizer_settings: further arguments of an optimizer that is given by name, such as ``{"momentum": 0.9}``.
        optimizer_for: optimizers of parts of the parameters, as texts by place, such as ``{"0/w": "sgd(0.1)"}``.
        lr: learning rate of an optimizer that is given by name, the maximum of its schedule; or an optax schedule as
            text, such as ``"cosine_decay_schedule(0.1, 1000)"``.
        schedule: of the learning rate, ``"cosine"`` or ``"constant"``.
        epochs: passes over the training data.
        batch_size: examples per step; batches have their own.
        dtype: ``"bfloat16"`` computes in it; parameters, gradients and the optimizer keep their types.
        devices: number of devices that share every batch, or ``"all"``; see the page on devices. The parameters of the
            result are on all of them.
        shard: ``"params"`` splits large parameters and what the optimizer keeps for them over the devices.
        seed: seed of new parameters, data order and stochastic layers.
        activities: what relaxes, as ``--activities``.
        align: add to the metrics how well the rule's gradients align with the true ones.
        classes: number of classes of labels in arrays or batches; by default up to the largest label, or, for batches,
            as many as the model has outputs.
        steps_per_epoch: number of batches of an epoch, for batches without a length.
        observers: objects with hooks of observers, such as ``neurai.observer("early-stopping", patience=5)``, or texts
            as for ``--log``, such as ``"tensorboard,dir=events"``.
        out: folder for the run, as ``neurai train`` leaves it, with checkpoints; None keeps nothing on disk.
        resume: continue the run in ``out``, if there is one, bit for bit.
        every: how often to save a checkpoint: so many steps, or seconds as in ``"60s"``; by default after every epoch
            and every minute.
        keep: how many checkpoints to keep.
        force: continue although something that decides the bits of the run has changed.

    Raises:
        UsageError: the parts do not fit together; found before anything is trained.
        TrainingError: a loss was not finite, or a signal stopped a run with a folder.

    Example:
        >>> import jax, neurai_core as neurai
        >>> model = neurai.models.mlp((64, 32, 10))
        >>> params, _ = model.init(jax.random.key(0), (64,))
        >>> data = neurai.dataset("digits")
        >>> x, y = data.x_train.reshape(-1, 64), data.y_train
        >>> fitted = neurai.fit("pc", model, params, (x, y), optimizer="adam", lr=5e-3, epochs=2, batch_size=32)
        >>> [row["epoch"] for row in fitted.metrics], fitted.steps
        ([1, 2], 88)
    """
    observers = tuple(observers)
    given = {
        "optimizer_for": tuple(f"{part}={text}" for part, text in (optimizer_for or {}).items()) or None,
        "log": tuple(one for one in observers if isinstance(one, str)) or None,
        "epochs": epochs,
        "batch_size": batch_size,
        "dtype": dtype,
        "devices": devices,
        "shard": shard,
        "seed": seed,
        "lr": lr,
        "schedule": schedule,
        "activities": activities,
        "align": align,
    }
    loss = _loss_of(rule) if loss is None else loss
    named = {"rule": rule, "model": model, "data": data, "loss": loss, "optimizer": optimizer}
    chosen = _chosen(named, given, {"rule": settings or {}, "optimizer": optimizer_settings or {}})
    if idle := unused(chosen.settings.devices):
        warnings.warn(idle, stacklevel=2)
    objects = Objects(
        rule=_object(rule),
        model=_object(model),
        params=params,
        data=_data(data, test, chosen.settings, classes, steps_per_epoch, unsupervised=_unsupervised(rule)),
        loss=_object(loss),
        optimizer=_object(optimizer),
        observers=tuple(one for one in observers if not isinstance(one, str)),
    )
    folder = _folder(out, resume=resume, every=every, force=force)
    options = Options(USUALLY if every is None else every_of(every), keep, force)
    return _fitted(model, *_trained(chosen, objects, folder, resume, options))


def _folder(out: str | Path | None, **needing: Any) -> Path | None:
    """The folder, without which some arguments mean nothing."""
    asked = next((f"{name}={value!r}" for name, value in needing.items() if value), "")
    if out is None and asked:
        raise UsageError(f"{asked} needs the folder of the run.", "Give out=FOLDER.")
    return None if out is None else Path(out)


def _trained(
    chosen: Chosen, objects: Objects, out: Path | None, resume: bool, options: Options
) -> tuple[Task, Trained, Path | None]:
    """Train, in a folder or without one."""
    if out is not None and holds_run(out) and not resume:
        raise OutputError(f"{out} already holds a run.", "Choose another folder, or continue it with resume=True.")
    if out is None:
        task = prepare(chosen, objects)
        with observed(task) as active:
            return task, train_task(task, None, Callbacks(notify=active.notify, watch_steps=active.watch_steps)), None
    go = partial(run.go_on, out) if resume and holds_run(out) else partial(run.start, out=out)
    ended = go(chosen=chosen, options=options, objects=objects)
    return ended.task, ended.trained, out


def _fitted(model: Any, task: Task, trained: Trained, folder: Path | None) -> Fitted:
    last = trained.progress
    written = folder if team().writes else None
    rows = [row.as_dict() for row in trained.rows] if written is None else read_metrics(written)
    return Fitted(
        rule=task.rule,
        model=task.model if isinstance(model, str) else model,
        params=task.join(last.params, model_state_of(last.state)),
        state=last.state,
        metrics=rows,
        steps=int(last.step),
        stopped=trained.reason,
        run=folder,
        _predictor=Predictor(task.rule, task.model, last.params, last.state, task.data.input_shape),
    )


# ---------------------------------------------------------------------------- names and objects


def _object(given: Any) -> Any:
    """What was given in place of a name."""
    return None if isinstance(given, str) else given


def _chosen(named: Mapping[str, Any], given: Mapping[str, Any], parts: Mapping[str, Mapping[str, Any]]) -> Chosen:
    """The settings; those of an object describe it by the place where its class or function is defined."""
    _refuse_in_vain(named, given, parts)
    rule = named["rule"]
    flags = {name: value for name, value in named.items() if isinstance(value, str)} | dict(given)
    if isinstance(rule, Rule):
        usual = {} if rule.origin else {name: one.default for name, one in RunSettings.model_fields.items()}
        if isinstance(given["lr"], str):
            usual.pop("schedule", None)
        own = {"rule": rule.origin.name} if rule.origin else {}
        flags = usual | {key: value for key, value in flags.items() if value is not None} | own
    chosen = choose(flags, environ={}, parts=parts)
    described = {
        name: PYTHON + place_of(value)
        for name, value in named.items()
        if not (value is None or isinstance(value, str) or (isinstance(value, Rule) and value.origin))
    }
    return replace(chosen, settings=chosen.settings.model_copy(update=described))


def _refuse_in_vain(named: Mapping[str, Any], given: Mapping[str, Any], parts: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise for settings of a part that is an object, which has its own."""
    if not isinstance(named["rule"], str | Rule):
        raise UsageError(
            f"The rule is a {type(named['rule']).__name__}, expected a name or a Rule.",
            "Write neurai.algorithm(NAME, ...), or only the name.",
        )
    if isinstance(named["rule"], Rule) and parts["rule"]:
        raise SettingsError("settings are given, and so is a Rule, which has its own.", "Give the rule by name.")
    vain = [key for key in ("lr", "schedule") if given[key] is not None] + ["optimizer_settings"] * bool(
        parts["optimizer"]
    )
    if not (named["optimizer"] is None or isinstance(named["optimizer"], str)) and vain:
        raise SettingsError(f"{vain[0]} is given, and so is an optimizer, which has its own.", "Give it by name.")


def _unsupervised(rule: Any) -> bool:
    """Whether a rule learns from inputs alone."""
    name = rule.origin.name if isinstance(rule, Rule) and rule.origin else rule
    return isinstance(name, str) and cast(AlgorithmSpec, REGISTRY.spec("algorithm", name)).unsupervised


def _loss_of(rule: Any) -> str | None:
    """The name of the loss that a rule was built with and uses, which is also that of the test data."""
    if _unsupervised(rule):
        return None
    known = rule.origin.context.get("loss") if isinstance(rule, Rule) and rule.origin else None
    if known is not None and ":" in known:
        raise UsageError(f"The rule was built with the loss {known}, which has no name to find it by.", "Pass loss=...")
    return known


def _data(
    given: Any, test: Any, settings: RunSettings, classes: int | None, steps: int | None, *, unsupervised: bool
) -> Data | None:
    """The data as an object; None for a name."""
    if isinstance(given, str | Dataset | BatchedData):
        for name, value in (("test", test), ("classes", classes), ("steps_per_epoch", steps)):
            if value is not None:
                raise UsageError(f"{name} is given, and so is a data set, which has its own.", "Leave it out.")
        if isinstance(given, str):
            return None
        if isinstance(given, BatchedData):
            of_run = {"epochs": settings.epochs, "seed": settings.seed, "batch_size": settings.batch_size}
            return stream_of_data(given, **of_run)
        return check(given, batch_size=settings.batch_size, seed=settings.seed)
    held = None if test is None else _in_memory(test)
    if hasattr(given, "shape"):
        raise DataError(
            f"The training data are one {type(given).__name__}, expected the pair (x, y).",
            "Pass (x, None) for data without targets." if unsupervised else "Pass the targets as well: (x, y).",
        )
    if not _is_pair(given):
        return stream_of(given, epochs=settings.epochs, epoch_steps=steps, classes=classes, test=held)
    if steps is not None:
        raise UsageError("steps_per_epoch is given, and so are arrays, whose batches are counted.", "Leave it out.")
    return _arrays(batch_of(given, "the training data"), held, classes, settings)


def _arrays(train: Batch, test: Batch | None, classes: int | None, settings: RunSettings) -> Dataset:
    labels = np.issubdtype(train.y.dtype, np.integer)
    parts = [train.y, *([test.y] if test else [])]
    known = _numbered(parts) if labels and classes is None else None
    names = known if classes is None else tuple(map(str, range(classes)))
    x_test, y_test = test or Batch(train.x[:1], train.y[:1])  # checked too, and left out if it stands for nothing
    data = Dataset("arrays", train.x, train.y, x_test, y_test, classes=names)
    check(data, batch_size=settings.batch_size, seed=settings.seed)
    return data if test else replace(data, x_test=x_test[:0], y_test=y_test[:0])


def _numbered(labels: list[Any]) -> tuple[str, ...]:
    """The names of the classes of labels that count from 0."""
    found = np.concatenate([part.ravel() for part in labels])
    smallest, largest = (int(found.min()), int(found.max())) if found.size else (0, 0)
    if smallest > 0:
        raise DataError(
            f"The labels run from {smallest} to {largest}, expected classes that count from 0.",
            f"Subtract {smallest} from the labels; if class 0 merely has no example here, say classes={largest + 1}.",
        )
    return numbered_classes("the training data", *labels)


def _is_pair(given: Any) -> bool:
    """Whether data are a pair of arrays, or of lists of numbers, rather than batches."""
    if not (isinstance(given, tuple | list) and len(given) == 2):
        return False
    return all(one is None or hasattr(one, "shape") or (isinstance(given, tuple) and _is_array(one)) for one in given)


def _is_array(given: Any) -> bool:
    """Whether a list holds numbers, or lists of equally many."""
    try:
        return isinstance(given, list) and np.asarray(given).dtype.kind in "biuf"
    except (TypeError, ValueError, RuntimeError):  # of several lengths, or what cannot be an array
        return False


def _in_memory(given: Any) -> Batch:
    """Test data as two arrays."""
    if _is_pair(given):
        return batch_of(given, "the test data")
    try:
        parts = [batch_of(one, f"test batch {number}") for number, one in enumerate(given)]
    except TypeError:
        raise DataError(f"The test data are a {type(given).__name__}.", "Give (x, y), or batches of them.") from None
    if not parts:
        raise DataError("The test data hold no batch.", "Leave them out, or give at least one.")
    return Batch(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
