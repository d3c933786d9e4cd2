"""fuse=True: one set of activities for a layer and those without parameters behind it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neurai_core as neurai
from neurai_core.energy import chain_of
from neurai_core.errors import ModelError, SettingsError
from neurai_core.layered import (
    Layer,
    Layered,
    avg_pool,
    block,
    conv,
    dense,
    elementwise,
    flatten,
    fused,
    fused_groups,
    linear_layer,
    max_pool,
)

pytestmark = pytest.mark.usefixtures("quick_compile")

KEY = jax.random.key(0)
X, Y = jax.random.normal(KEY, (3, 5, 4, 1)), jnp.array([0, 2, 1])
PLAIN = Layered((conv(2, 3, activation="tanh"), max_pool(2), flatten(), dense(4, "tanh"), dense(3)))
BLOCKS = Layered((block(*PLAIN.layers[:3]), *PLAIN.layers[3:]))
LINEAR = Layered((conv(2, 3), avg_pool(2), elementwise("sigmoid"), flatten(), dense(3)))
PARAMS = PLAIN.init(KEY, X.shape[1:])[0]


def estimate(rule, model, params, **settings):
    rule = neurai.algorithm(rule, loss="cross_entropy", **settings)
    return jax.jit(lambda params: rule.estimate(model, params, rule.init(model, params), (X, Y))[0])(params)


@pytest.mark.few(1)
@pytest.mark.parametrize("settings", [{}, {"mode": "incremental", "optimizer": "sgd(0.1)"}])
def test_pc_on_fused_layers_is_pc_on_blocks(settings):
    settings = {"n": 4, **settings}
    ours = estimate("pc", PLAIN, PARAMS, fuse=True, **settings)
    theirs = estimate("pc", BLOCKS, (PARAMS[:3], *PARAMS[3:]), **settings)
    assert jax.tree.structure(ours.grads) == jax.tree.structure(PARAMS)
    for a, b in zip(jax.tree.leaves((ours.grads, ours.aux)), jax.tree.leaves((theirs.grads, theirs.aux)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert ours.loss == estimate("bp", PLAIN, PARAMS).loss


@pytest.mark.slow
def test_hopfield_on_fused_layers_is_hopfield_on_their_product(x64):
    """Convolution, pooling and flattening, as one matrix, which is trained alike."""
    params, _ = LINEAR.init(KEY, X.shape[1:])
    x = X.astype(jnp.float64)
    joined = chain_of(LINEAR, params, x, fuse=True)
    assert [b.affine for b in joined.blocks] == [True, True]
    matrix = jax.jacobian(lambda x: joined.blocks[0].map(params, x[None])[0])(x[0]).reshape(8, 20)
    offset = joined.blocks[0].map(params, jnp.zeros_like(x[:1]))[0]
    model = Layered((flatten(), dense(8, "sigmoid"), dense(3)))
    unrolled = ((), {"w": matrix.T, "b": offset}, params[4])
    settings = {"energy": "hopfield", "dt": 0.5, "beta": 0.5, "n_relax": 8}
    rule = neurai.algorithm("ep", loss="squared_error", fuse=True, **settings)
    plain = neurai.algorithm("ep", loss="squared_error", **settings)
    y = jax.nn.one_hot(Y, 3)
    ours, theirs = (r.estimate(m, p, (), (x, y))[0] for r, m, p in ((rule, LINEAR, params), (plain, model, unrolled)))
    np.testing.assert_allclose(ours.grads[4]["w"], theirs.grads[2]["w"], rtol=1e-10)
    np.testing.assert_allclose(ours.aux["energy"], theirs.aux["energy"], rtol=1e-12)


@pytest.mark.slow
def test_gaussian_ep_on_fused_layers_keeps_the_loss():
    assert estimate("ep", PLAIN, PARAMS, fuse=True).loss == estimate("ep", PLAIN, PARAMS).loss
    assert len(chain_of(PLAIN, PARAMS, X, fuse=True).blocks) == 3


def test_groups_begin_where_parameters_do():
    random = linear_layer(lambda key, shape: ((), ()), lambda params, x: x, "identity", "noise")
    random = Layer(random.init, random.apply, name="noise", stochastic=True)
    model = Layered(
        (flatten(), elementwise("tanh"), dense(4), elementwise("tanh"), random, flatten(), dense(3), flatten())
    )
    params, _ = model.init(KEY, (3,))
    assert fused_groups(model, params) == ((0, 1, 2, 3), (4,), (5, 6, 7))
    np.testing.assert_array_equal(fused(PLAIN, PARAMS).model(fused(PLAIN, PARAMS).grouped(PARAMS), X), PLAIN(PARAMS, X))


def test_what_cannot_be_fused_is_told():
    network = lambda params, x: neurai.activity(x @ params, "h")  # noqa: E731
    for rule, error in (("pc", ModelError), ("ep", SettingsError)):
        with pytest.raises(error, match=r"fuse=True joins layers, and .*a network of named values"):
            neurai.algorithm(rule, loss="cross_entropy", fuse=True).estimate(
                network, jnp.ones((2, 3)), (), (X[..., 0, 0][:, :2], Y)
            )
    with pytest.raises(ModelError, match=r"layer 0 \(conv\(2, 3\)\) is not"):
        estimate("ep", PLAIN, PARAMS, fuse=True, energy="hopfield", beta=0.5, dt=0.5)
