"""The check that a rule is what its definition says, in float64: its gradients, and the state that it carries on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import numpy as np

from neurai_core.arrays import PyTree, shape_text
from neurai_core.losses import loss_function
from neurai_core.plugin import resolve
from neurai_core.rule import Rule
from neurai_core.testing.checking import Broken, Measured, Skipped, check
from neurai_core.testing.rule_states import own_of, same, shaken, state_after
from neurai_core.testing.rule_subject import (
    SAME,
    Reference,
    RuleSubject,
    SmallProblem,
    compiled,
    compiled_estimate,
    distance,
    estimated_by,
    first_state,
    leaf_gaps,
    norm,
)


@check(hint="Compare both term by term: neurai describe NAME --equations prints the definition.", once=False)
def definition(rule: RuleSubject) -> Measured:
    """The gradients are those of the rule's definition, and so is the state that a rule writes.

    They are compared in float64, leaf by leaf, and at the documented step: a setting ``stable`` is switched off. A rule
    with a state is also tried with that after two estimates of other batches, or, where estimates leave it as it is,
    with another. The default settings are also tried on a second network, with sigmoids in one hidden layer, and a
    batch of one example, for the squared error of numbers unless the rule has a loss of its own. Settings that the
    definition does not cover are skipped.
    """
    if rule.spec.definition is None:
        raise Skipped("the spec names no definition")
    with jax.enable_x64(True):
        equations = _equations(rule.spec.definition)
        gaps = [_gap(rule, equations, rule.reference, rule.loss)]
        if not rule.settings:
            gaps.append(_gap(rule, equations, rule.second, rule.second_loss))
    return max(gaps, key=lambda one: one.figure)


CHECKS = (definition,)


def _equations(target: str) -> Callable[..., PyTree]:
    """The function that a spec names as the definition.

    Raises:
        Broken: there is none.
    """
    try:
        found = resolve(target)
    except ModuleNotFoundError as error:
        raise Broken(
            f"the spec names the definition {target!r}, and there is no module {error.name!r}",
            "Correct definition= in the spec, 'package.equations:function', or add the module to the distribution.",
        ) from error
    except AttributeError as error:
        raise Broken(
            f"the spec names the definition {target!r}, and its module has no {target.partition(':')[2]!r}",
            "Correct definition= in the spec, or define that function in the module.",
        ) from error
    except (Exception, SystemExit) as error:
        raise Broken(
            f"the definition {target!r} cannot be imported: {type(error).__name__}: {error}",
            "Import its module in Python to see where it fails.",
        ) from error
    if not callable(found):
        raise Broken(f"the definition {target!r} is {type(found).__name__}, expected a function")
    return found  # type: ignore[no-any-return]


class _Compared(NamedTuple):
    """The rule beside its definition, for one state.

    Attributes:
        gap: the largest distance of a leaf.
        tells: whether the definition says what the state becomes.
    """

    gap: Measured
    tells: bool


def _gap(rule: RuleSubject, equations: Callable[..., PyTree], reference: Reference, loss: str) -> Measured:
    settings = rule.documented_step()
    built, problem, _ = reference
    if settings != dict(rule.settings):
        built = rule.build(loss=loss, **settings)
    defined = compiled(partial(equations, rule.spec.config(**settings), loss_function(loss), problem.model))
    first = first_state(built, problem)
    found = _compared(defined, built, problem, first)
    if not found.gap.holds:
        return found.gap
    later = state_after(built, problem, first)
    if not jax.tree.leaves(own_of(later)):
        return found.gap
    written = not same(own_of(first), own_of(later))
    if written and not found.tells:
        raise Broken(
            "an estimate changes the state of the rule, and the definition does not say to what",
            "Return the pair (gradients, the rule's own state after the batch) from the definition.",
        )
    again = _compared(defined, built, problem, later if written else shaken(later)).gap
    return again._replace(where=f"{again.where} {'after two estimates' if written else 'with another state'}")


def _compared(defined: Callable[..., PyTree], built: Rule, problem: SmallProblem, state: PyTree) -> _Compared:
    found, after = estimated_by(compiled_estimate(built.estimate, problem.model), built, problem, state)
    try:
        theirs = defined(problem.params, state, problem.batch, key=problem.key)
    except NotImplementedError as refused:
        raise Skipped(f"the definition does not cover these settings: {refused}") from None
    ours, form = own_of(after), cast(Callable[[PyTree], Any], jax.tree.structure)
    tells = isinstance(theirs, tuple) and len(theirs) == 2 and form(theirs) != form(found.grads)
    grads, own = theirs if tells else (theirs, None)
    if not norm(grads):
        raise Broken("the definition gives no gradient at all", "Look for a product with 0.")
    if form(found.grads) != form(grads):
        raise Broken("the definition returns another tree than the rule", "Return gradients like params.")
    gaps = leaf_gaps(found.grads, grads)
    where = max(gaps, key=lambda path: gaps[path])
    gap = Measured(gaps[where], SAME, where=f"distance from the definition in {where}")
    if tells and gap.holds:
        gap = Measured(_distance_of_states(ours, own), SAME, where="distance of the state from that of the definition")
    return _Compared(gap, tells)


def _distance_of_states(ours: PyTree, theirs: PyTree) -> float:
    shapes = [jax.tree.map(np.shape, one) for one in (ours, theirs)]
    if shapes[0] != shapes[1]:
        raise Broken(
            f"the state of the rule is {shape_text(ours)}, and its definition gives {shape_text(theirs)}",
            "Return own of State(model_state, own), or the gradients alone.",
        )
    return distance(ours, theirs)
