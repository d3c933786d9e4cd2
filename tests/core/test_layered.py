"""Layers: makers, structure, shapes and what they say when they do not fit."""

from __future__ import annotations

from functools import partial

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from neurai_core.errors import ModelError, UnknownName
from neurai_core.layered import (
    Layer,
    Layered,
    Variables,
    avg_pool,
    block,
    check_forward,
    conv,
    dense,
    flatten,
    forward,
    function,
    max_pool,
    residual,
)
from neurai_core.models import cnn, mlp
from neurai_core.models.spiking import Constant

KEY = jax.random.key(0)
THREE = Layered((conv(2, 3),))


def image_net() -> Layered:
    return Layered(
        (
            conv(4, 3, activation="relu"),
            max_pool(2),
            block(conv(6, (3, 1), stride=(1, 2), padding="VALID", activation="tanh"), avg_pool(2, stride=1)),
            flatten(),
            dense(12, "relu"),
            residual(dense(7, "relu"), dense(12)),
            dense(5),
        )
    )


def test_an_mlp_is_activation_of_x_w_plus_b(x64):
    model = mlp((3, 4, 2), activation="tanh")
    params, model_state = model.init(KEY, (3,))
    x = jax.random.normal(KEY, (5, 3))
    by_hand = jnp.tanh(x @ params[0]["w"] + params[0]["b"]) @ params[1]["w"] + params[1]["b"]
    np.testing.assert_array_equal(model(params, x), by_hand)
    assert model_state == ()
    assert jax.tree.map(jnp.shape, params) == ({"w": (3, 4), "b": (4,)}, {"w": (4, 2), "b": (2,)})
    assert params[0]["w"].dtype == jnp.float64


def test_a_convolution_equals_its_loop(x64):
    layer = conv(2, (3, 2), stride=2, padding="VALID", activation="relu")
    params, _ = layer.init(KEY, (7, 6, 3))
    x = jax.random.normal(KEY, (2, 7, 6, 3))
    y, _ = layer.apply(params, (), x)
    by_hand = np.zeros(y.shape)
    for i in range(y.shape[1]):
        for j in range(y.shape[2]):
            patch = x[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 2]
            by_hand[:, i, j] = np.maximum(np.einsum("bhwc,hwco->bo", patch, params["w"]), 0)
    np.testing.assert_allclose(y, by_hand, rtol=1e-12, atol=1e-14)


def test_going_back_through_a_convolution_is_an_nhwc_convolution_again():
    layer = conv(4, 3)
    params, _ = layer.init(KEY, (6, 5, 3))
    x = jnp.ones((2, 6, 5, 3))
    program = jax.make_jaxpr(jax.grad(lambda params, x: jnp.sum(layer.linear(params, x) ** 2), (0, 1)))(params, x)
    numbers = {str(e.params["dimension_numbers"]) for e in equations(program.jaxpr) if "conv_gen" in str(e.primitive)}
    assert len(numbers) == 1, "in loops XLA is slow at all others"


def equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from equations(inner)


def test_pools_equal_numpy(x64):
    x = jax.random.normal(KEY, (2, 5, 4, 3))
    windows = np.asarray(x[:, :4]).reshape(2, 2, 2, 2, 2, 3)
    np.testing.assert_allclose(avg_pool(2).apply((), (), x)[0], windows.mean(axis=(2, 4)), rtol=1e-12)
    np.testing.assert_array_equal(max_pool(2).apply((), (), x)[0], windows.max(axis=(2, 4)))


@pytest.mark.parametrize("window", [(2, 2), (5, 4), (3, 1)], ids=str)
def test_mean_pooling_has_the_derivatives_of_reduce_window(x64, window):
    x, tiles = jax.random.normal(KEY, (2, 7, 5, 3)), (1, *window, 1)

    def theirs(x):
        return jax.lax.reduce_window(x, 0.0, jax.lax.add, tiles, tiles, "VALID") / np.prod(window)

    expected, back = jax.vjp(theirs, x)
    ours, our_back = jax.vjp(lambda x: avg_pool(window).apply((), (), x)[0], x)
    np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(our_back(ours)[0], back(ours)[0], rtol=1e-12)


@pytest.mark.slow
@given(window=st.tuples(*[st.integers(1, 4)] * 2), more=st.tuples(*[st.integers(0, 5)] * 2), seed=st.integers(0, 99))
@example(window=(5, 4), more=(1, 0), seed=0)  # more entries than are handled one by one
@settings(max_examples=6, deadline=None)
def test_max_pooling_has_the_derivatives_of_reduce_window_ties_included(window, more, seed):
    with jax.enable_x64(True):
        compare_with_reduce_window(window, more, seed)


