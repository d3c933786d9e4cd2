"""What a check is, and how one is run: bounded in time, never raising, with an `Outcome` in every case."""

from __future__ import annotations

import re
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from neurai_core.errors import NeurAIError, PluginError, UsageError
from neurai_core.naming import canonical, did_you_mean
from neurai_core.rising import unwatched
from neurai_core.specs import PluginSpec

Status = Literal["passed", "failed", "expected failure", "skipped"]
_UNCLAIMED = ", although it holds here"
_UNFINISHED = "not finished after"
_THREAD = "neurai check of "  # how the names of threads begin in which checks run


class Outcome(NamedTuple):
    """The outcome of one check of one subject.

    Attributes:
        subject: what was checked, such as ``algorithm my-rule (mode=exact)``.
        check: name of the check.
        status: ``passed``, ``failed``, ``expected failure`` (the spec says so, with a reason) or ``skipped``.
        figure: the number that was measured; None if the check measures none.
        tolerance: the bound that the figure had to keep; None if there is none.
        reason: why it failed or was skipped; or a remark: a property that holds but is not claimed, or what else was
            measured.
        hint: what to do about a failure.
        seconds: how long it took.
    """

    subject: str
    check: str
    status: Status
    figure: float | None = None
    tolerance: float | None = None
    reason: str = ""
    hint: str = ""
    seconds: float = 0.0

    @property
    def is_remark(self) -> bool:
        """Whether it says that a property holds which is not claimed."""
        return self.status == "skipped" and self.reason.endswith(_UNCLAIMED)


class Measured(NamedTuple):
    """A figure and its bound: what most checks return.

    Attributes:
        figure: what was measured. NaN never passes.
        tolerance: the bound; None if there is none, and the figure is only told.
        at_least: whether the figure has to reach the bound instead of staying below it.
        where: what the figure is of, for the reason of a failure.
        remark: what else was measured, for the reason of a check that passed.

    >>> Measured(0.5, 1.0).holds, Measured(float("nan"), 1.0).holds, Measured(0.5, 1.0, at_least=True).holds
    (True, False, False)
    """

    figure: float
    tolerance: float | None
    at_least: bool = False
    where: str = ""
    remark: str = ""

    @property
    def holds(self) -> bool:
        """Whether the figure keeps its bound."""
        if self.tolerance is None:
            return True
        return self.figure >= self.tolerance if self.at_least else self.figure <= self.tolerance


class Broken(Exception):
    """A property that does not hold and has no figure.

    Args:
        reason: what was found and what was expected.
        hint: what to do; the check's own hint without one.
    """

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.hint = hint


class Skipped(Exception):
    """A check that does not apply; the text says why."""


