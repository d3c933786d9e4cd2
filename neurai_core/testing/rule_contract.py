"""Checks of what every rule promises, whatever it claims."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast, get_args, get_origin

import jax
import jax.numpy as jnp
import numpy as np

from neurai_core import contract
from neurai_core.arrays import PyTree, shape_text
from neurai_core.by_name import algorithm
from neurai_core.errors import UsageError
from neurai_core.explain import validate_settings
from neurai_core.layered import forward
from neurai_core.losses import loss_function
from neurai_core.optax_texts import Transformation, made
from neurai_core.optimizers import optimizer
from neurai_core.rule import Rule, model_state_of
from neurai_core.run_settings import RunSettings, check_defaults
from neurai_core.specs import Config
from neurai_core.testing.checking import Broken, Measured, Skipped, check
from neurai_core.testing.rule_subject import (
    BATCH,
    CLASSES,
    SAME,
    RuleSubject,
    SmallProblem,
    as_dtype,
    backpropagated,
    compiled,
    compiled_estimate,
    distance,
    estimated,
    estimated_by,
    extended,
    first_state,
    problem_with_collections,
    problem_with_images,
    traced_state,
    wide,
    with_rows,
)


@check(
    hint="Return gradients like params, jax.tree.map(lambda p, g: g.astype(p.dtype), params, grads), and a state like "
    "the one given.",
    once=False,
)
def structure(rule: RuleSubject) -> None:
    """The functions of the rule keep their contract: gradients like the parameters, a state that keeps its form.

    Also with parameters and inputs of 64 and 16 bits, without computing.
    """
    with jax.enable_x64(True):
        problem = rule.problem()
        for dtype in (jnp.float64, jnp.float32, jnp.bfloat16):
            params, x = as_dtype((problem.params, problem.batch[0]), dtype)
            contract.check(rule.build(), problem.model, params, problem.model_state, (x, problem.batch[1]), CLASSES)


@check(hint='Give every setting a description with its unit or range: Field(0.1, gt=0, description="...").')
def settings(rule: RuleSubject) -> None:
    """Every setting says what it means, every known failure is that of a check, and a run accepts the defaults.

    Names in them are looked up: of data sets, surrogates and losses, and of what optax has, also in texts that are
    defaults of the rule's own settings, or belong to a variant.
    """
    rule.require_descriptions()
    rule.require_real_failures()
    try:
        check_defaults(rule.spec)
        _look_up(rule.spec.defaults)
    except UsageError as error:
        raise Broken(f"the spec has defaults that a run refuses: {error.message}", error.hint) from None
    for given in ({}, _of_part("rule", rule.spec.defaults), *(one.settings for one in rule.spec.variants)):
        _make_texts(rule.spec.config(**given))


def _look_up(defaults: Mapping[str, Any]) -> None:
    """Look up the loss and the optimizers that defaults of a run name, and make these.

    Raises:
        UsageError: there is no loss or optimizer of a name, or optax does not take its arguments.
    """
    given = {name: value for name, value in defaults.items() if "." not in name}
    run = cast(RunSettings, validate_settings(RunSettings, given, name="a run"))
    if run.loss != "auto":
        loss_function(run.loss)
    parts = [part.partition("=")[2].strip() for part in run.optimizer_for]
    for text, settings in [(run.optimizer, _of_part("optimizer", defaults)), *((text, {}) for text in parts)]:
        try:
            optimizer(text, run.lr, schedule=run.schedule, settings=settings)
        except UsageError:
            raise
        except ValueError as error:  # it cannot be parsed
            raise UsageError(f"optimizer: {error}.", "For example adam, or 'sgd(0.1, momentum=0.9)'.") from None


def _of_part(part: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults that belong to a part of a run, such as ``optimizer.momentum``, by their own names."""
    return {name.partition(".")[2]: value for name, value in defaults.items() if name.partition(".")[0] == part != name}


def _make_texts(config: Config) -> None:
    """Make what optax has to make of settings that are calls in place of objects.

    Raises:
        Broken: it cannot.
    """
    for name, described in type(config).model_fields.items():
        text, kinds = getattr(config, name), get_args(described.annotation)
        takes_object = any(kind is Transformation or get_origin(kind) is Callable for kind in kinds)
        if isinstance(text, str) and takes_object and text.endswith(")"):
            try:
                made(text)
            except UsageError as error:
                raise Broken(f"the setting {name!r} is {text!r}: {error.message}", error.hint) from None


@check(hint="Reduce the loss over the batch; a rule with a loss of its own names it in own_loss of its spec.")
def scalar_loss(rule: RuleSubject) -> None:
    """Loss and accuracy are finite scalars: those of the forward pass, unless the rule has a loss of its own."""
    with jax.enable_x64(True):
        _, problem, found = rule.reference
        expected = backpropagated(rule, problem)
        for name in ("loss", "accuracy"):
            value, right = getattr(found, name), getattr(expected, name)
            if np.shape(value) or not np.isfinite(value):
                raise Broken(f"{name} is {shape_text(value)} with value {value}, expected a finite scalar")
            if not rule.spec.own_loss and not np.allclose(value, right, rtol=1e-6):
                raise Broken(f"{name} is {value:.6g}, and that of the forward pass {right:.6g}")


