"""The adapter plugins: found by the library of the model, described without importing it."""

from __future__ import annotations

import subprocess
import sys

import pytest

import neurai_core as neurai

pytestmark = pytest.mark.contract


@pytest.mark.parametrize("name", ["equinox", "flax"])
def test_an_adapter_says_what_it_accepts_and_which_extra_brings_its_library(name):
    spec = neurai.spec("adapter", name)
    assert spec.library and spec.models
    assert spec.requires == {name: f"neurai[{name}]"}


def test_describing_the_adapters_imports_neither_jax_nor_the_libraries():
    code = (
        "import sys, neurai_core as n; [n.spec('adapter', name) for name in n.names('adapter')];"
        "assert not {'jax', 'equinox', 'flax'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_library_without_an_adapter_is_a_plain_callable():
    assert neurai.adapt(lambda params, x: params * x).model(2.0, 3.0) == 6.0
