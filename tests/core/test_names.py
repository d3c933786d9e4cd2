"""Names: when two are equal, how they are taken apart, and what is suggested."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurai_core.naming import canonical, did_you_mean, normalize_distribution, split_qualified, suggest


@pytest.mark.parametrize("spelling", ["SuperSpike", "super_spike", "super-spike", "SUPER.SPIKE", " superspike "])
def test_spellings_of_one_name_are_equal(spelling: str) -> None:
    assert canonical(spelling) == "superspike"


@given(st.text())
def test_folding_a_name_twice_changes_nothing(name: str) -> None:
    assert canonical(canonical(name)) == canonical(name)


@pytest.mark.parametrize("spelling", ["Some_Dist", "some.dist", "some--dist", "SOME-dist"])
def test_distributions_compare_as_pep_503_says(spelling: str) -> None:
    assert normalize_distribution(spelling) == "some-dist"


@pytest.mark.parametrize(
    ("name", "parts"),
    [("pc", ("pc", None)), ("pc@x", ("pc", "x")), (" pc @ x ", ("pc", "x")), ("pc@", ("pc", None))],
)
def test_a_qualified_name_falls_into_name_and_distribution(name: str, parts: tuple[str, str | None]) -> None:
    assert split_qualified(name) == parts


def test_the_nearest_name_is_suggested_as_it_is_written() -> None:
    assert suggest("super spiek", ["Sigmoid", "SuperSpike"]) == "SuperSpike"
    assert suggest("zebra", ["Sigmoid", "SuperSpike"]) is None
    assert suggest("pc", []) is None


def test_did_you_mean_is_appended_to_a_sentence() -> None:
    assert "No loss is named 'mes'." + did_you_mean("mes", {"mse": 1}) == "No loss is named 'mes'. Did you mean 'mse'?"
