"""Checking plugins by name: which checks there are for a kind, and on what they run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from itertools import chain
from typing import Any, NamedTuple

from neurai_core.errors import DuplicateName, PluginError, UnknownName
from neurai_core.naming import canonical, did_you_mean
from neurai_core.registry import REGISTRY
from neurai_core.registry.isolation import vet
from neurai_core.registry.kinds import KINDS
from neurai_core.testing import (
    adapter_checks,
    dataset_checks,
    rule_claims,
    rule_contract,
    rule_cost,
    rule_definition,
    rule_learning,
    rule_local,
    rule_reports,
    rule_tags,
    rule_transforms,
    surrogate_checks,
)
from neurai_core.testing.adapter_checks import AdapterSubject
from neurai_core.testing.checking import (
    Check,
    Outcome,
    Subject,
    applies,
    require_timeout,
    run_check,
    run_checks,
    select,
)
from neurai_core.testing.dataset_checks import DatasetSubject
from neurai_core.testing.light import light
from neurai_core.testing.rule_subject import RuleSubject
from neurai_core.testing.surrogate_subject import SurrogateSubject


class Kit(NamedTuple):
    """The checks of a kind, and how to make subjects of a spec: the default settings first, then the variants."""

    checks: tuple[Check, ...]
    subjects: Any
    costs: tuple[Check, ...] = ()  # figures that are measured on demand

    def chosen(self, cost: bool) -> tuple[Check, ...]:
        """The checks, with or without what it costs."""
        return (*self.checks, *self.costs) if cost else self.checks

    def tried(self, name: str, spec: Any, **more: Any) -> Iterator[Subject]:
        """The subjects of a spec, told the names of all checks."""
        names = tuple(one.name for one in self.chosen(cost=True))
        return (replace(one, checks=names) for one in self.subjects(name, spec, **more))


def _rules(name: str, spec: Any) -> tuple[Subject, ...]:
    variants = (RuleSubject(name, spec, one.settings, one.claims) for one in spec.variants)
    return RuleSubject(name, spec, {}, spec.claims), *variants


def _surrogates(name: str, spec: Any) -> tuple[Subject, ...]:
    return (SurrogateSubject(name, spec, claims=spec.claims),)


def _datasets(name: str, spec: Any, settings: Mapping[str, Any] | None = None) -> tuple[Subject, ...]:
    return (DatasetSubject(name, spec, settings or {}),)


def _adapters(name: str, spec: Any, examples: Mapping[str, Any] | None = None) -> tuple[Subject, ...]:
    return (AdapterSubject(name, spec, given=examples or {}),)


RULE_CHECKS = (
    *rule_contract.CHECKS,
    *rule_transforms.CHECKS,
    *rule_definition.CHECKS,
    *rule_claims.CHECKS,
    *rule_tags.CHECKS,
    *rule_local.CHECKS,
    *rule_reports.CHECKS,
    *rule_learning.CHECKS,
)
KITS: Mapping[str, Kit] = {
    "algorithm": Kit((*RULE_CHECKS, rule_claims.tags(RULE_CHECKS), light), _rules, rule_cost.CHECKS),
    "surrogate": Kit((*surrogate_checks.CHECKS, light), _surrogates),
    "dataset": Kit((*dataset_checks.CHECKS, light), _datasets),
    "adapter": Kit((*adapter_checks.CHECKS, light), _adapters),
}


def check_algorithm(
    rule: Any,
    *,
    only: Sequence[str] = (),
    expected: Mapping[str, str] | None = None,
    timeout: float = 60.0,
    cost: bool = False,
) -> list[Outcome]:
    """Check a learning rule.

    Args:
        rule: its lookup name, or a plugin object, which is registered for the time of the checks.
        only: names of checks; all of them if empty.
        expected: checks that are expected to fail, with reasons, beside those that the spec names.
        timeout: seconds after which a check counts as failed.
        cost: whether to measure what the rule costs, too, relative to back-propagation: time to compile, time per
            estimate, and memory.

    Returns:
        One `Outcome` per check, and per variant of the spec for checks of claims.

    Raises:
        UnknownName, PluginError: the rule cannot be found or loaded.
        UsageError: there is no check of a name.

    Example:
        >>> check_algorithm("bp", only=["finite"])[0].status
        'passed'
    """
    only, cost = _with_costs(only, cost)
    return list(_check("algorithm", rule, only, expected, timeout, cost=cost))


def check_surrogate(
    surrogate: Any,
    *,
    only: Sequence[str] = (),
    expected: Mapping[str, str] | None = None,
    timeout: float = 60.0,
) -> list[Outcome]:
    """Check a surrogate; arguments and errors as for `check_algorithm`.

    Example:
        >>> [(one.status, one.figure) for one in check_surrogate("superspike", only=["area"])]
        ... # doctest: +ELLIPSIS
        [('passed', ...)]
    """
    return list(_check("surrogate", surrogate, only, expected, timeout))


def check_dataset(
    dataset: Any,
    *,
    settings: Mapping[str, Any] | None = None,
    only: Sequence[str] = (),
    expected: Mapping[str, str] | None = None,
    timeout: float = 60.0,
) -> list[Outcome]:
    """Check a data set; other arguments and errors as for `check_algorithm`.

    Args:
        dataset: its lookup name, or a plugin object.
        settings: such as the path of its files; without those that have no default, the checks are skipped.
        only: as for `check_algorithm`.
        expected: as for `check_algorithm`.
        timeout: as for `check_algorithm`.

    Example:
        >>> [one.status for one in check_dataset("digits", only=["shape", "labels"])]
        ['passed', 'passed']
    """
    return list(_check("dataset", dataset, only, expected, timeout, settings=settings))


def check_adapter(
    adapter: Any,
    *,
    examples: Mapping[str, Any] | None = None,
    only: Sequence[str] = (),
    expected: Mapping[str, str] | None = None,
    timeout: float = 60.0,
) -> list[Outcome]:
    """Check an adapter; other arguments and errors as for `check_algorithm`. Skipped if its library is missing.

    Args:
        adapter: its lookup name, or a plugin object.
        examples: models to try it on, each a `neurai_core.adapting.Example`, beside those of the adapter.
        only: as for `check_algorithm`.
        expected: as for `check_algorithm`.
        timeout: as for `check_algorithm`.

    Example:
        >>> {one.status for one in check_adapter("flax", only=["accepts"])} <= {"passed", "skipped"}
        True
    """
    return list(_check("adapter", adapter, only, expected, timeout, examples=examples))


def check_named(
    names: Sequence[str],
    *,
    only: Sequence[str] = (),
    timeout: float = 60.0,
    cost: bool = False,
) -> Iterator[Outcome]:
    """Check plugins of any kind by name, one after the other; every name of every kind if there are none.

    A name may be qualified, as in ``name@distribution``. What is named twice, or also by an alias, is checked once. A
    plugin that cannot be loaded is an error if it was named, and a failed outcome, ``loads``, if everything is checked.

    Args:
        names: lookup names.
        only: names of checks; a plugin of a kind that has none of them is left out.
        timeout: seconds after which a check, or loading a plugin, counts as failed.
        cost: whether to measure what rules cost, too.

    Raises:
        UnknownName, DuplicateName, PluginError: a name cannot be found or loaded; before anything is checked.
        UsageError: there is no check of a name, or the timeout is not above 0.

    Example:
        >>> [one.status for one in check_named(["bp"], only=["finite"])]
        ['passed']
    """
    require_timeout(timeout)
    only, cost = _with_costs(only, cost)
    everything = [(kind, name) for kind in KITS for name in REGISTRY.names(kind)]
    found = _once(pair for name in names for pair in _kinds_of(name)) if names else everything
    dead = _dead(found, timeout)
    for kind, name in found if names else ():
        if error := dead.get((kind, name)):
            raise error
        REGISTRY.spec(kind, name)
    select([one for kind in dict.fromkeys(kind for kind, _ in found) for one in KITS[kind].chosen(cost)], only)
    return chain.from_iterable(
        _check_or_report(kind, name, only, timeout, cost, dead.get((kind, name))) for kind, name in found
    )


def _with_costs(only: Sequence[str], cost: bool) -> tuple[Sequence[str], bool]:
    """Costs are measured beside the checks that were chosen, and also if one of them was chosen by name."""
    costs = [one.name for one in rule_cost.CHECKS]
    named = any(canonical(name) in map(canonical, costs) for name in only)
    return ([*only, *costs] if only and cost else only), cost or named


def _check_or_report(
    kind: str, name: str, only: Sequence[str], timeout: float, cost: bool, dead: PluginError | None
) -> Iterator[Outcome]:
    known = {canonical(one.name) for one in KITS[kind].chosen(cost)}
    mine = [one for one in only if canonical(one) in known]
    if only and not mine:
        return
    try:
        if dead:
            raise dead
        REGISTRY.spec(kind, name)
    except (PluginError, DuplicateName) as error:
        yield Outcome(f"{kind} {name}", "loads", "failed", reason=error.message, hint=error.hint)
        return
    yield from _check(kind, name, mine, None, timeout, cost=cost)


def _dead(found: Iterable[tuple[str, str]], timeout: float) -> dict[tuple[str, str], PluginError]:
    """What crashes or hangs when it is loaded: found in other processes, so that this one goes on."""
    asked = {}
    for kind, name in found:
        with suppress(DuplicateName):
            entry = REGISTRY.find(kind, name)
            if entry.point is not None and not entry.builtin:
                asked[entry] = (kind, name)
    kinds = {kind.name: kind for kind in KINDS}
    died = vet([(entry, kinds[kind]) for entry, (kind, _) in asked.items()], timeout)
    return {asked[entry]: error for entry, error in died.items()}


def _once(found: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Every plugin once, under the first name given for it."""
    first: dict[tuple[str, str, str], tuple[str, str]] = {}
    for kind, name in found:
        entry = REGISTRY.find(kind, name)
        first.setdefault((kind, entry.key, entry.distribution), (kind, name))
    return [*first.values()]


