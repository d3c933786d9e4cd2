"""Wrappers around rules: what they add, and that they change nothing else."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neurai_core as neurai
from neurai_core.errors import UsageError
from neurai_core.models import mlp
from neurai_core.transforms import accumulate, alignment, per_example, with_alignment

MODEL = mlp((5, 6, 3), activation="tanh")


def problem(batch_size: int = 12):
    params, _ = MODEL.init(jax.random.key(0), (5,))
    x = jax.random.normal(jax.random.key(1), (batch_size, 5))
    return params, (x, jax.random.randint(jax.random.key(2), (batch_size,), 0, 3))


def close(ours, theirs):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15), ours, theirs)


@pytest.mark.few(1)
@pytest.mark.parametrize("k", [1, 3, 12])
@pytest.mark.parametrize(("loss", "reduction"), [("cross_entropy", "mean"), ("sum_cross_entropy", "sum")])
def test_accumulated_slices_give_the_whole_batch(x64, k, loss, reduction):
    rule = neurai.algorithm("bp", loss=loss, accuracy="accuracy")
    params, batch = problem()
    whole, _ = rule.estimate(MODEL, params, (), batch)
    sliced, _ = accumulate(rule, k, reduction).estimate(MODEL, params, (), batch)
    close(sliced, whole)


def test_the_state_passes_from_slice_to_slice():
    def estimate(model, params, state, batch, *, key=None):
        return neurai.Estimate(params, jnp.zeros(()), jnp.zeros(()), {"count": state}), state + 1

    rule = neurai.Rule(lambda *a, **k: 0, estimate, lambda *a: None)
    found, state = accumulate(rule, 4).estimate(None, jnp.ones(2), 0, (jnp.ones((8, 1)), jnp.ones(8)))
    assert state == 4 and found.aux["count"] == 1.5


def test_a_batch_that_does_not_divide_is_refused():
    rule = neurai.algorithm("bp")
    params, batch = problem()
    with pytest.raises(UsageError, match="batch of 12 examples, which 5 does not divide"):
        accumulate(rule, 5).estimate(MODEL, params, (), batch)
    with pytest.raises(UsageError, match="k=0"):
        accumulate(rule, 0)
    with pytest.raises(UsageError, match="expected 'mean' or 'sum'"):
        accumulate(rule, 2, "max")


def test_per_example_gradients_are_those_of_batches_of_one(x64):
    rule = neurai.algorithm("bp")
    params, (x, y) = problem()
    found, _ = per_example(rule).estimate(MODEL, params, (), (x, y))
    for i in (0, 7):
        single, _ = rule.estimate(MODEL, params, (), (x[i : i + 1], y[i : i + 1]))
        close(jax.tree.map(lambda leaf, i=i: leaf[i], found.grads), single.grads)
    whole, _ = rule.estimate(MODEL, params, (), (x, y))
    close(jax.tree.map(lambda leaf: leaf.mean(axis=0), found.grads), whole.grads)
    assert found.loss.shape == (12,)


def test_alignment_of_bp_with_itself_is_one(x64):
    rule = with_alignment(neurai.algorithm("bp"), "cross_entropy")
    params, batch = problem()
    found, _ = jax.jit(rule.estimate, static_argnums=0)(MODEL, params, (), batch)
    close(found.aux["alignment"], {"cosine": (1.0, 1.0), "norm_ratio": (1.0, 1.0)})


def test_alignment_measures_angle_and_length_per_entry(x64):
    reference = {"a": jnp.array([1.0, 0.0]), "b": {"w": jnp.array([0.0, 2.0])}}
    grads = {"a": jnp.array([1.0, 1.0]), "b": {"w": jnp.array([0.0, -1.0])}}
    report = alignment(grads, reference)
    np.testing.assert_allclose(report["cosine"], [np.sqrt(0.5), -1.0])
    np.testing.assert_allclose(report["norm_ratio"], [np.sqrt(2.0), 0.5])


def test_wrappers_compose(x64):
    rule = per_example(with_alignment(neurai.algorithm("bp"), "cross_entropy"))
    params, batch = problem()
    found, _ = rule.estimate(MODEL, params, (), batch)
    assert found.aux["alignment"]["cosine"][0].shape == (12,)
