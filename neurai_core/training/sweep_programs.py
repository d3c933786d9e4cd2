"""Training the configurations of a sweep: those that differ in numbers alone share one compiled program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import jax

from neurai_core.data import Dataset, check
from neurai_core.errors import NeurAIError
from neurai_core.training.seeds import Looks, NeedsNumbers, Numbers, TrainedSeeds, check_started, train_seeds
from neurai_core.training.settings import Chosen
from neurai_core.training.swept import Configurations, Program
from neurai_core.training.task import Objects, Task, prepare


def first_task(planned: Configurations, program: Program, data: Dataset) -> Task:
    """The first task of a program, checked as far as possible without training.

    Raises:
        NeurAIError: the settings do not fit together; names the values of the configuration.
    """
    chosen = planned.chosen[program.points[0]]
    try:
        check(data, batch_size=chosen.settings.batch_size, seed=chosen.settings.seed)
        task = task_of(chosen, planned.seeds[0], data)
        check_started(task)
    except NeurAIError as error:
        values = planned.points[program.points[0]].items()
        error.message = f"With {', '.join(f'{name}={value}' for name, value in values)}: {error.message}"
        raise
    return task


def task_of(chosen: Chosen, seed: int, data: Dataset) -> Task:
    """The task of a configuration with a seed."""
    with_seed = replace(chosen, settings=chosen.settings.model_copy(update={"seed": seed}))
    return prepare(with_seed, Objects(data=data))


def train_program(
    planned: Configurations, program: Program, data: Dataset, looks: Looks | None = None, first: Task | None = None
) -> TrainedSeeds:
    """Train all configurations of a program with all seeds: in one compiled program if the rule allows it.

    A rule or an optimizer that needs a number to build its program gets one program for every configuration.

    Args:
        planned: the settings.
        program: its configurations.
        data: the data set.
        looks: functions to call after every epoch.
        first: the task of the first configuration and seed, if it was made before.

    Returns:
        The runs by configuration, then by seed.
    """
    chosen = [planned.chosen[at] for at in program.points]
    first = first or task_of(chosen[0], planned.seeds[0], data)
    tasks = [first, *(task_of(chosen[0], seed, data) for seed in planned.seeds[1:])]
    values = {name: [planned.points[at][name] for at in program.points for _ in tasks] for name in program.numbers}
    numbers = Numbers(values, lambda task, given: _with(chosen[0], task, given, data))
    try:
        return train_seeds(tasks * len(chosen), looks, numbers=numbers)
    except NeedsNumbers:
        each = [train_seeds([task_of(one, seed, data) for seed in planned.seeds], looks) for one in chosen]
    return TrainedSeeds([run for one in each for run in one.runs], each[0].together, each[0].bytes)


def _with(chosen: Chosen, task: Task, numbers: Mapping[str, Any], data: Dataset) -> Task:
    """The task with other numbers, which may be traced; with its network, unless they are numbers of that."""
    parts, update = {part: dict(given) for part, given in chosen.parts.items()}, {"seed": task.seed}
    for name, value in numbers.items():
        part, dot, key = name.partition(".")
        if dot:
            parts[part][key] = value
        else:
            update[name] = value
    settings = chosen.settings.model_copy(update=update)
    sources = chosen.sources | dict.fromkeys(numbers, "default")  # whether they were given in vain is known by now
    network = None if any(name.startswith("surrogate.") for name in numbers) else task.network
    with jax.ensure_compile_time_eval():  # what does not depend on the numbers is computed once, not in every step
        made = replace(chosen, settings=settings, parts=parts, sources=sources)
        return prepare(made, Objects(data=data, network=network))


def seeds_of(trained: TrainedSeeds, at: int, seeds: int) -> list[dict[str, Any]]:
    """The results of the seeds of one configuration of a program, as JSON has them."""
    runs = trained.runs[seeds * at : seeds * (at + 1)]
    return [{"seed": run.seed, "failed": run.failed, "rows": run.rows} for run in runs]


def heading(planned: Configurations, first: Task) -> dict[str, Any]:
    """What the results of a sweep begin with: what was trained, by which score, with which seeds."""
    settings = planned.chosen[0].settings
    return {
        "rule": settings.rule,
        "data": first.data.name,
        "model": settings.model,
        "score": score_of(first),
        "seeds": list(planned.seeds),
    }


def score_of(task: Task) -> str:
    """The metric by which configurations are ranked."""
    if not len(cast(Dataset, task.data).x_test):
        return "train_loss"
    return "test_loss" if task.data.n_classes is None else "test_accuracy"
