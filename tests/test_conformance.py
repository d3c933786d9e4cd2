"""Every registered plugin passes every check that applies to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from neurai_core.registry import REGISTRY
from neurai_core.testing import parametrize_with_checks
from neurai_core.testing.conformance import KITS

pytestmark = pytest.mark.usefixtures("quick_compile")


SHIPPED = [one.name for kind in KITS for one in REGISTRY.entries(kind) if one.builtin]
IN_FULL = ("bp", "pc")
ALWAYS = ("structure", "settings", "bad-input", "definition", "unbiased", "unsupervised", "claims")
OF_VARIANTS = ("settings", "definition", "unbiased", "claims")
SURROGATES = [one.name for one in REGISTRY.entries("surrogate") if one.builtin]
OTHERS = [one.name for kind in KITS for one in REGISTRY.entries(kind) if not one.builtin]


def in_short(cases: pytest.MarkDecorator) -> pytest.MarkDecorator:
    """Mark as slow what some plugins of each kind stand for: the costly checks of most rules, and most surrogates."""
    short = (*IN_FULL, *SURROGATES[::4])

    def is_slow(case: str) -> bool:
        subject, _, check = case.partition(": ")
        kind, name, *variant = subject.split()
        if kind == "algorithm":
            return check not in (OF_VARIANTS if variant else ALWAYS) and (bool(variant) or name not in short)
        return kind == "surrogate" and name not in short

    name, params = cases.args
    marked = [pytest.param(*one.values, id=one.id, marks=[pytest.mark.slow] * is_slow(str(one.id))) for one in params]
    return pytest.mark.parametrize(name, marked)


@in_short(parametrize_with_checks(SHIPPED))
def test_a_plugin_is_what_its_spec_claims(check: Callable[[], None]) -> None:
    check()


@pytest.mark.slow
@parametrize_with_checks(OTHERS)
def test_a_plugin_of_a_third_party_is_what_its_spec_claims(check: Callable[[], None]) -> None:
    check()


def test_the_page_of_results_lists_every_plugin_that_ships_with_neurai_and_no_failure() -> None:
    page = Path(__file__).resolve().parent.parent / "docs" / "generated" / "check-results.md"
    rows = [line.strip("| ").split(" | ") for line in page.read_text(encoding="utf-8").splitlines() if " | " in line]
    listed = {" ".join(what.split()[:2]) for what, *_ in rows[2:]}
    shipped = {f"{one.kind} {one.name}" for kind in KITS for one in REGISTRY.entries(kind) if one.builtin}
    assert listed == shipped, "run python docs/check_results.py"
    assert {failed for _, _, failed, *_ in rows[2:]} == {"0"}
