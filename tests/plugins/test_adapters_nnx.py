"""Flax NNX models: gradients to the bit as nnx.grad gives them, and layers that a local rule can use."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neurai_core.adapting import adapt, as_layered, own_params
from neurai_core.errors import ModelError
from neurai_core.grads import BP, PC
from neurai_core.losses import cross_entropy

nnx = pytest.importorskip("flax.nnx")

pytestmark = [pytest.mark.contract, pytest.mark.usefixtures("quick_compile")]
KEYS = jax.random.split(jax.random.key(7), 12)
PRECISIONS = [False, True]


def flattened(x):
    return x.reshape(x.shape[0], -1)


def dtype():
    return jnp.zeros(()).dtype


def mlp(seed=0, width=8):
    rngs = nnx.Rngs(seed)
    return nnx.Sequential(
        nnx.Linear(6, width, rngs=rngs, param_dtype=dtype()),
        nnx.relu,
        nnx.Linear(width, width, rngs=rngs, param_dtype=dtype()),
        nnx.tanh,
        nnx.Linear(width, 3, rngs=rngs, param_dtype=dtype()),
    )


def cnn():
    rngs = nnx.Rngs(1)
    return nnx.Sequential(
        nnx.Conv(1, 4, (3, 3), rngs=rngs, param_dtype=dtype()),
        nnx.relu,
        functools.partial(nnx.avg_pool, window_shape=(2, 2), strides=(2, 2)),
        flattened,
        nnx.LayerNorm(64, rngs=rngs, param_dtype=dtype()),
        nnx.Linear(64, 3, rngs=rngs, param_dtype=dtype()),
    )


def normalized(rate=0.5):
    rngs = nnx.Rngs(2)
    norm = nnx.BatchNorm(8, rngs=rngs, param_dtype=dtype())
    # Flax makes the statistics in float32 whatever the dtype of the parameters.
    norm.mean, norm.var = nnx.BatchStat(jnp.zeros(8, dtype())), nnx.BatchStat(jnp.ones(8, dtype()))
    return nnx.Sequential(
        nnx.Linear(6, 8, rngs=rngs, param_dtype=dtype()),
        norm,
        nnx.tanh,
        nnx.Dropout(rate, rngs=rngs),
        nnx.Linear(8, 3, rngs=rngs, param_dtype=dtype()),
    )


class Tied(nnx.Module):
    """Two layers with one kernel: the Variable is shared."""

    def __init__(self):
        rngs = nnx.Rngs(3)
        self.first = nnx.Linear(6, 6, rngs=rngs)
        self.second = nnx.Linear(6, 6, rngs=rngs)
        self.second.kernel = self.first.kernel

    def __call__(self, x):
        return self.second(jnp.tanh(self.first(x)))[:, :3]


def batch(*shape):
    x = jax.random.normal(KEYS[2], (5, *(shape or (6,))))
    return x, jnp.array([0, 1, 2, 1, 0])


def native(model, x, y):
    return nnx.jit(nnx.value_and_grad(lambda model: cross_entropy(model(x), y)))(model)


def assert_bitwise(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)


@pytest.mark.few(1)
@pytest.mark.parametrize("double", PRECISIONS)
@pytest.mark.parametrize(("make", "shape"), [(mlp, (6,)), (cnn, (8, 8, 1)), (Tied, (6,))])
def test_bp_is_nnx_grad_to_the_bit(make, shape, double):
    with jax.enable_x64(double):
        model, (x, y) = make(), batch(*shape)
        loss, grads = native(model, x, y)
        for param in (nnx.state(model, nnx.Param), model):
            ours, our_loss, _ = BP("cross_entropy").get_grads(model, param, (x, y))
            assert_bitwise(ours, grads)
            assert our_loss == loss


def test_a_pure_dict_gives_gradients_as_a_pure_dict():
    model = mlp()
    state = nnx.state(model, nnx.Param)
    grads, _, _ = BP("cross_entropy").get_grads(model, nnx.to_pure_dict(state), batch())
    expected, _, _ = BP("cross_entropy").get_grads(model, state, batch())
    assert_bitwise(grads, nnx.to_pure_dict(expected))


def test_parameters_are_those_given_not_those_of_the_model():
    other = mlp(seed=9)
    for param in (other, nnx.state(other, nnx.Param)):
        grads, _, _ = BP("cross_entropy").get_grads(mlp(), param, batch())
        assert_bitwise(grads, native(other, *batch())[1])


def test_own_params_are_the_params_state():
    assert_bitwise(own_params(mlp()), nnx.state(mlp(), nnx.Param))


def test_a_shared_variable_has_one_gradient():
    grads, _, _ = BP("cross_entropy").get_grads(Tied(), Tied(), batch())
    assert len(jax.tree.leaves(grads)) == 3


@pytest.mark.parametrize("double", PRECISIONS)
def test_batch_statistics_are_the_librarys(double):
    with jax.enable_x64(double):
        model, (x, y) = normalized(rate=0.0), batch()
        param = nnx.state(model, (nnx.Param, nnx.BatchStat))
        grads, loss, _, updated = BP("cross_entropy").get_grads(model, param, (x, y), return_param=True)
        assert_bitwise(nnx.state(model, (nnx.Param, nnx.BatchStat)), param)
        native_loss, native_grads = native(model, x, y)
        assert loss == native_loss
        assert_bitwise(nnx.filter_state(grads, nnx.Param), native_grads)
        assert_bitwise(updated, nnx.state(model, (nnx.Param, nnx.BatchStat)))
        assert not any(leaf.any() for leaf in jax.tree.leaves(nnx.filter_state(grads, nnx.BatchStat)))


def test_batch_statistics_come_from_the_module_when_the_parameters_hold_none():
    model, x = normalized(rate=0.0), batch()[0]
    layered, params, model_state = as_layered(model)
    _, first = layered.apply(params, model_state, x, train=True)
    model(x)  # moves the module's own statistics
    _, _, second = as_layered(model)
    assert_bitwise(first, second)


def test_batch_statistics_move_once_per_training_pass_and_not_in_evaluation():
    layered, params, model_state = as_layered(normalized())
    _, once = layered.apply(params, model_state, batch()[0], key=KEYS[3], train=True)
    _, still = layered.apply(params, once, batch()[0])
    model = normalized()
    model(batch()[0])
    np.testing.assert_array_equal(once[1]["mean"], model.layers[1].mean[...])
    assert_bitwise(once, still)


def test_evaluation_uses_running_statistics_and_no_dropout():
    model, (x, _) = normalized(), batch()
    model(x)
    evaluated = nnx.clone(model)
    evaluated.eval()
    for needs in ("callable", "layered"):
        adapted = adapt(model, needs=needs)
        params, model_state = adapted.split(model)
        np.testing.assert_array_equal(adapted.model(params, x, model_state), evaluated(x))


@pytest.mark.parametrize("needs", ["callable", "layered"])
def test_dropout_follows_its_key(needs):
    adapted, x = adapt(normalized(), needs=needs), batch()[0]
    params, model_state = adapted.split(normalized())

    def outputs(key):
        return adapted.model.apply(params, model_state, x, key=key, train=True)[0]

    assert jnp.array_equal(outputs(KEYS[3]), outputs(KEYS[3]))
    assert not jnp.array_equal(outputs(KEYS[3]), outputs(KEYS[4]))


def test_dropout_keeps_its_mask_between_forward_and_backward_pass(x64):
    (layered, params, model_state), (x, y) = as_layered(normalized()), batch()

    def loss(params):
        return cross_entropy(layered.apply(params, model_state, x, key=KEYS[3], train=True)[0], y)

    grads, step = jax.grad(loss)(params), 1e-6
    moved = jax.tree.map(lambda p, g: p + step * g, params, grads)
    slope = sum(jnp.vdot(g, g) for g in jax.tree.leaves(grads))
    np.testing.assert_allclose((loss(moved) - loss(params)) / step, slope, rtol=1e-4)


def test_dropout_without_streams_of_its_own_draws_from_the_key():
    model = nnx.Sequential(nnx.Dropout(0.5), nnx.Linear(6, 3, rngs=nnx.Rngs(0)))
    grads, _, _ = BP("cross_entropy").get_grads(model, model, batch(), key=KEYS[3])
    assert jax.tree.leaves(grads)


class Block(nnx.Module):
    """Told of training by an argument, not by ``train()`` and ``eval()``."""

    def __init__(self, rngs):
        self.linear = nnx.Linear(6, 6, rngs=rngs, param_dtype=dtype())
        self.norm = nnx.BatchNorm(6, rngs=rngs, param_dtype=dtype())
        self.norm.mean, self.norm.var = nnx.BatchStat(jnp.zeros(6, dtype())), nnx.BatchStat(jnp.ones(6, dtype()))
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x, *, train=False):
        x = self.norm(self.linear(3 * x), use_running_average=not train)
        return self.dropout(x, deterministic=not train)


def blocks():
    rngs = nnx.Rngs(4)
    inner = nnx.Sequential(nnx.Dropout(0.5, rngs=rngs), Block(rngs))
    return nnx.Sequential(Block(rngs), inner, nnx.Linear(6, 3, rngs=rngs, param_dtype=dtype()))


def streamless():
    rngs = nnx.Rngs(4)
    first, last = (nnx.Linear(6, width, rngs=rngs, param_dtype=dtype()) for width in (6, 3))
    return nnx.Sequential(first, nnx.Dropout(0.5), nnx.tanh, nnx.Dropout(0.5), last)


def blocks_by_hand(model, x):
    nnx.reseed(model, default=KEYS[3])
    first, inner, last = model.layers
    return last(inner.layers[1](inner.layers[0](first(x, train=True)), train=True))


def streamless_by_hand(model, x):
    return model(x, rngs=nnx.Rngs(KEYS[3]))


@pytest.mark.few(1)
@pytest.mark.parametrize(("make", "by_hand"), [(blocks, blocks_by_hand), (streamless, streamless_by_hand)])
def test_training_and_draws_are_alike_whole_and_in_layers(x64, make, by_hand):
    def squared(outputs, targets):
        return jnp.mean((outputs - targets) ** 2)

    x, y = batch()[0], jax.random.normal(KEYS[5], (5, 3))
    close = functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12)
    native = make()
    value, expected = nnx.value_and_grad(lambda model: squared(by_hand(model, x), y))(native)
    for rule in (BP(squared), PC(squared, mode="exact")):
        model = make()
        param = nnx.state(model, (nnx.Param, nnx.BatchStat))
        grads, loss, _, updated = rule.get_grads(model, param, (x, y), return_param=True, key=KEYS[3])
        jax.tree.map(close, (loss, nnx.filter_state(grads, nnx.Param)), (value, expected))
        jax.tree.map(close, updated, nnx.state(native, (nnx.Param, nnx.BatchStat)))
    layered, params, model_state = as_layered(make())
    close(squared(layered.apply(params, model_state, x, key=KEYS[3], train=True)[0], y), value)


def test_a_random_stream_in_two_layers_is_an_error_that_names_both():
    class Noise(nnx.Module):
        def __init__(self, rngs):
            self.rngs = rngs

        def __call__(self, x):
            return x + self.rngs.noise.normal(x.shape)

    rngs = nnx.Rngs(0)
    model = nnx.Sequential(Noise(rngs), nnx.Linear(6, 3, rngs=rngs), Noise(rngs))
    with pytest.raises(ModelError, match=r"layers\[0\] \(Noise\) and layers\[2\] \(Noise\) draw from it in turn"):
        as_layered(model)


def test_a_forward_pass_does_not_write_into_variables_that_it_is_given():
    layered, params, model_state = as_layered(normalized())
    given = {name: nnx.BatchStat(value) for name, value in model_state[1].items()}
    x = jnp.ones((5, 8))
    run = functools.partial(layered.layers[1].apply, params[1], given, train=True)
    _, _, updated = jax.vjp(run, x, has_aux=True)
    assert not jnp.array_equal(updated["mean"], model_state[1]["mean"])
    assert_bitwise({name: variable[...] for name, variable in given.items()}, model_state[1])


def test_dropout_without_a_key_is_an_error():
    model = normalized()
    with pytest.raises(ModelError, match="draws random numbers in training and no key"):
        BP("cross_entropy").get_grads(model, model, batch())


def test_random_streams_are_no_parameters():
    model = normalized()
    with pytest.raises(ModelError, match=r"hold layers\.3\.rngs\.count, which is not a parameter"):
        BP("cross_entropy").get_grads(model, nnx.state(model), batch(), key=KEYS[3])


def test_a_module_in_evaluation_mode_trains_as_it_is():
    model = normalized()
    model.eval()
    grads, _, _ = BP("cross_entropy").get_grads(model, model, batch())
    assert_bitwise(grads, native(model, *batch())[1])


def test_a_change_of_the_module_is_seen():
    model, x = normalized(), batch()[0]
    layered, params, model_state = as_layered(model)
    with pytest.raises(ModelError, match="no key"):
        layered.apply(params, model_state, x, train=True)
    model.eval()
    layered, params, model_state = as_layered(model)
    layered.apply(params, model_state, x, train=True)
    model.layers[0] = nnx.Linear(6, 8, rngs=nnx.Rngs(77))
    np.testing.assert_array_equal(adapt(model).split(model)[0]["layers.0.kernel"], model.layers[0].kernel[...])


@pytest.mark.parametrize(("make", "shape"), [(mlp, (6,)), (cnn, (8, 8, 1))])
def test_layers_compute_what_the_model_computes(make, shape, x64):
    model, (x, _) = make(), batch(*shape)
    layered, params, model_state = as_layered(model)
    assert model_state == ()
    np.testing.assert_array_equal(layered(params, x), model(x))


def test_gradients_in_layers_join_to_the_librarys_structure(x64):
    model, (x, y) = cnn(), batch(8, 8, 1)
    adapted = adapt(model, needs="layered")
    params, _ = adapted.split(nnx.state(model, nnx.Param))
    grads = jax.grad(lambda params: cross_entropy(adapted.model(params, x), y))(params)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-15),
        adapted.join(grads, ()),
        native(model, x, y)[1],
    )


def test_activations_merge_into_the_linear_layers_before_them():
    layered, params, _ = as_layered(cnn())
    names = [layer.name for layer in layered.layers]
    assert names == ["Conv(4) + relu", "avg_pool", "flattened", "LayerNorm", "Linear(3)"]
    assert [layer.linear is not None for layer in layered.layers] == [True, True, False, False, True]
    assert [sorted(layer) for layer in params] == [["bias", "kernel"], [], [], ["bias", "scale"], ["bias", "kernel"]]
    assert type(params[0]) is dict


def test_layers_say_what_they_carry_and_draw():
    layered, _, _ = as_layered(normalized())
    assert [layer.stateful for layer in layered.layers] == [False, True, False, False, False]
    assert [layer.stochastic for layer in layered.layers] == [False, False, False, True, False]


@pytest.mark.parametrize("needs", ["callable", "layered"])
def test_a_rebuilt_model_does_not_retrace(needs):
    traces = []

    @functools.partial(jax.jit, static_argnums=0)
    def run(model, params, x):
        traces.append(model)
        return model(params, x)

    for seed in range(3):
        model = mlp(seed)
        adapted = adapt(model, needs=needs)
        run(adapted.model, adapted.split(model)[0], batch()[0])
    assert len(traces) == 1


def test_a_variable_in_two_layers_is_an_error_naming_both():
    tied = Tied()
    model = nnx.Sequential(tied.first, nnx.relu, tied.second)
    with pytest.raises(ModelError, match=r"layers\[0\] \(Linear\(6\)\) and layers\[2\] \(Linear\(6\)\)"):
        as_layered(model)
    grads, _, _ = BP("mse").get_grads(model, model, (batch()[0], batch()[0]))
    assert len(jax.tree.leaves(grads)) == 3


def test_code_of_its_own_cannot_be_layered_and_the_error_says_the_way_out():
    with pytest.raises(ModelError, match="Tied cannot be split into layers") as error:
        as_layered(Tied())
    assert "nnx.Sequential" in error.value.hint


def test_a_module_with_code_of_its_own_is_one_layer_of_a_sequence(x64):
    model = nnx.Sequential(Tied(), nnx.Linear(3, 2, rngs=nnx.Rngs(0)))
    layered, params, _ = as_layered(model)
    assert [layer.name for layer in layered.layers] == ["Tied", "Linear(2)"]
    np.testing.assert_array_equal(layered(params, batch()[0]), model(batch()[0]))


def test_sequences_in_sequences_are_unrolled():
    layered, _, _ = as_layered(nnx.Sequential(mlp(), nnx.relu, nnx.Linear(3, 2, rngs=nnx.Rngs(0))))
    names = [layer.name for layer in layered.layers]
    assert names == ["Linear(8) + relu", "Linear(8) + tanh", "Linear(3) + relu", "Linear(2)"]


def test_parameters_of_another_model_are_an_error():
    small = nnx.Sequential(nnx.Linear(6, 3, rngs=nnx.Rngs(0)))
    with pytest.raises(ModelError, match=r"The parameters lack layers\.2\.bias"):
        BP("cross_entropy").get_grads(mlp(), small, batch())


def test_adapted_layers_do_not_make_parameters():
    with pytest.raises(ModelError, match="has the parameters that its library made"):
        as_layered(mlp())[0].init(KEYS[0], (6,))
