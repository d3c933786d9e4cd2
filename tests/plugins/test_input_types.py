"""Rules that work layer by layer take inputs of any type of number, as a forward pass does."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neurai_core as neurai
from neurai_core.grads import EP, PC, BiPC
from neurai_core.layered import Layered, block, conv, dense, flatten, function, max_pool, residual

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(0)
LINEAR = (conv(2, 3, activation="sigmoid"), flatten(), dense(3))
RULES = [
    (PC("mse", n=4), (flatten(), dense(5, "tanh"), dense(3))),
    (PC("mse", n=4), (block(max_pool(2), residual(conv(1, 3))), flatten(), dense(3))),
    (PC("mse", n=4, mode="fixed_pred"), LINEAR),
    (PC("mse", n=4, mode="incremental"), (max_pool(2), flatten(), dense(3))),
    (EP("mse", n_relax=4), LINEAR),
    (EP("mse", n_relax=4, dt=0.9, energy="hopfield"), (flatten(), dense(3, "sigmoid"))),
    (BiPC("mse", "mse", n=4), (flatten(), dense(5, "tanh"), dense(3))),
]


@pytest.mark.few(4)
@pytest.mark.parametrize(("rule", "layers"), RULES, ids=lambda value: getattr(value, "algorithm", ""))
def test_integers_are_numbers_of_the_parameters_type(rule, layers):
    model, shape = Layered(layers), (4, 4, 1)
    params = rule.init(model, KEY, shape) if isinstance(rule, BiPC) else model.init(KEY, shape)[0]
    x, y = jax.random.randint(KEY, (2, *shape), 0, 2).astype(jnp.uint8), jnp.ones((2, 3))
    found, expected = (rule.get_grads(model, params, (x, y)) for x in (x, x.astype(jnp.float32)))
    jax.tree.map(functools.partial(np.testing.assert_array_equal), found, expected)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(found[0]))


@pytest.mark.parametrize("rule", [PC("mse", n=4), EP("mse", n_relax=4)], ids=lambda rule: rule.algorithm)
def test_tokens_reach_their_table_as_integers(rule):
    table = jax.random.normal(KEY, (7, 5))
    model = Layered((function(looked_up, init=lambda key, shape: table), dense(3)))
    params = table, dense(3).init(KEY, (5,))[0]
    tokens, y = jnp.array([[0, 6, 6], [1, 2, 3]]), jnp.ones((2, 3))
    grads = rule.get_grads(model, params, (tokens, y))[0]
    assert [bool(row.any()) for row in grads[0]] == [True, True, True, True, False, False, True]


def looked_up(table, tokens):
    return jnp.tanh(table[tokens].mean(axis=1))


def test_a_setting_takes_the_numbers_of_numpy():
    rule = neurai.algorithm("pc", n=np.int64(5), eta=np.float32(0.25), fresh=np.bool_(True))
    assert rule.origin.settings["n"] == 5 and rule.origin.settings["fresh"] is True
    assert EP("mse", n_relax=np.int64(20)).settings["n_relax"] == 20
    assert PC("mse", n=np.uint8(5)) == PC("mse", n=5)
