"""Relaxation: n steps of any precision, early stopping by change per element, a trace of every step."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neurai_core.relaxation import change_per_element, relax


def halved(t, u):
    return jax.tree.map(lambda leaf: leaf / 2, u)


def test_n_steps_are_taken_and_numbered():
    end = relax(lambda t, u: u + t, jnp.zeros(()), 5)
    assert (float(end.state), int(end.steps)) == (10.0, 5) and np.isnan(end.change)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
def test_it_stops_when_the_change_per_element_is_small_in_any_precision(dtype, x64):
    end = relax(halved, [jnp.ones(3, dtype), jnp.ones((2, 2), dtype)], 100, tol=1e-2)
    assert int(end.steps) == 7 and float(end.change) == 2.0**-7


def test_the_change_is_looked_at_only_every_so_often():
    assert int(relax(halved, jnp.ones(3), 100, tol=1e-2, every=5).steps) == 10
    assert int(relax(halved, jnp.ones(3), 8, tol=1e-9, every=5).steps) == 8


def test_only_what_moves_is_measured():
    end = relax(lambda t, s: (s[0] / 2, s[1] + 1), (jnp.ones(2), 0), 100, tol=1e-2, moving=lambda s: s[0])
    assert int(end.steps) == 7 == int(end.state[1])


def test_a_trace_sees_every_step_and_the_end():
    end = relax(halved, jnp.array(8.0), 3, observe=lambda u: u)
    assert end.trace.tolist() == [8.0, 4.0, 2.0, 1.0]
    assert relax(halved, jnp.array(8.0), 0, observe=lambda u: u).trace.tolist() == [8.0]


def test_a_trace_of_unknown_length_is_refused():
    with pytest.raises(ValueError, match="needs tol=0"):
        relax(halved, jnp.array(8.0), 3, tol=0.1, observe=lambda u: u)


def test_the_measure_depends_on_neither_batch_size_nor_width():
    small, large = (change_per_element(jnp.zeros(shape), jnp.full(shape, 0.5)) for shape in ((2, 3), (64, 128)))
    assert small == large == 0.5