def compare_with_reduce_window(window, more, seed):
    draw = np.random.default_rng(seed)
    x = jnp.asarray(draw.integers(0, 3, (2, window[0] + more[0], window[1] + more[1], 2)), float)  # many ties
    d, pool = jnp.asarray(draw.normal(size=x.shape)), max_pool(window)
    tiles = (1, *window, 1)

    def ours(x):
        return pool.apply((), (), x)[0]

    def theirs(x):
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, tiles, tiles, "VALID")

    def slope(f, x):
        return jax.grad(lambda x: jnp.sum(jnp.sin(f(x)) ** 2))(x)

    for f, g in ((ours, theirs), (partial(slope, ours), partial(slope, theirs))):
        for one, other in zip(jax.jvp(f, (x,), (d,)), jax.jvp(g, (x,), (d,)), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(jax.vjp(f, x)[1](g(x))[0], jax.vjp(g, x)[1](g(x))[0], rtol=1e-12, atol=1e-12)
    difference = pool.apply.difference((), (), x, 1e-3 * d)
    np.testing.assert_allclose(difference, theirs(x + 1e-3 * d) - theirs(x), atol=1e-14)


def test_max_pooling_keeps_the_digits_of_tiny_changes():
    x = jnp.arange(1.0, 17.0).reshape(1, 4, 4, 1)
    np.testing.assert_allclose(max_pool(2).apply.difference((), (), x, jnp.full_like(x, 1e-9)), 1e-9, rtol=1e-6)


def test_linear_then_elementwise_is_apply():
    for layer, shape in (
        (dense(4, "tanh"), (3,)),
        (conv(2, 3, activation="relu"), (5, 5, 1)),
        (avg_pool(2), (4, 4, 1)),
    ):
        params, model_state = layer.init(KEY, shape)
        x = jax.random.normal(KEY, (2, *shape))
        assert layer.linear is not None and layer.activation is not None
        np.testing.assert_array_equal(layer.apply(params, model_state, x)[0], layer.activation(layer.linear(params, x)))


def test_a_residual_layer_adds_its_input():
    layer = residual(dense(4, "tanh"), dense(3))
    params, _ = layer.init(KEY, (3,))
    x = jax.random.normal(KEY, (2, 3))
    inner = Layered((dense(4, "tanh"), dense(3)))
    np.testing.assert_array_equal(layer.apply(params, ((), ()), x)[0], x + inner(params, x))


def test_models_built_twice_compare_hash_and_trace_as_one():
    assert image_net() == image_net() and hash(image_net()) == hash(image_net())
    assert mlp((3, 4)) != mlp((3, 5))
    traces = []

    def step(model, params, x):
        traces.append(1)
        return model(params, x)

    compiled = jax.jit(step, static_argnums=0)
    params, _ = cnn((2,), 3).init(KEY, (4, 4, 1))
    for _ in range(3):
        compiled(cnn((2,), 3), params, jnp.ones((1, 4, 4, 1)))
    assert len(traces) == 1


def test_init_knows_every_shape_without_computing():
    model = image_net()
    params, model_state = model.init(KEY, (8, 8, 1))
    assert check_forward(model, params, jnp.ones((3, 8, 8, 1)), model_state=model_state).shape == (3, 5)
    assert model(params, jnp.ones((3, 8, 8, 1))).shape == (3, 5)


def test_activations_have_the_variance_of_their_input():
    model = mlp((256,) + (256,) * 8)
    params, _ = model.init(KEY, (256,))
    y = model(params, jax.random.normal(KEY, (64, 256)))
    assert 0.2 < float(y.std()) < 5.0


def counting(params, model_state, x, *, key=None, train=False):
    return x, model_state + 1 if train else model_state


def noisy(params, model_state, x, *, key=None, train=False):
    return (x + jax.random.normal(key, x.shape) if train else x), model_state


def stateful_model() -> Layered:
    def init(key, shape):
        return (), jnp.zeros(())

    counter = Layer(init, counting, name="counter", stateful=True)
    noise = Layer(lambda key, shape: ((), ()), noisy, name="noise", stochastic=True)
    return Layered((dense(3), counter, noise, noise))


def test_model_state_is_updated_in_training_only():
    model = stateful_model()
    params, model_state = model.init(KEY, (2,))
    x = jnp.ones((4, 2))
    assert model_state[1] == 0
    _, updated = forward(model, params, x, model_state=model_state, key=KEY, train=True)
    _, kept = forward(model, params, x, model_state=model_state)
    assert updated[1] == 1 and kept[1] == 0


def test_every_stochastic_layer_draws_its_own_noise():
    model = stateful_model()
    params, model_state = model.init(KEY, (2,))
    x = jnp.ones((4, 2))
    twice, _ = model.apply(params, model_state, x, key=KEY, train=True)
    again, _ = model.apply(params, model_state, x, key=KEY, train=True)
    clean = model(params, x, model_state)
    np.testing.assert_array_equal(twice, again)
    first = jax.random.normal(jax.random.fold_in(KEY, 2), clean.shape)
    assert not np.allclose(twice - clean, 2 * first)


def test_a_plain_callable_runs_as_a_model():
    outputs, model_state = forward(lambda params, x: params * x, 3.0, jnp.ones(2), model_state=())
    assert outputs.tolist() == [3.0, 3.0] and model_state == ()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Layered(()), "at least one layer"),
        (lambda: Layered((dense(3), jnp.tanh)), "Layer 1 is a"),
        (lambda: dense(0), "width of at least 1"),
        (lambda: conv(0, 3), "at least 1 channel"),
        (lambda: mlp((3,)), "input and output"),
        (lambda: cnn((), 10), "at least one convolution"),
        (lambda: mlp((3, 2)).init(KEY, (8, 8, 1)), r"Layer 0 \(dense\(2\)\).*shape \(D,\), got \(8, 8, 1\)"),
        (lambda: cnn((4,), 10).init(KEY, (64,)), r"Layer 0 \(conv\(4, 3\)\).*\(H, W, C\), got \(64,\)"),
        (lambda: Layered((residual(dense(4)),)).init(KEY, (3,)), r"turn shape \(3,\) into \(4,\)"),
        (lambda: Layered((avg_pool(9), flatten(), dense(3))).init(KEY, (8, 8, 1)), r"avg_pool\(9\)\): nothing is left"),
        (lambda: Layered((max_pool((1, 9)),)).init(KEY, (8, 8, 1)), r"max_pool\(\(1, 9\)\)\): nothing is left"),
        (lambda: Layered((conv(2, 9, padding="VALID"),)).init(KEY, (8, 8, 1)), "nothing is left of an input"),
        (lambda: check_forward(Layered((avg_pool(9),)), ((),), jnp.ones((2, 8, 8, 1))), "nothing is left"),
        (lambda: dense(3).init(KEY, (0,)), "an example has no entries"),
        (lambda: avg_pool(0), "window of one or two whole numbers of at least 1, got 0"),
        (lambda: max_pool(2, stride=-1), "stride of one or two whole numbers of at least 1, got -1"),
        (lambda: conv(2, 3, stride=0), "stride of one or two whole numbers of at least 1, got 0"),
        (lambda: conv(2, 3, dilation=0), "dilation of one or two whole numbers of at least 1, got 0"),
        (lambda: conv(2, 3, forms="xla"), "no forms 'xla'"),
        (lambda: conv(2, 3).linear({"w": jnp.ones((3, 3, 4, 2))}, jnp.ones((1, 8, 8, 3))), r"\(1, 8, 8, 3\)"),
        (
            lambda: check_forward(THREE, THREE.init(KEY, (8, 8, 3))[0], jnp.ones((2, 8, 8, 1))),
            r"Layer 0 \(conv\(2, 3\)\): .*\(3, 3, 3, 2\) got images of shape \(2, 8, 8, 1\)",
        ),
        (lambda: conv(2, (3,)), r"kernel of one or two whole numbers of at least 1, got \(3,\)"),
        (lambda: conv(2, 3.0), "kernel of one or two whole numbers of at least 1, got 3.0"),
        (lambda: conv(2, 3, padding="smae"), "no padding 'smae'"),
        (lambda: conv(2, 3, padding=1), "no padding 1"),
        (lambda: dense("3"), "width of at least 1, got '3'"),
        (lambda: dense(True), "width of at least 1, got True"),
        (lambda: Layered((avg_pool(2),)).init(KEY, (8, 8)), r"\(H, W, C\), got \(8, 8\)"),
        (lambda: Layered((function(doubled), dense(3))).init(KEY, (4,)), r"returns \(float32\[1,4\], float32\[1,4\]\)"),
        (lambda: stateful_model()((((), (), (), ())), jnp.ones((1, 2))), "carries a model state"),
    ],
)
def test_a_model_that_cannot_be_built_says_which_layer(make, words):
    with pytest.raises(ModelError, match=words):
        make()


