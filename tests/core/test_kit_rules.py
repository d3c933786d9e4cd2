"""Every check of what rules claim catches a rule with one planted defect, and no other check does."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from planted import Inferred, Settings, caught, planted, scaled
from pydantic import ConfigDict, Field

from neurai_core.errors import UsageError
from neurai_core.losses import accuracy, cross_entropy, loss_function
from neurai_core.optax_texts import Transformation
from neurai_core.rule import Estimate, State, feedforward_predict, objective, true_gradient
from neurai_core.specs import Relaxes, Variant
from neurai_core.testing import (
    check_algorithm,
    parametrize_with_checks,
    rule_claims,
    rule_definition,
    rule_learning,
    rule_local,
    rule_reports,
    rule_tags,
)

pytestmark = pytest.mark.usefixtures("quick_compile")
CHECKS = [
    one.name
    for one in (
        *rule_definition.CHECKS,
        *rule_claims.CHECKS,
        *rule_tags.CHECKS,
        *rule_local.CHECKS,
        *rule_reports.CHECKS,
        *rule_learning.CHECKS,
    )
] + ["claims"]


def with_noise(estimate: Any, *, config: Any, key: Any) -> Any:
    """On average 5 % too large, where there is noise."""
    return estimate._replace(grads=scaled(estimate.grads, 1 + 0.1 * config.noise))


def with_rest(estimate: Any, *, config: Any, key: Any) -> Any:
    """An error that is left when beta goes to 0, where there is a beta."""
    rest = jnp.where(jnp.asarray(config.beta) == 0, 0.0, 0.1)
    return estimate._replace(grads=scaled(estimate.grads, 1 + rest))


def with_few_digits(estimate: Any, *, config: Any, key: Any) -> Any:
    """Numbers of 32 bits are rounded to two digits."""

    def rounded(leaf: jax.Array) -> jax.Array:
        return jax.lax.reduce_precision(leaf, 8, 7) if leaf.dtype == jnp.float32 else leaf

    return estimate._replace(grads=jax.tree.map(rounded, estimate.grads))


def with_a_rise(estimate: Any, *, config: Any, key: Any) -> Any:
    if "trace" not in estimate.aux:
        return estimate
    trace = estimate.aux["trace"]
    energy = trace["free"]["energy"].at[2].add(1.0)
    return estimate._replace(aux=estimate.aux | {"trace": trace | {"free": trace["free"] | {"energy": energy}}})


def with_a_late_rise(estimate: Any, *, config: Any, key: Any) -> Any:
    """The energy rises after as many steps as a phase has by default."""
    return with_a_rise(estimate, config=config, key=key) if config.n > 3 else estimate


def local_in_one_step(estimate: Any, *, config: Any, key: Any) -> Any:
    """Back-propagation, if there is more than one step."""
    *below, last = estimate.grads
    return estimate._replace(grads=(*scaled(below, 0), last)) if config.n == 1 else estimate


def exact_with_tanh(model: Any, params: Any, state: Any, batch: Any, *, key: Any = None) -> Any:
    """Back-propagation through three layers, and more than that through two."""
    found, state = true_gradient(objective(LOSSES[batch[1].dtype.kind], None), model, params, state, batch, key=key)
    return found._replace(grads=scaled(found.grads, 1.0 if len(params) == 3 else 1.1)), state


def without_residual(estimate: Any, *, config: Any, key: Any) -> Any:
    if "trace" not in estimate.aux:
        return estimate
    energy = estimate.aux["energy_trace"]
    return estimate._replace(aux=estimate.aux | {"trace": {"free": {"energy": energy}}})


def uphill(estimate: Any, *, config: Any, key: Any) -> Any:
    return estimate._replace(grads=scaled(estimate.grads, -1))


def slightly_longer(estimate: Any, *, config: Any, key: Any) -> Any:
    return estimate._replace(grads=scaled(estimate.grads, 1 + 1e-6))


def of_cross_entropy(model: Any, params: Any, state: Any, batch: Any, *, key: Any = None) -> Any:
    """Whatever loss it is built with."""
    x, y = batch
    labels = y if jnp.issubdtype(y.dtype, jnp.integer) else jnp.argmax(y, -1)
    score = objective(cross_entropy, None)
    found, _ = true_gradient(score, model, params, state.model_state, (x, labels), key=key)
    return found._replace(accuracy=accuracy(model(params, x), labels)), state


def only_at_first(*given: Any, **more: Any) -> Any:
    """Exact until the state says that a step was made."""
    found, state = of_cross_entropy(*given, **more)
    factor = jnp.where(state.own > 0, 0.7, 1.0)
    return found._replace(grads=scaled(found.grads, factor)), State(state.model_state, state.own + 1)


def of_the_inputs(model: Any, params: Any, state: Any, batch: Any, *, key: Any = None) -> Any:
    """The gradient of the outputs' mean square, whatever the targets: what the mutants of unsupervised rules spoil."""
    x, _ = batch
    loss, grads = jax.value_and_grad(lambda params: jnp.mean(model(params, x) ** 2))(params)
    return Estimate(grads, loss, jnp.asarray(-1.0), {}), state


