"""Checks of what every rule promises, whatever it claims."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from neurai_core import contract
from neurai_core.arrays import shape_text
from neurai_core.testing.checking import Broken, Measured, check
from neurai_core.testing.rule_subject import RuleSubject, distance, estimated


@check(hint="Return gradients like params: jax.tree.map(lambda p, g: g.astype(p.dtype), params, grads).")
def structure(rule: RuleSubject) -> None:
    """The functions of the rule keep their contract: gradients like the parameters, a state that keeps its form."""
    problem = rule.problem()
    contract.check(rule.build(), problem.model, problem.params, (), problem.batch)


@check(hint="Reduce the loss over the batch.")
def scalar_loss(rule: RuleSubject) -> None:
    """Loss and accuracy are finite scalars."""
    found = estimated(rule.build(), rule.problem())
    for name, value in (("loss", found.loss), ("accuracy", found.accuracy)):
        if jnp.shape(value) or not jnp.isfinite(value):
            raise Broken(f"{name} is {shape_text(value)} with value {value}, expected a finite scalar")


@check(hint="Look for divisions by 0, logarithms of 0, and steps that are too large.")
def finite(rule: RuleSubject) -> None:
    """Every gradient is finite."""
    grads = estimated(rule.build(), rule.problem()).grads
    for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
        if not bool(jnp.all(jnp.isfinite(leaf))):
            raise Broken(f"the gradient of params{jax.tree_util.keystr(path)} is not finite")


@check(hint="Draw random numbers from the key only, and keep no Python state between calls.")
def deterministic(rule: RuleSubject) -> Measured:
    """The same key gives the same gradients, to the bit."""
    built, problem = rule.build(), rule.problem()
    return Measured(distance(estimated(built, problem).grads, estimated(built, problem).grads), 0.0)


CHECKS = (structure, scalar_loss, finite, deterministic)
