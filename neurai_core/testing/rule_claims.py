"""Checks that a rule gives the gradients that its spec claims: of back-propagation, tending to them, or on average.

All of them run in float64, where rounding hides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from neurai_core.arrays import PyTree, tree_dot, tree_norm
from neurai_core.errors import UsageError
from neurai_core.layered import forward
from neurai_core.losses import loss_function
from neurai_core.naming import did_you_mean
from neurai_core.rule import Rule, model_state_of
from neurai_core.testing.checking import Broken, Check, Measured, Skipped, check
from neurai_core.testing.rule_subject import (
    CLASSES,
    SAME,
    RuleSubject,
    SmallProblem,
    backpropagated,
    compiled,
    compiled_estimate,
    distance,
    estimated,
    estimated_by,
    first_state,
    norm,
    traced_state,
    wide,
)

NEAR = 1e-6  # relative distance of a float64 derivative from a central difference
FRACTIONS = (1 / 8, 1 / 16, 1 / 32)  # of a setting on its way to 0
KEYS = 8192  # draws of an estimate that is right on average
LOUDEST = 0.05  # standard error of a mean along back-propagation, relative to it, that still tells a bias
STANDARD_ERRORS = 5.0  # of normal numbers, fewer than 1 in a million are farther from their mean
# Claims that describe a rule, and that no check verifies.
DESCRIPTIVE = {"spiking": "it trains spiking networks only, and every check runs on one"}


@check(hint="Claim exact only with settings that make the gradient that of the loss.", claim="exact", remark=True)
def exact(rule: RuleSubject) -> Measured:
    """The gradients are those of back-propagation and of central differences.

    Both are taken in float64, back-propagation also in the next step, with the state of this one and other parameters,
    and on a second network for a second loss, as in the check of the definition. The loss of a spiking network has
    jumps, so it is not compared with central differences.
    """
    if rule.settings and "exact" not in rule.claims:
        raise Skipped("looked at with default settings only")
    with jax.enable_x64(True):
        built, problem, found = rule.reference
        grads = found.grads
        gap = distance(grads, backprop(rule, problem))
        if gap > SAME:
            return Measured(gap, SAME, where="distance from back-propagation")
        gap = _gap_in_the_next_step(built, rule, problem)
        if gap > SAME:
            return Measured(gap, SAME, where="distance from back-propagation in the second step")
        gap = _gap_on_the_second_problem(rule)
        if gap > SAME or rule.spiking:
            return Measured(gap, SAME, where="distance from back-propagation with another network and loss")
        return Measured(_gap_to_differences(rule, problem, grads), NEAR, where="distance from central differences")


@check(
    hint="Claim the order that the rule has, with settings with which its relaxation converges; claim no limit if its "
    "gradients do not tend to those of back-propagation.",
    claim="limit",
)
def limit(rule: RuleSubject) -> Measured:
    """The gradients tend to those of back-propagation as a setting goes to 0, at the claimed order.

    ``limit:beta:2`` claims that the distance is O(beta^2); without a number, the order is 1. The slope of the distance
    on logarithmic axes is fitted in float64, at 1/8, 1/16 and 1/32 of the setting. The other settings of the variant
    have to let a relaxation converge: with more steps, or larger ones.
    """
    try:
        limits = [limit_of(rule, claim) for claim in rule.claims if claim.partition(":")[0] == "limit"]
    except Broken as broken:
        raise Skipped(f"{broken}; see the check claims") from None
    measured = [_order_of_limit(rule, *one) for one in limits]
    return min(measured, key=lambda one: one.figure - (one.tolerance or 0))


@check(hint="Divide by the variance, or by the probability, of what is drawn.", claim="unbiased")
def unbiased(rule: RuleSubject) -> Measured:
    """The mean of the gradients over keys is the gradient of back-propagation, within its standard error.

    The mean is over 8192 keys, in float64. No entry of it, and not its part along back-propagation, may be more than 5
    standard errors off.
    """
    with jax.enable_x64(True):
        problem, built = rule.problem(), rule.build()
        truth = np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(wide(backprop(rule, problem)))])
        state = first_state(built, problem)

        def gap(key: jax.Array) -> jax.Array:
            found, _ = built.estimate(problem.model, problem.params, state, problem.batch, key=key)
            off = _flat(found.grads) - truth
            return jnp.append(off, off @ truth / jnp.linalg.norm(truth))

        gaps = np.asarray(compiled(partial(jax.lax.map, gap, batch_size=256))(jax.random.split(problem.key, KEYS)))
        size = norm(truth)
        rounding, spread = SAME * size, np.std(gaps, axis=0)
        if not np.any(spread > rounding):
            off = norm(gaps[0, :-1]) / size
            raise Broken(
                f"every key gives the same gradients, whose distance from back-propagation is {off:.3g}",
                "A rule that draws nothing is exact, or is not unbiased.",
            )
        errors = spread / np.sqrt(KEYS) + rounding
        noise = float(errors[-1] / size)
        if noise > LOUDEST:
            raise Broken(
                f"too noisy to tell: the standard error along back-propagation is {noise:.0%} of it after {KEYS} keys",
                "Average several draws in one estimate.",
            )
        worst = float(np.max(np.abs(np.mean(gaps, axis=0)) / errors))
    return Measured(
        worst,
        STANDARD_ERRORS,
        where="standard errors between the mean and back-propagation",
        remark=f"the standard error along back-propagation is {noise:.1%} of it",
    )


@check(hint="Learn from the inputs of a batch only, and accept targets of shape (B, 0).", claim="unsupervised")
def unsupervised(rule: RuleSubject) -> Measured:
    """Other targets, and none at all, give the same gradients and the same loss, in float64."""
    with jax.enable_x64(True):
        built, problem, theirs = rule.reference
        x, y = problem.batch
        others = (CLASSES - 1 - y, jnp.zeros((len(y), 0), x.dtype))
        try:
            found = [estimated(built, problem._replace(batch=(x, other))) for other in others]
        except UsageError as error:
            raise Broken(f"other targets, or none, are refused: {error.message}") from None
        gaps = [distance((one.grads, one.loss), (theirs.grads, theirs.loss)) for one in found]
    return Measured(max(gaps), 0.0, where="change with the targets")


def tags(checks: Sequence[Check]) -> Check:
    """Make the check that these checks verify every claim."""
    verified = sorted({one.claim for one in checks if one.claim})

    @check(hint="Claim only what a check verifies.", once=False)
    def claims(rule: RuleSubject) -> None:
        """Every claim is one that a check verifies, or a tag that describes the rule.

        The tag that only describes is ``spiking``.
        """
        for claim in rule.claims:
            tag, _, more = claim.partition(":")
            if tag not in (*verified, *DESCRIPTIVE):
                raise Broken(
                    f"no check verifies the claim {claim!r}.{did_you_mean(tag, [*verified, *DESCRIPTIVE])}",
                    f"Claims with checks are {', '.join(verified)}; tags are {', '.join(DESCRIPTIVE)}.",
                )
            if tag == "limit":
                limit_of(rule, claim)
            elif more:
                raise Broken(f"the claim {claim!r} says more than {tag!r}, which is what is checked", f"Claim {tag!r}.")

    return claims


def limit_of(rule: RuleSubject, claim: str) -> tuple[str, int]:
    """The setting and the order of a claim such as ``limit:beta:2``.

    Raises:
        Broken: it names no setting with a number, or no order.
    """
    _, setting, order = (*claim.split(":"), "1", "1")[:3]
    known = [name for name, field in rule.spec.config.model_fields.items() if field.annotation is not bool]
    if claim.count(":") not in (1, 2) or setting not in known or not isinstance(_value(rule, setting), int | float):
        numbers = [name for name in known if isinstance(_value(rule, name), int | float)]
        near = did_you_mean(setting, numbers)
        raise Broken(
            f"the claim {claim!r} names no setting that is a number.{near}",
            f"Claim limit:SETTING or limit:SETTING:ORDER; numbers are {', '.join(numbers) or 'none of its settings'}.",
        )
    if not order.isdecimal() or order == "0":
        raise Broken(f"the claim {claim!r} has the order {order!r}, expected 1, 2, ...", "Claim limit:SETTING:ORDER.")
    return setting, int(order)


def backprop(rule: RuleSubject, problem: SmallProblem, loss: str = "") -> PyTree:
    """The gradient of back-propagation; see `backpropagated`."""
    return backpropagated(rule, problem, loss).grads


CHECKS = (exact, limit, unbiased, unsupervised)


# ---------------------------------------------------------------------------- back-propagation


def _gap_in_the_next_step(built: Rule, rule: RuleSubject, problem: SmallProblem) -> float:
    """The distance from back-propagation with the state after one estimate, at parameters that have moved."""
    found, state = estimated_by(compiled_estimate(built.estimate, problem.model), built, problem)
    moved = jax.tree.map(lambda p, g: jax.device_put(p - 0.1 * g), wide(problem.params), wide(found.grads))
    later = problem._replace(params=moved)
    return distance(estimated(built, later, state).grads, backprop(rule, later))


def _gap_on_the_second_problem(rule: RuleSubject) -> float:
    _, problem, ours = rule.second
    return distance(ours.grads, backprop(rule, problem, rule.second_loss))


def _gap_to_differences(rule: RuleSubject, problem: SmallProblem, grads: PyTree, step: float = 1e-5) -> float:
    """The distance of derivatives in random directions from central differences, relative to the gradient."""
    loss, state = loss_function(rule.loss), _model_state(rule.build(), problem)
    x, y = problem.batch

    @compiled
    def derivatives(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        keys = jax.random.split(key, len(jax.tree.leaves(grads)))
        draws = [jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, jax.tree.leaves(grads), strict=True)]
        way = jax.tree.unflatten(jax.tree.structure(grads), draws)

        def value(s: float) -> jax.Array:
            moved = jax.tree.map(lambda p, w: p + s * w, problem.params, way)
            outputs, _ = forward(problem.model, moved, x, model_state=state, key=problem.key, train=True)
            return loss(outputs, y)

        return (value(step) - value(-step)) / (2 * step), tree_dot(grads, way)

    pairs = wide([derivatives(key) for key in jax.random.split(problem.key, 4)])
    return max(float(abs(a - b)) for a, b in pairs) / norm(grads)


def _order_of_limit(rule: RuleSubject, setting: str, order: int) -> Measured:
    with jax.enable_x64(True):
        problem = rule.problem()
        exactly = backprop(rule, problem)
        values = [_value(rule, setting) * fraction for fraction in FRACTIONS]

        @compiled
        def gap(value: jax.Array) -> jax.Array:
            built = rule.build(**{setting: value})
            state = traced_state(built, problem)
            found, _ = built.estimate(problem.model, problem.params, state, problem.batch, key=problem.key)
            return tree_norm(jax.tree.map(jnp.subtract, found.grads, exactly)) / tree_norm(exactly)

        gaps = [float(gap(value)) for value in values]
    if max(gaps) < SAME:
        return Measured(float("inf"), order, at_least=True)
    slope = float(np.polyfit(np.log(values), np.log(gaps), 1)[0])
    told = f"order of the distance from back-propagation in {setting}"
    remark = f"the distance at {setting}={values[-1]:.3g} is {gaps[-1]:.2g}"
    return Measured(slope, order - 0.15, at_least=True, where=f"{told} ({remark})", remark=remark)


def _value(rule: RuleSubject, setting: str) -> Any:
    return getattr(rule.spec.config(**rule.settings), setting)


def _model_state(built: Rule, problem: SmallProblem) -> PyTree:
    return model_state_of(first_state(built, problem))


def _flat(tree: PyTree) -> jax.Array:
    return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)])