@check(hint="Look for divisions by 0, logarithms of 0, and steps that are too large.", once=False)
def finite(rule: RuleSubject) -> None:
    """Every gradient is finite, also if an example is all zeros: in float32, and of variants in float64."""
    built, problem, found = rule.reference if rule.settings else rule.everyday
    _require_finite(found.grads, "")
    with jax.enable_x64(bool(rule.settings)):
        x, y = problem.batch
        dark = jax.device_put(np.concatenate([np.zeros_like(x[:1]), x[1:]]))
        _require_finite(estimated(built, problem._replace(batch=(dark, y))).grads, " if an example is all zeros")


def _require_finite(grads: PyTree, where: str) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
        if not np.isfinite(wide(leaf)).all():
            raise Broken(f"the gradient of params{jax.tree_util.keystr(path)} is not finite{where}")


@check(
    hint="Draw random numbers from the key only, and keep no Python state between calls. Mend this first: other checks "
    "compare estimates with each other.",
    once=False,
)
def deterministic(rule: RuleSubject) -> Measured:
    """The same key gives the same gradients, to the bit: also in a rule that is built again.

    Variants are compiled again only if their program is another one.
    """
    with jax.enable_x64(bool(rule.settings)):
        built, problem, first = rule.reference if rule.settings else rule.everyday
        anew = rule.build()
        if rule.settings and _program(built, problem) == _program(anew, problem):
            second = estimated(built, problem)
        else:
            second, _ = estimated_by(compiled(partial(anew.estimate, problem.model)), anew, problem)
        return Measured(distance(second.grads, first.grads), 0.0, where="distance of two estimates with the same key")


def _program(rule: Rule, problem: SmallProblem) -> tuple[str, list[bytes]]:
    """What an estimate computes, with the numbers that were drawn while it was traced."""

    def estimate(params: PyTree) -> Any:
        state = traced_state(rule, problem._replace(params=params))
        return rule.estimate(problem.model, params, state, problem.batch, key=problem.key)

    made = jax.make_jaxpr(estimate)(problem.params)
    return str(made), [
        np.asarray(one).tobytes() for one in made.consts if not jnp.issubdtype(one.dtype, jax.dtypes.extended)
    ]


@check(
    hint="Treat all rows alike, and reduce over them by sums or means. A rule that draws per row claims 'stochastic'."
)
def batch_order(rule: RuleSubject) -> Measured:
    """The order of the rows changes neither loss nor gradients, in float64."""
    if "stochastic" in rule.spec.claims:
        raise Skipped("it claims to be stochastic: rows meet other draws in another order")
    with jax.enable_x64(True):
        built, problem, theirs = rule.reference
        ours = estimated(built, with_rows(problem, range(BATCH)[::-1]))
        return Measured(
            distance((ours.grads, ours.loss), (theirs.grads, theirs.loss)),
            1e-9,
            where="distance of loss and gradients with the rows in reverse",
        )


@check(hint="Divide by the number of rows as the loss does: gradients scale as it scales.")
def repeated_batch(rule: RuleSubject) -> Measured:
    """A batch with every row twice gives the same gradients, or twice them if the loss is a sum, in float64."""
    if "stochastic" in rule.spec.claims:
        raise Skipped("it claims to be stochastic: the second half of the rows meets other draws")
    with jax.enable_x64(True):
        built, problem, theirs = rule.reference
        ours = estimated(built, with_rows(problem, 2 * [*range(BATCH)]))
        factor = float(ours.loss / theirs.loss) if theirs.loss else 1.0
        scaled = jax.tree.map(lambda leaf: factor * leaf, wide(theirs.grads))
        return Measured(distance(ours.grads, scaled), 1e-9, where="distance of the gradients from those of single rows")


@check(hint="Compute in the dtype of the parameters, or wider, and return gradients in the dtype of the parameters.")
def float32(rule: RuleSubject) -> Measured:
    """In float32 it gives the gradients of float64, to a thousandth."""
    return _in_dtype(rule, jnp.float32, 1e-3)


@check(hint="Accumulate in float32 and cast at the end; 16-bit numbers have three digits.")
def bfloat16(rule: RuleSubject) -> Measured:
    """In bfloat16 it gives the gradients of float64, to three tenths."""
    return _in_dtype(rule, jnp.bfloat16, 0.3)


def _in_dtype(rule: RuleSubject, dtype: Any, tolerance: float) -> Measured:
    with jax.enable_x64(True):
        built, problem, theirs = rule.reference
        state = first_state(built, problem)  # the same numbers: random draws depend on the dtype
        (params, x, state), y = as_dtype((problem.params, problem.batch[0], state), dtype), problem.batch[1]
        ours = estimated(built, problem._replace(params=params, batch=(x, y)), state).grads
        wrong = [leaf.dtype for leaf in jax.tree.leaves(ours) if leaf.dtype != dtype]
        if wrong:
            raise Broken(f"gradients of {jnp.dtype(dtype)} parameters are {wrong[0]}")
        if "stochastic" in rule.spec.claims:
            raise Skipped("it claims to be stochastic: draws in another dtype are other numbers")
        return Measured(distance(ours, theirs.grads), tolerance, where="distance from float64")


