"""The table of all mutants: for every check of every kind, the plugins with one planted defect that it has to catch."""

from __future__ import annotations

import pytest
import test_kit_adapters
import test_kit_contract
import test_kit_datasets
import test_kit_rules
import test_kit_surrogates

from neurai_core.testing.conformance import KITS

# Distributions on disk, in tests/cli/test_cli_check.py.
ON_DISK = ["light"]
MUTANTS: dict[str, list[str]] = {
    "algorithm": [*test_kit_contract.MUTANTS, *(check for check, _ in test_kit_rules.MUTANTS.values()), *ON_DISK],
    "surrogate": [*(check for check, *_ in test_kit_surrogates.MUTANTS), *ON_DISK],
    "dataset": [*(check for check, *_ in test_kit_datasets.MUTANTS), *ON_DISK],
    "adapter": [*(check for check, *_ in test_kit_adapters.MUTANTS), *ON_DISK],
}


@pytest.mark.parametrize("kind", KITS)
def test_every_check_has_a_mutant_and_every_mutant_a_check(kind: str) -> None:
    assert set(MUTANTS[kind]) == {one.name for one in KITS[kind].checks}
