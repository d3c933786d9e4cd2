"""Checks of the claims about what an estimate depends on beside parameters and batch: the key, and its own state."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax

from neurai_core.rule import Rule, initial_state, problem_of
from neurai_core.testing.checking import Broken, Skipped, check
from neurai_core.testing.rule_states import own_of, same, shaken, state_after
from neurai_core.testing.rule_subject import (
    CLASSES,
    RuleSubject,
    SmallProblem,
    distance,
    estimated,
    first_state,
)


@check(hint="Draw from the key that estimate gets, or drop the claim.", claim="stochastic", remark=True)
def stochastic(rule: RuleSubject) -> None:
    """The gradients depend on the key: with the default settings, or in one of the variants."""
    with jax.enable_x64(True):
        if not any(_draws(one) for one in _tried(rule, "stochastic")):
            raise Broken("every key gives the same gradients")


@check(
    hint="Return State(model_state, own) from init and estimate, and let gradients depend on own; or drop the claim.",
    claim="stateful",
    remark=True,
)
def stateful(rule: RuleSubject) -> None:
    """It carries a state of its own on which the gradients depend: with the default settings, or in a variant.

    The state is either drawn, so that ``init`` gives another for another key, or written, so that estimates change it.
    """
    with jax.enable_x64(True):
        reasons = []
        for one in _tried(rule, "stateful"):
            if not (reason := _stateless(one)):
                return
            reasons.append(reason)
        raise Broken("; in a variant, ".join(dict.fromkeys(reasons)))


CHECKS = (stochastic, stateful)


def _tried(rule: RuleSubject, claim: str) -> Iterator[RuleSubject]:
    """The rule with its settings and, where these are the defaults, with those of the variants."""
    if rule.settings and claim not in rule.claims:
        raise Skipped("looked at with default settings only")
    yield rule
    for variant in () if rule.settings else rule.spec.variants:
        if claim in rule.claims:
            yield RuleSubject(rule.name, rule.spec, variant.settings, variant.claims)


def _draws(one: RuleSubject) -> bool:
    built, problem, found = one.reference
    other = jax.random.fold_in(problem.key, 1)
    return distance(estimated(built, problem, key=other).grads, found.grads) > 0


def _stateless(one: RuleSubject) -> str:
    """Why a rule carries nothing from batch to batch; empty if it carries a state."""
    built, problem = one.build(), one.problem()
    first = first_state(built, problem)
    estimate = partial(built.estimate, problem.model, problem.params, first, problem.batch, key=problem.key)
    if not jax.tree.leaves(own_of(jax.eval_shape(estimate)[1])):
        return "it has no state of its own"
    later = state_after(built, problem, first)
    if not distance(estimated(built, problem, shaken(later)).grads, estimated(built, problem, later).grads):
        return "the gradients do not depend on the state"
    if same(own_of(first), own_of(later)) and same(own_of(first), own_of(_drawn_anew(built, problem))):
        return "the state is always the same: no estimate changes it, and init draws the same for every key"
    return ""


def _drawn_anew(built: Rule, problem: SmallProblem) -> Any:
    """The state that it begins with for another key."""
    told = problem_of(problem.batch, CLASSES)
    return initial_state(
        built, problem.model, problem.params, key=jax.random.key(8), model_state=problem.model_state, problem=told
    )