@check(hint="Take the collections from one forward pass in training mode, and return them in the state of estimate.")
def collections(rule: RuleSubject) -> Measured:
    """Batch statistics of the network advance once per batch, as in one forward pass, and keep their form.

    The network has dropout, too, and the same key gives the same gradients. A rule may refuse such a network.
    """
    if rule.spiking:
        raise Skipped("it trains spiking networks only")
    built = rule.build()
    try:
        problem = rule.made_trainable(problem_with_collections())
        estimate = compiled_estimate(built.estimate, problem.model)
        found, after = estimated_by(estimate, built, problem)
    except UsageError as refused:
        raise Skipped(f"it takes no network with batch statistics and dropout: {refused.message}") from None
    again, later = estimated_by(estimate, built, problem)[0], estimated_by(estimate, built, problem, after)[1]
    before, once, twice = problem.model_state, model_state_of(after), model_state_of(later)
    if any(jax.eval_shape(lambda: before) != jax.eval_shape(lambda one=one: one) for one in (once, twice)):
        raise Broken(f"the collections {shape_text(before)} have become {shape_text(once)}, then {shape_text(twice)}")
    if distance(again.grads, found.grads):
        raise Broken("the same key gives other gradients", "Draw from the key only.")
    passed = compiled(partial(forward, problem.model, train=True))
    right = passed(problem.params, problem.batch[0], model_state=before, key=problem.key)[1]
    right = right, passed(problem.params, problem.batch[0], model_state=right, key=problem.key)[1]
    return Measured(distance((once, twice), right), 1e-5, where="distance of the collections from one forward pass")


@check(
    hint="Use layer.apply, which every layer has, and no names of parameters; or raise a ModelError in init that names "
    "the layer."
)
def other_layers(rule: RuleSubject) -> None:
    """A network with a convolution, pooling and a residual layer is trained, or refused with an error of NeurAI.

    The names of the parameters of its last layer are others than those of NeurAI's layers. Nothing is computed.
    """
    if rule.spiking:
        raise Skipped("it trains spiking networks only")
    built = rule.build()
    plain = problem_with_images()
    try:
        model, params = extended(built, plain)
        contract.check(built, model, params, plain.model_state, plain.batch, CLASSES)
    except UsageError:
        return


@check(hint="Use objective(loss, accuracy, has_aux), and begin aux with loss_aux(aux), both of neurai_core.rule.")
def loss_pair(rule: RuleSubject) -> Measured:
    """A loss that returns a pair changes no gradient, and its second part is reported as ``aux["loss_aux"]``.

    Without an accuracy, -1.0 is reported in its place.
    """
    if rule.spec.own_loss:
        raise Skipped("it has a loss of its own")
    with jax.enable_x64(True):
        _, problem, expected = rule.second
        scored = loss_function(rule.second_loss)
        built = algorithm(rule.name, loss=lambda *of: (scored(*of), {"more": 1.0}), has_aux=True, **rule.settings)
        found = estimated(built, problem)
        told = jax.tree.map(float, found.aux.get("loss_aux"))
        if told != {"more": 1.0}:
            raise Broken(f'aux["loss_aux"] is {told}, and the loss returned {{"more": 1.0}} beside its value')
        if found.accuracy != -1:
            raise Broken(f"accuracy is {found.accuracy:.6g} without an accuracy, expected -1.0")
        return Measured(distance(found.grads, expected.grads), SAME, where="change of the gradients")


@check(hint="Check arguments with split_batch of neurai_core.rule, and raise DataError or ModelError.")
def bad_input(rule: RuleSubject) -> None:
    """An empty batch, rows without targets, and parameters of another network are refused with an error of NeurAI."""
    built, problem = rule.build(), rule.problem()
    state, (x, y) = first_state(built, problem), problem.batch
    wrong = {
        "an empty batch": with_rows(problem, []),
        "more inputs than targets": problem._replace(batch=(x, with_rows(problem, range(1, BATCH)).batch[1])),
        "inputs of another width": problem._replace(batch=(jax.device_put(np.concatenate([x, x], -1)), y)),
    } | ({} if rule.spec.unsupervised else {"labels beyond the classes": problem._replace(batch=(x, y + 100))})
    for what, one in wrong.items():
        try:
            estimated(built, one, state, jit=False)
        except UsageError:
            continue
        except Exception as error:
            raise Broken(f"{what}: raised {type(error).__name__}, expected a DataError or ModelError") from error
        raise Broken(f"{what}: accepted, expected a DataError or ModelError")


CHECKS = (
    structure,
    settings,
    scalar_loss,
    finite,
    deterministic,
    batch_order,
    repeated_batch,
    float32,
    bfloat16,
    collections,
    other_layers,
    loss_pair,
    bad_input,
)