@dataclass(frozen=True, eq=False)
class Subject:
    """What is checked: a plugin with settings.

    Attributes:
        name: lookup name.
        spec: its spec.
        settings: settings other than the defaults.
        claims: what the spec claims with them.
        checks: names of the checks of its kind; empty if they are not known.
    """

    name: str
    spec: PluginSpec
    settings: Mapping[str, Any] = field(default_factory=dict)
    claims: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Kind, name and settings, for tables."""
        settings = ", ".join(f"{name}={value}" for name, value in self.settings.items())
        return f"{self.spec.kind} {self.name}" + (f" ({settings})" if settings else "")

    @property
    def known_failures(self) -> Mapping[str, str]:
        """Checks that are expected to fail, with reasons."""
        return self.spec.known_failures

    def require_descriptions(self) -> None:
        """Require every setting to say what it means.

        Raises:
            Broken: one does not.
        """
        for name, described in self.spec.config.model_fields.items():
            if not described.description:
                raise Broken(f"the setting {name!r} has no description")

    def require_real_failures(self) -> None:
        """Require every failure that the spec expects to be that of a check.

        Raises:
            Broken: there is no check of that name.
        """
        known = set(map(canonical, self.checks))
        for name in self.known_failures if known else ():
            if canonical(name) not in known:
                raise Broken(
                    f"known_failures of the spec names {name!r}, which is not a check."
                    f"{did_you_mean(name, self.checks)}",
                    f"The checks are {', '.join(self.checks)}.",
                )


class Check(NamedTuple):
    """One check.

    Attributes:
        name: as in tables and ``--only``.
        run: takes the subject; returns a `Measured` or None, or raises `Broken` or `Skipped`.
        summary: what it checks, one sentence.
        hint: what to do if it fails.
        claim: the claim that it verifies, without the part after a colon; empty for what every plugin promises.
        remark: if the claim is not made and its check would pass: whether to say so.
        once: whether to check only the default settings, not the variants of the spec.
    """

    name: str
    run: Callable[[Any], Measured | None]
    summary: str
    hint: str
    claim: str = ""
    remark: bool = False
    once: bool = True


def check(*, hint: str, claim: str = "", remark: bool = False, once: bool | None = None) -> Callable[[Any], Check]:
    """Make a `Check` of a function: its name in dashes, the first paragraph of its docstring as the summary.

    Checks of claims run with all variants of a spec unless ``once`` says otherwise; all others run once.
    """

    def make(function: Callable[[Any], Measured | None]) -> Check:
        summary = " ".join((function.__doc__ or "").split("\n\n")[0].split())
        name = function.__name__.replace("_", "-")
        return Check(name, function, summary, hint, claim, remark, not claim if once is None else once)

    return make


def run_checks(
    subjects: Iterable[Subject],
    checks: Sequence[Check],
    *,
    only: Sequence[str] = (),
    expected: Mapping[str, str] | None = None,
    timeout: float = 60.0,
) -> Iterator[Outcome]:
    """Run checks, subject by subject; one that fails for the same reason as one before is skipped.

    Args:
        subjects: what to check; the first has the default settings, the others are variants.
        checks: the checks of its kind.
        only: names of checks; all of them if empty.
        expected: further checks that are expected to fail, with reasons.
        timeout: seconds after which a check counts as failed.

    Raises:
        UsageError: there is no check of a name in ``only`` or ``expected``, or the timeout is not above 0.
    """
    require_timeout(timeout)
    chosen = select(checks, only)
    select(checks, tuple(expected or ()))
    for index, subject in enumerate(subjects):
        told: dict[str, str] = {}  # reasons of failures, and the checks that gave them first
        for one in chosen:
            if index == 0 or not one.once:
                found = run_check(one, subject, expected=expected, timeout=timeout)
                yield _as_told(found, told)


def _as_told(found: Outcome, told: dict[str, str]) -> Outcome:
    """A failure for the reason of one before is skipped: its own hint would lead away from the cause."""
    if found.status != "failed" or found.reason.startswith(_UNFINISHED):
        return found
    cause = re.sub(r"(float|int)\d+", r"\1", found.reason)  # the same in another precision
    if told.setdefault(cause, found.check) == found.check:
        return found
    return found._replace(status="skipped", reason=f"cannot be checked before {told[cause]} passes", hint="")


def select(checks: Sequence[Check], names: Sequence[str]) -> Sequence[Check]:
    """The checks of these names, in the order of the kit; all of them without names.

    Raises:
        UsageError: there is no check of a name.
    """
    known = {canonical(one.name): one for one in checks}
    for name in names:
        if canonical(name) not in known:
            names_of_all = [one.name for one in checks]
            raise UsageError(
                f"There is no check {name!r}.{did_you_mean(name, names_of_all)}",
                f"The checks are {', '.join(names_of_all)}.",
            )
    wanted = {canonical(name) for name in names}
    return [one for key, one in known.items() if not wanted or key in wanted]


def require_timeout(timeout: float, form: str = "timeout={:g}") -> None:
    """Refuse a timeout that is not a number of seconds above 0.

    Args:
        timeout: the number.
        form: how its caller writes it, for the message.

    Raises:
        UsageError: it is not.
    """
    if not 0 < timeout <= threading.TIMEOUT_MAX:
        raise UsageError(
            f"{form.format(timeout)}, expected a number of seconds above 0.", f"For example {form.format(60.0)}."
        )


def run_check(
    check: Check, subject: Subject, *, expected: Mapping[str, str] | None = None, timeout: float = 60.0
) -> Outcome:
    """Run one check; see `run_checks`."""
    began = time.perf_counter()
    claimed = _claimed(check, subject)
    if not applies(check, subject):
        return Outcome(subject.label, check.name, "skipped", reason=f"{check.claim} is not claimed")
    found = _bounded(check, subject, timeout)._replace(seconds=time.perf_counter() - began)
    if not claimed:
        return _as_remark(check, found)
    reasons = {canonical(name): why for name, why in {**subject.known_failures, **(expected or {})}.items()}
    return _as_expected(found, reasons.get(canonical(check.name)))


def failures(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """The outcomes that failed.

    >>> failures([Outcome("algorithm bp", "exact", "passed")])
    []
    """
    return [one for one in outcomes if one.status == "failed"]


def some_still_run() -> bool:
    """Whether a check that took too long was left behind and runs still.

    >>> some_still_run()
    False
    """
    return any(one.name.startswith(_THREAD) for one in threading.enumerate())


def applies(check: Check, subject: Subject) -> bool:
    """Whether a check says more of a subject than that it claims nothing of the kind."""
    return _claimed(check, subject) or check.remark


def _claimed(check: Check, subject: Subject) -> bool:
    return not check.claim or check.claim in {claim.partition(":")[0] for claim in subject.claims}


def _as_remark(check: Check, found: Outcome) -> Outcome:
    holds = found.status == "passed"
    remark = f"{check.claim} is not claimed" + (_UNCLAIMED if holds else "")
    return found._replace(status="skipped", reason=remark, hint="")


def _as_expected(found: Outcome, reason: str | None) -> Outcome:
    """Expected failures are strict: a check that passes unexpectedly fails."""
    if reason is None or found.status == "skipped":
        return found
    if found.status == "failed":
        return found._replace(status="expected failure", reason=reason, hint="")
    return found._replace(
        status="failed", reason=f"passed, although it was expected to fail: {reason}", hint="Expect it no longer."
    )


def _bounded(check: Check, subject: Subject, timeout: float) -> Outcome:
    """In a thread, so that a check that hangs is left behind; the process can end nevertheless."""
    found: list[Outcome] = []
    name = f"{_THREAD}{subject.label}, {check.name}"
    thread = threading.Thread(target=lambda: found.append(_run(check, subject)), name=name, daemon=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        thread.start()
        thread.join(timeout)
    if found:
        return found[0]
    more = max(60.0, 2 * timeout)
    return Outcome(
        subject.label,
        check.name,
        "failed",
        reason=f"{_UNFINISHED} {timeout:g} s",
        hint="Look for a loop that does not end, or allow more time: "
        f"--timeout {more:g} on the command line, timeout={more:g} in Python.",
    )


def _run(check: Check, subject: Subject) -> Outcome:
    outcome = Outcome(subject.label, check.name, "passed")
    try:
        with unwatched():
            measured = check.run(subject)
    except Skipped as why:
        return outcome._replace(status="skipped", reason=str(why))
    except Broken as broken:
        return outcome._replace(status="failed", reason=str(broken), hint=broken.hint or check.hint)
    except NeurAIError as error:
        own = check.hint if isinstance(error, PluginError) else ""  # it says what is wrong, the check why that matters
        hint = f"{own} {error.hint}".strip() or check.hint
        return outcome._replace(status="failed", reason=error.message, hint=hint)
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"
        return outcome._replace(status="failed", reason=reason, hint=check.hint)
    if measured is None:
        return outcome
    bound = None if measured.tolerance is None else float(measured.tolerance)
    outcome = outcome._replace(figure=float(measured.figure), tolerance=bound)
    if measured.holds:
        return outcome._replace(reason=measured.remark)
    side = "at least" if measured.at_least else "at most"
    where = f"{measured.where}: " if measured.where else ""
    return outcome._replace(
        status="failed",
        reason=f"{where}{measured.figure:.3g}, expected {side} {bound:.3g}",
        hint=check.hint,
    )