def doubled(params, x):
    return x, x


def joined(params, pair):
    return pair[0] + pair[1]


def test_layers_may_hand_tuples_to_each_other_in_a_forward_pass():
    model = Layered((function(doubled), function(joined), dense(3)))
    params = (), (), dense(3).init(KEY, (4,))[0]
    x = jnp.ones((2, 4))
    assert check_forward(model, params, x).shape == (2, 3)
    np.testing.assert_array_equal(model(params, x), Layered((dense(3),))(params[2:], 2 * x))


@pytest.mark.parametrize("number", [np.int64(2), np.uint8(2), jnp.int32(2)])
def test_a_whole_number_may_be_one_of_numpy_or_jax(number):
    layers = (conv(number, number, stride=number), avg_pool((number, 2)), max_pool(number), flatten(), dense(number))
    assert Layered(layers) == Layered((conv(2, 2, stride=2), avg_pool(2), max_pool(2), flatten(), dense(2)))
    assert cnn(np.array([2, 3]), number) == cnn((2, 3), 2)
    assert Constant(number) == Constant(2)


NUMERIC = {
    "dense": (dense(3),),
    "conv": (conv(2, 3, activation="tanh"),),
    "avg_pool": (avg_pool(2), conv(2, 3)),
    "max_pool": (max_pool(2), conv(2, 3)),
    "flatten": (flatten(), dense(3)),
    "residual": (residual(conv(1, 3)),),
    "block": (block(max_pool(2), flatten()), dense(3)),
}


