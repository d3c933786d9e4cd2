"""Every registered plugin passes every check that applies to it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import neurai_core as neurai
from neurai_core.testing import parametrize_with_checks
from neurai_core.testing.conformance import KITS

pytestmark = pytest.mark.usefixtures("quick_compile")


NAMES = dict.fromkeys(name for kind in KITS for name in neurai.names(kind))


@parametrize_with_checks([*NAMES])
def test_a_plugin_is_what_its_spec_claims(check: Callable[[], None]) -> None:
    check()
