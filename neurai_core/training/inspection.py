"""What a rule does within a step, on the first batch of its data: alignment with back-propagation, and its phases."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from neurai_core.arrays import PyTree
from neurai_core.errors import UsageError
from neurai_core.rising import unwatched
from neurai_core.rule import Rule
from neurai_core.training.phases import tracing
from neurai_core.training.starting import key_of
from neurai_core.training.stream import example_of
from neurai_core.training.task import Task
from neurai_core.transforms import with_alignment

Look = Callable[[PyTree, PyTree], Any]


def cosines(task: Task) -> Look | None:
    """``(params, state) -> cosine`` between the gradients of rule and loss, one per top-level entry of the parameters.

    None if the gradient of the loss is no reference for the rule.

    >>> from neurai_core.training.settings import choose
    >>> from neurai_core.training.task import prepare
    >>> task = prepare(choose({"rule": "bp", "model": "mlp:8"}, environ={}))
    >>> look = cosines(task)
    >>> [round(cosine, 3) for cosine in look(task.params, ())]
    [1.0, 1.0]
    """
    try:
        rule = with_alignment(task.rule, task.loss_name)
    except UsageError:
        return None
    look = _on_first_batch(task, rule, lambda aux: aux["alignment"]["cosine"])
    return lambda params, state: [float(one) for one in look(params, state)]


def phases(task: Task) -> Look | None:
    """``(params, state) -> trace`` of the rule's relaxation, as `neurai_core.specs.Relaxes` says; None without one."""
    if task.rule.origin is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rule, _, _ = tracing(task.rule.origin)
    except UsageError:
        return None
    look = _on_first_batch(task, rule, lambda aux: aux["trace"])
    return lambda params, state: jax.tree.map(np.asarray, look(params, state))


def _on_first_batch(task: Task, rule: Rule, part: Callable[[dict[str, Any]], PyTree]) -> Look:
    batch, key = tuple(map(jnp.asarray, example_of(task.data, task.batch_size))), key_of(task.seed, 2)

    @jax.jit
    def look(params: PyTree, state: PyTree) -> PyTree:
        with unwatched():
            return part(rule.estimate(task.model, params, state, batch, key=key)[0].aux)

    return look