@pytest.mark.parametrize("layers", NUMERIC.values(), ids=NUMERIC)
@pytest.mark.parametrize("x_dtype", [jnp.uint8, jnp.bool_, jnp.float32])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_integers_become_the_parameters_float_type_and_mixed_floats_promote(layers, x_dtype, dtype):
    model = Layered(layers)
    shape = (4,) if layers[0].name == "dense(3)" else (4, 4, 1)
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), model.init(KEY, shape)[0])
    x = jax.random.randint(KEY, (2, *shape), 0, 200).astype(x_dtype)
    promoted = jnp.float32 if x_dtype == jnp.float32 else dtype
    y = model(params, x)
    assert y.dtype == check_forward(model, params, x).dtype == promoted
    np.testing.assert_array_equal(y, model(params, x.astype(promoted)))
    alone, _ = layers[0].apply(params[0], (), x)
    np.testing.assert_array_equal(alone, layers[0].apply(params[0], (), x.astype(alone.dtype))[0])


def test_tokens_stay_integers():
    table = function(lambda params, x: params[x], init=lambda key, shape: jnp.arange(6.0))
    assert Layered((table,))((jnp.arange(6.0),), jnp.array([3, 1])).tolist() == [3.0, 1.0]


@pytest.mark.parametrize("layers", NUMERIC.values(), ids=NUMERIC)
def test_types_that_agree_cost_no_operation(layers):
    model = Layered(layers)
    shape = (4,) if layers[0].name == "dense(3)" else (4, 4, 1)
    params, _ = model.init(KEY, shape)
    program = jax.make_jaxpr(model)(params, jnp.ones((2, *shape)))
    assert not [e for e in equations(program.jaxpr) if str(e.primitive) in ("convert_element_type", "copy")]


def test_an_unknown_activation_gets_the_nearest_name():
    with pytest.raises(UnknownName, match="Did you mean 'relu'"):
        dense(3, activation="rellu")


@pytest.mark.parametrize(
    ("params", "x", "words"),
    [
        (0, jnp.ones((2, 5)), r"Layer 0 \(dense\(4\)\) cannot take an input of shape float32\[2,5\]"),
        (slice(0, 1), jnp.ones((2, 3)), "params has 1 entries, expected a tuple of 2"),
        ({"w": 1}, jnp.ones((2, 3)), "params has a dict, expected a tuple of 2"),
    ],
)
def test_params_or_inputs_that_do_not_fit_are_named(params, x, words):
    model = mlp((3, 4, 2))
    made, _ = model.init(KEY, (3,))
    given = (
        {0: made}.get(params, params)
        if isinstance(params, int)
        else made[params]
        if isinstance(params, slice)
        else params
    )
    with pytest.raises(ModelError, match=words):
        check_forward(model, given, x)


def test_a_callable_that_cannot_take_its_inputs_says_so():
    with pytest.raises(ModelError, match=r"cannot take inputs float32\[2,5\]"):
        check_forward(lambda params, x: x @ params, jnp.ones((3, 1)), jnp.ones((2, 5)))


def test_function_wraps_any_callable_with_its_own_parameters():
    layer = function(jnp.multiply, init=lambda key, shape: jnp.full(shape, 2.0))
    model = Layered((layer, dense(1)))
    params, _ = model.init(KEY, (3,))
    assert params[0].tolist() == [2.0, 2.0, 2.0]
    assert Variables(params).model_state == ()