def of_the_targets(model: Any, params: Any, state: Any, batch: Any, *, key: Any = None) -> Any:
    """The same, a little longer if there are large labels."""
    found, state = of_the_inputs(model, params, state, batch)
    return found._replace(grads=scaled(found.grads, 1 + 1e-3 * jnp.mean(1.0 * batch[1]))), state


def up_the_inputs(model: Any, params: Any, state: Any, batch: Any, *, key: Any = None) -> Any:
    found, state = of_the_inputs(model, params, state, batch)
    return found._replace(grads=scaled(found.grads, -1)), state


def momentum_definition(config: Any, loss: Any, model: Any, params: Any, state: Any, batch: Any, *, key: Any) -> Any:
    """The sign of a running mean of gradients, which is the state."""
    grads = jax.grad(lambda theta: loss(model(theta, batch[0]), batch[1]))(params)
    return jax.tree.map(lambda m, g: jnp.sign(0.9 * m + 0.1 * g), state.own, grads)


def momentum_and_state(
    config: Any, loss: Any, model: Any, params: Any, state: Any, batch: Any, *, key: Any
) -> tuple[Any, Any]:
    """The same, and the running mean after the batch."""
    grads = jax.grad(lambda theta: loss(model(theta, batch[0]), batch[1]))(params)
    mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, state.own, grads)
    return jax.tree.map(jnp.sign, mean), mean


def with_momentum(
    model: Any, params: Any, state: Any, batch: Any, *, key: Any = None, reads: float = 0.9, writes: float = 0.1
) -> Any:
    """The sign of a running mean of gradients, as the definition has it unless it reads or writes another share."""
    score = objective(LOSSES[batch[1].dtype.kind], accuracy)
    found, _ = true_gradient(score, model, params, state.model_state, batch, key=key)
    mean = jax.tree.map(lambda m, g: reads * m + 0.1 * g, state.own, found.grads)
    later = jax.tree.map(lambda m, g: m if writes == 0 else 0.9 * m + writes * g, state.own, found.grads)
    return found._replace(grads=jax.tree.map(jnp.sign, mean)), State(state.model_state, later)


def without_mean(model: Any, params: Any, *, key: Any = None, model_state: Any = ()) -> Any:
    return State(model_state, jax.tree.map(jnp.zeros_like, params))


def counting(model: Any, params: Any, *, key: Any = None, model_state: Any = ()) -> Any:
    return State(model_state, jnp.zeros((), int))


LOSSES = {"i": cross_entropy, "f": loss_function("squared_error")}
RELAXES = Relaxes(trace="trace", steps="n", size="eta")
BARE = {"claims": ("exact",), "definition": None, "variants": (), "relaxes": None}
WITHOUT_LABELS = BARE | {"claims": ("unsupervised",), "own_loss": "size", "no_alignment": "it has no targets"}


def momentum(reads: float = 0.9, writes: float = 0.1, **spec: Any) -> dict[str, Any]:
    """The rule with a running mean, which is sound unless it reads or writes other shares or has another spec."""
    functions = {"estimate": partial(with_momentum, reads=reads, writes=writes), "init": without_mean}
    sound = {"claims": ("stateful",), "definition": f"{__name__}:momentum_and_state", "functions": functions}
    return BARE | sound | spec


MUTANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "another definition": ("definition", {"definition": "planted:wrong_definition"}),
    "as defined in the first step only": ("definition", momentum(reads=0, claims=())),
    "neither reads nor writes the state of its definition": (
        "definition",
        momentum(reads=0, writes=0, claims=(), definition=f"{__name__}:momentum_definition"),
    ),
    "does not write the state of its definition": ("definition", momentum(writes=0, claims=())),
    "writes another state than its definition": ("definition", momentum(writes=0.2)),
    "writes a state that its definition does not": (
        "definition",
        momentum(definition=f"{__name__}:momentum_definition"),
    ),
    "its state changes nothing": ("stateful", momentum(reads=0, definition=None)),
    "its state never changes": ("stateful", momentum(writes=0, definition=None)),
    "has no state": ("stateful", {**BARE, "claims": ("exact", "stateful")}),
    "draws nothing that it could": ("stochastic", {**BARE, "claims": ("exact", "stochastic")}),
    "not exact": ("exact", {"defect": slightly_longer, "definition": None, "variants": ()}),
    "exact in the first step only": ("exact", {**BARE, "functions": {"estimate": only_at_first, "init": counting}}),
    "exact for one network only": ("exact", {**BARE, "functions": {"estimate": exact_with_tanh}}),
    "exact for one loss only": ("exact", {**BARE, "functions": {"estimate": of_cross_entropy, "init": counting}}),
    "does not tend to bp": (
        "limit",
        {
            "defect": with_rest,
            "definition": None,
            "variants": (Variant(settings={"beta": 0.5}, claims=("limit:beta",)),),
        },
    ),
    "tends to bp at a lower order": (
        "limit",
        {"variants": (Variant(settings={"beta": 0.5}, claims=("limit:beta:2",)),)},
    ),
    "biased": (
        "unbiased",
        {"defect": with_noise, "variants": (Variant(settings={"noise": 0.5}, claims=("unbiased",)),)},
    ),
    "draws nothing": ("unbiased", {"variants": (Variant(settings={"beta": 0.5}, claims=("unbiased",)),)}),
    "too noisy to tell": ("unbiased", {"variants": (Variant(settings={"noise": 10.0}, claims=("unbiased",)),)}),
    "not local": ("local", {"claims": ("exact", "local")}),
    "not local in time": ("local", {"claims": ("exact", "local", "spiking"), "variants": (), "relaxes": None}),
    "local in one step only": (
        "local",
        {"defect": local_in_one_step, **BARE, "claims": ("local",), "relaxes": RELAXES},
    ),
    "rises": ("energy", {"defect": with_a_rise}),
    "rises later": ("energy", {"defect": with_a_late_rise}),
    "says of no relaxation": ("energy", {"relaxes": None}),
    "reports no residual": ("relaxation-report", {"defect": without_residual}),
    "names a setting that it has not": ("relaxation-report", {"relaxes": Relaxes(trace="trace", steps="n", size="dt")}),
    "generates another shape": ("generative", {"functions": {"generate": lambda model, params, y: jnp.zeros(len(y))}}),
    "forgets what it knew": (
        "generative",
        {"functions": {"infer": lambda model, params, x, y=None, mask=None: Inferred(jnp.zeros_like(x))}},
    ),
    "loses digits": (
        "precision",
        {"defect": with_few_digits, "claims": ("precise",), "variants": (), "definition": None},
    ),
    "learns nothing": ("learns", {"defect": uphill, "claims": (), "variants": (), "definition": None}),
    "predicts at random": (
        "learns",
        {"functions": {"predict": lambda *given: -feedforward_predict(*given)}},
    ),
    "learns from labels in secret": ("unsupervised", {**WITHOUT_LABELS, "functions": {"estimate": of_the_targets}}),
    "its own loss rises": ("learns", {**WITHOUT_LABELS, "functions": {"estimate": up_the_inputs}}),
    "a claim without a check": ("claims", {"claims": ("exakt",)}),
    "a claim about no setting": ("claims", {"claims": ("limit:bta",)}),
}


def test_a_sound_rule_passes_every_check() -> None:
    outcomes = check_algorithm(planted())
    assert {one.check: one.reason for one in outcomes if one.status not in ("passed", "skipped")} == {}
    outcomes += check_algorithm(planted(**WITHOUT_LABELS, functions={"estimate": of_the_inputs}), only=["unsupervised"])
    outcomes += check_algorithm(planted(**momentum()), only=["definition", "stateful"])
    tried = {one.check for one in outcomes if one.status == "passed"}
    assert tried == {one.check for one in outcomes} - {"light"}  # it is not loaded from a module


@pytest.mark.few(6)
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_defect_is_caught_by_its_check_and_by_no_other(mutant: str) -> None:
    check, defect = MUTANTS[mutant]
    found = caught(planted(**defect), CHECKS)
    assert found.keys() == {check}, found
    reason, hint = found[check]
    assert reason and hint


def test_costs_are_measured_on_demand_and_never_fail() -> None:
    outcomes = check_algorithm(planted(), only=["claims"], cost=True)
    costs = [one for one in outcomes if one.check.startswith("cost-")]
    assert [(one.status, one.tolerance) for one in costs] == [("passed", None)] * 3
    assert all(one.figure > 0 for one in costs)
    assert [one.check for one in check_algorithm(planted(), only=["cost-step"])] == ["cost-step"]


