"""Checks of what a rule that relaxes reports of its energy, and of what a rule that generates returns."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from neurai_core.arrays import shape_text
from neurai_core.errors import SettingsError
from neurai_core.rule import Estimate, GenerativeRule
from neurai_core.specs import Relaxes
from neurai_core.testing.checking import Broken, Measured, Skipped, check
from neurai_core.testing.rule_subject import RuleSubject, compiled, distance, estimated, small_problem, wide

ROUNDING = 1e-11  # of a float64 energy that is a sum of many terms


@check(hint='The page "Writing a rule" has the table of what a rule that relaxes reports.')
def relaxation_report(rule: RuleSubject) -> None:
    """A rule that relaxes reports its energy, and with its trace on, energy and force of every step of every phase.

    The gradients are the same with the trace on, and it has the settings that its spec names for the trace, the steps
    and their size.
    """
    relaxes = _relaxes(rule)
    fields = rule.spec.config.model_fields
    for name in filter(None, (relaxes.trace, relaxes.steps, relaxes.size, relaxes.tol)):
        if name not in fields:
            raise Broken(f"relaxes names {name!r}, and there is no such setting", f"Settings: {', '.join(fields)}.")
    with jax.enable_x64(True):
        quiet, traced = rule.reference.estimate, _traced(rule)
    steps = getattr(rule.spec.config(**rule.settings), relaxes.steps)
    _check_array('aux["energy"]', quiet.aux.get("energy"), ())
    _check_array('aux["energy"]', traced.aux.get("energy"), ())
    _check_array('aux["energy_trace"]', traced.aux.get("energy_trace"), (steps + 1,))
    _check_trace(traced.aux.get("trace"), steps)
    if (gap := distance(traced.grads, quiet.grads)) > 1e-5:
        raise Broken(f"the trace changes the gradients by {gap:.2g}", "Report what is computed anyway.")


@check(
    hint="Take smaller steps where the energy is too curved, and report the energy that is descended on.",
    claim="energy",
    remark=True,
)
def energy(rule: RuleSubject) -> Measured:
    """The energy decreases in every step of every phase of a relaxation, within rounding.

    The largest rise is measured in float64, relative to the energy; with the default settings also over twice as many
    steps and one more.
    """
    if "energy" not in rule.claims and rule.settings:
        raise Skipped("looked at with default settings only")
    if "energy" in rule.claims and rule.spec.relaxes is None:
        raise Broken("the spec names no settings of a relaxation", "Describe it with relaxes=Relaxes(...) in the spec.")
    _relaxes(rule)
    with jax.enable_x64(True):
        traces = [_traced(rule)] if rule.settings else [_traced(rule), _traced_for_longer(rule)]
        rises = [
            (_rise(np.asarray(phase["energy"])), name)
            for one in traces
            for name, phase in one.aux["trace"].items()
            if phase
        ]
    if not rises:
        raise Skipped("no phase was run")
    rise, where = max(rises)
    return Measured(rise, ROUNDING, where=f"rise of the energy in the {where} phase")


@check(hint="Return what neurai_core.rule.GenerativeRule documents.", claim="generative")
def generative(rule: RuleSubject) -> None:
    """A rule that generates returns finite inputs of the right shape, the same for the same arguments.

    ``generate`` gives one input per label, ``reconstruct`` one per input from every layer, and ``infer`` fills in what
    a mask leaves open and keeps the rest.
    """
    built, problem = rule.build(), rule.problem()
    if not isinstance(built, GenerativeRule):
        raise Broken("the rule lacks generate, reconstruct or infer", "Build a neurai_core.rule.GenerativeRule.")
    model, params, (x, y) = problem.model, problem.params, problem.batch
    for call in (compiled(partial(built.generate, model)), partial(built.generate, model)):
        _check_array("generate", made := call(params, y), x.shape)
    if not np.array_equal(made, built.generate(model, params, y)):
        raise Broken("generate returned something else for the same labels", "Draw from a fixed key.")
    for layer in range(1, len(small_problem(rule.spiking).model.layers) + 1):
        _check_array(f"reconstruct from layer {layer}", built.reconstruct(model, params, x, layer), x.shape)
    known = jax.device_put(np.arange(x[0].size).reshape(x.shape[1:]) % 2 == 0)
    for labels in (None, y):
        filled = built.infer(model, params, x, labels, known).x
        _check_array("infer", filled, x.shape)
        if not np.where(known, np.equal(filled, x), True).all():
            raise Broken("infer changed what its mask marks as known", "Return jnp.where(mask, x, inferred).")


CHECKS = (relaxation_report, energy, generative)


def _relaxes(rule: RuleSubject) -> Relaxes:
    relaxes = rule.spec.relaxes
    if relaxes is None:
        raise Skipped("the spec says of no relaxation")
    if relaxes.trace in rule.spec.config(**rule.settings).unused():
        raise Skipped("nothing relaxes with these settings")
    return relaxes


def _traced(rule: RuleSubject) -> Estimate:
    try:
        return rule.traced
    except SettingsError as error:
        raise Skipped(f"these settings allow no trace: {error.message}") from None


def _traced_for_longer(rule: RuleSubject) -> Estimate:
    relaxes = _relaxes(rule)
    steps = 2 * getattr(rule.spec.config(**rule.settings), relaxes.steps) + 1
    return estimated(rule.build(**{relaxes.trace: True, relaxes.steps: steps}), rule.reference.problem)


def _check_trace(trace: Any, steps: int) -> None:
    if not isinstance(trace, dict) or not trace:
        raise Broken(f'aux["trace"] is {type(trace).__name__}, expected a dictionary of phases')
    for name, phase in trace.items():
        if not phase:
            continue
        if not {"energy", "residual"} <= set(phase):
            raise Broken(f"the {name} phase reports {', '.join(phase)}, expected energy and residual")
        shape = jnp.shape(phase["energy"])
        if len(shape) not in (1, 2):
            raise Broken(f"the energy of the {name} phase has shape {shape}, expected (n + 1,) or (K, n + 1)")
        for key in ("energy", "residual"):
            _check_array(f"the {key} of the {name} phase", phase[key], shape)
    lengths = {jnp.shape(phase["energy"])[-1] for phase in trace.values() if phase}
    if lengths and steps + 1 not in lengths:
        raise Broken(f"the phases report {sorted(lengths)} numbers, expected {steps + 1}: one per step and one more")


def _check_array(what: str, found: Any, shape: tuple[int, ...]) -> None:
    if not isinstance(found, jax.Array) or found.shape != shape or not jnp.issubdtype(found.dtype, jnp.floating):
        raise Broken(f"{what} is {shape_text(found)}, expected real numbers of shape {shape}")
    if not np.isfinite(wide(found)).all():
        raise Broken(f"{what} is not finite")


def _rise(energies: np.ndarray) -> float:
    """The largest rise from one step to the next, relative to the energy.

    >>> _rise(np.array([2.0, 1.0, 1.5])), _rise(np.array([2.0, 1.0]))
    (0.2, 0.0)
    """
    rises = np.diff(energies) / (1 + np.abs(energies[..., 1:]))
    return float(np.max(rises, initial=0.0)) if np.isfinite(rises).all() else float("inf")
