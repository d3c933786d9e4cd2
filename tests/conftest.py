"""Fixtures every test may use."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator

import pytest

os.environ["NEURAI_CACHE"] = "off"  # also of commands that tests start: none writes into the cache of the user


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark cases after the first N of a test marked ``few(N)`` as slow."""
    seen: Counter[str] = Counter()
    for item in items:
        if few := item.get_closest_marker("few"):
            name = item.nodeid.partition("[")[0]
            seen[name] += 1
            if seen[name] > few.args[0]:
                item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True, scope="module")
def forget_programs() -> Iterator[None]:
    """Drop a module's compiled programs: thousands of them use up the memory maps that Linux allows a process."""
    yield
    if jax := sys.modules.get("jax"):
        jax.clear_caches()


@pytest.fixture(autouse=True)
def same_environment() -> Iterator[None]:
    """What a test or a command sets in the environment ends with the test, before a later one starts a process."""
    before = {**os.environ}
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def x64() -> Iterator[None]:
    """Run the test in float64; numerics tests do."""
    import jax

    with jax.enable_x64(True):
        yield


@pytest.fixture
def quick_compile(request: pytest.FixtureRequest) -> Iterator[None]:
    """Compile in half of the time: for tests whose programs are large and run once."""
    import jax

    jax.config.update("jax_disable_most_optimizations", "optimized" not in request.fixturenames)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def optimized() -> None:
    """Compile as users do, in a module that else compiles quickly: for claims about bits, rounding and memory."""