def test_one_cause_is_one_failure() -> None:
    """The hints of checks that cannot run would lead away from it."""

    def other_form(estimate: Any, *, config: Any, key: Any) -> Any:
        return estimate._replace(grads=jax.tree.leaves(estimate.grads))

    outcomes = check_algorithm(planted(other_form, **BARE), only=["structure", "finite", "batch-order", "claims"])
    assert [one.status for one in outcomes] == ["failed", "skipped", "skipped", "passed"]
    assert outcomes[1].reason == "cannot be checked before structure passes" and "Gradients have" in outcomes[0].hint


def test_a_claim_with_a_typing_error_is_told_the_nearest() -> None:
    assert "Did you mean 'exact'?" in caught(planted(claims=("exakt",)), ["claims"])["claims"][0]
    assert "Did you mean 'beta'?" in caught(planted(claims=("limit:bta",)), ["claims"])["claims"][0]


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("plantet:definition", "'plantet:definition', and there is no module 'plantet'"),
        ("planted:equations", "'planted:equations', and its module has no 'equations'"),
        ("planted:NAME", "'planted:NAME' is str, expected a function"),
    ],
)
def test_a_definition_that_cannot_be_imported_is_the_mistake_of_the_spec(target: str, said: str) -> None:
    reason, hint = caught(planted(definition=target), ["definition"])["definition"]
    assert said in reason and ("spec" in hint or "term" in hint)


def test_a_failure_of_no_check_cannot_be_expected() -> None:
    reason, hint = caught(planted(known_failures={"lerns": "it does not"}), ["settings"])["settings"]
    assert "names 'lerns', which is not a check. Did you mean 'learns'?" in reason and "learns" in hint
    for expect in (partial(check_algorithm, "bp"), partial(parametrize_with_checks, ["bp"])):
        with pytest.raises(UsageError, match=r"There is no check 'lerns'. Did you mean 'learns'\?"):
            expect(expected={"lerns": "it does not"})


@pytest.mark.parametrize(
    ("defaults", "said"),
    [
        ({"epoch": 7}, "epoch: not a setting of 'a run'; did you mean 'epochs'?"),
        ({"lr": -1.0}, "lr: input should be greater than 0 (got -1.0)"),
        ({"rules.eta": 1.0}, "rules.eta: a run has no part 'rules'. Did you mean 'rule'?"),
        ({"rule.ett": 1.0}, "ett: not a setting of 'planted'; did you mean 'eta'?"),
        ({"data": "digit"}, "Did you mean 'digits'?"),
        ({"loss": "cros_entropy"}, "Did you mean 'cross_entropy'?"),
        ({"optimizer": "adm"}, "Did you mean 'adam'?"),
        ({"optimizer": "sgd", "optimizer.momentun": 0.9}, "Did you mean 'momentum'?"),
        ({"optimizer": "chain(clip(1.0), adm())"}, "Did you mean 'adam'?"),
        ({"optimizer": "sgd(0.1"}, "'sgd(0.1' is neither a call of optax"),
        ({"optimizer_for": ("0=adm",)}, "Did you mean 'adam'?"),
        ({"lr": "cosine_decay_schedul(0.1, 9)"}, "Did you mean 'cosine_decay_schedule'?"),
    ],
)
def test_defaults_that_a_run_refuses_are_the_mistake_of_the_spec(defaults: dict[str, Any], said: str) -> None:
    reason, _ = caught(planted(defaults=defaults), ["settings"])["settings"]
    assert reason.startswith("the spec has defaults that a run refuses: ") and said in reason


@pytest.mark.parametrize("where", [{}, {"variants": (Variant(settings={"inner": "adm(1e-3)"}),)}])
def test_a_text_of_optax_among_the_settings_that_makes_nothing_is_found(where: dict[str, Any]) -> None:
    class WithOptimizer(Settings):
        inner: str | Transformation = Field("sgd(0.1)" if where else "adm(1e-3)", description="the inner optimizer")
        model_config = ConfigDict(arbitrary_types_allowed=True)

    reason, _ = caught(planted(config=WithOptimizer, **where), ["settings"])["settings"]
    assert reason.startswith("the setting 'inner' is 'adm(1e-3)': optax has no function named 'adm'.")


def test_a_property_that_holds_and_is_not_claimed_is_a_remark() -> None:
    outcomes = check_algorithm(planted(claims=(), variants=()), only=["exact", "energy"])
    assert [one.reason for one in outcomes] == [
        "exact is not claimed, although it holds here",
        "energy is not claimed, although it holds here",
    ]