def parametrize_with_checks(
    names: Sequence[str], *, expected: Mapping[str, str] | None = None, timeout: float = 60.0
) -> Any:
    """Parametrize a pytest test with every check of these plugins; needs pytest, which nothing else here does.

    The test gets the argument ``check`` and calls it:

        from neurai_core.testing import parametrize_with_checks

        @parametrize_with_checks(["my-rule"])
        def test_my_rule_conforms(check):
            check()

    Args:
        names: lookup names, of any kind.
        expected: checks that are expected to fail, with reasons, beside those that the specs name.
        timeout: seconds after which a check counts as failed.

    Raises:
        UnknownName: nothing has one of these names.
        UsageError: there is no check of a name in ``expected``.
    """
    import pytest

    pairs = [pair for name in names for pair in _kinds_of(name)]
    select(
        [one for kind in dict.fromkeys(kind for kind, _ in pairs) for one in KITS[kind].checks], tuple(expected or ())
    )

    def bound(one: Check, subject: Subject) -> Any:
        def run() -> None:
            outcome = run_check(one, subject, expected=expected, timeout=timeout)
            if outcome.status == "skipped":
                pytest.skip(outcome.reason)
            if outcome.status == "expected failure":
                pytest.xfail(outcome.reason)
            assert outcome.status == "passed", f"{outcome.subject}, {outcome.check}: {outcome.reason}. {outcome.hint}"

        return run

    params = [
        pytest.param(bound(one, subject), id=f"{subject.label}: {one.name}")
        for kind, found in pairs
        for index, subject in enumerate(KITS[kind].tried(found, REGISTRY.spec(kind, found)))
        for one in KITS[kind].checks
        if (index == 0 or not one.once) and applies(one, subject)
    ]
    return pytest.mark.parametrize("check", params)


def _check(
    kind: str,
    given: Any,
    only: Sequence[str],
    expected: Mapping[str, str] | None,
    timeout: float,
    *,
    cost: bool = False,
    **more: Any,
) -> Iterator[Outcome]:
    with ExitStack() as stack:
        spec = REGISTRY.spec(kind, given) if isinstance(given, str) else stack.enter_context(REGISTRY.temporary(given))
        name = given if isinstance(given, str) else spec.name
        kit = KITS[kind]
        yield from run_checks(
            kit.tried(name, spec, **more), kit.chosen(cost), only=only, expected=expected, timeout=timeout
        )


def _kinds_of(name: str) -> list[tuple[str, str]]:
    """The kinds that have this name and checks."""
    found = []
    for kind in KITS:
        try:
            REGISTRY.find(kind, name)
        except UnknownName:
            continue
        found.append((kind, name))
    if not found:
        known = [known for kind in KITS for known in REGISTRY.names(kind)]
        if canonical(name) in map(canonical, REGISTRY.names("observer")):
            raise UnknownName(f"{name!r} is an observer, and there are no checks of observers.")
        raise UnknownName(f"There is nothing to check by the name {name!r}.{did_you_mean(name, known)}")
    return found
