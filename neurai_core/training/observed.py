"""The observers that a task asks for, active while it is trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from neurai_core.registry import REGISTRY
from neurai_core.registry.observing import Observers
from neurai_core.training.task import Task


@contextmanager
def observed(task: Task) -> Iterator[Observers]:
    """Activate the task's own observers inside the block; gives them with all others that are active."""
    with ExitStack() as active:
        for observer in task.observers:
            active.enter_context(REGISTRY.observe(observer))
        yield REGISTRY.observers()
