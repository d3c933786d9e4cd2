"""What a rule costs, relative to back-propagation on the same problem: figures beside the checks, which never fail."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import jax

from neurai_core.losses import loss_function
from neurai_core.rule import model_state_of, objective, true_gradient
from neurai_core.testing.checking import Measured, check
from neurai_core.testing.rule_subject import RuleSubject, first_state

WIDTHS, EXAMPLES, REPEATS = (128, 128), 128, 20


@check(hint="")
def cost_compile(rule: RuleSubject) -> Measured:
    """Time to trace and compile an estimate, relative to back-propagation."""
    return _ratio(rule, _compile_seconds, "s")


@check(hint="")
def cost_step(rule: RuleSubject) -> Measured:
    """Time of a compiled estimate, relative to back-propagation: the fastest of 20 calls."""
    return _ratio(rule, _step_seconds, "s")


@check(hint="")
def cost_memory(rule: RuleSubject) -> Measured:
    """Peak memory of a compiled estimate, relative to back-propagation: arguments, results and temporary arrays."""
    return _ratio(rule, _bytes, "bytes")


CHECKS = (cost_compile, cost_step, cost_memory)


def _ratio(rule: RuleSubject, figure: Callable[..., float], unit: str) -> Measured:
    """On three layers and a batch of 128 examples."""
    problem, built = rule.problem(hidden=WIDTHS, batch=EXAMPLES), rule.build()
    state = first_state(built, problem)
    score = objective(loss_function(rule.loss), None)
    ours = partial(built.estimate, problem.model), (problem.params, state, problem.batch)
    theirs = partial(true_gradient, score, problem.model), (problem.params, model_state_of(state), problem.batch)
    measured, reference = (figure(*what, key=problem.key) for what in (ours, theirs))
    return Measured(measured / reference, None, remark=f"{measured:.3g} {unit}; back-propagation takes {reference:.3g}")


def _compile_seconds(call: Callable[..., Any], given: tuple[Any, ...], **more: Any) -> float:
    with _without_cache():
        began = time.perf_counter()
        jax.jit(call).lower(*given, **more).compile()
        return time.perf_counter() - began


def _step_seconds(call: Callable[..., Any], given: tuple[Any, ...], **more: Any) -> float:
    compiled, times = jax.jit(call), []
    for _ in range(REPEATS + 1):
        began = time.perf_counter()
        jax.block_until_ready(compiled(*given, **more))
        times.append(time.perf_counter() - began)
    return min(times)


def _bytes(call: Callable[..., Any], given: tuple[Any, ...], **more: Any) -> float:
    used: Any = jax.jit(call).lower(*given, **more).compile().memory_analysis()
    return float(used.argument_size_in_bytes + used.output_size_in_bytes + used.temp_size_in_bytes)


@contextmanager
def _without_cache() -> Iterator[None]:
    """Compile anew what an earlier run compiled."""
    config: Any = jax.config
    before = config.jax_enable_compilation_cache
    config.update("jax_enable_compilation_cache", False)
    try:
        yield
    finally:
        config.update("jax_enable_compilation_cache", before)
