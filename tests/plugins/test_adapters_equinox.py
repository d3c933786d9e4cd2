"""Equinox models: gradients to the bit as eqx.filter_grad gives them, and layers that a local rule can use."""

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

eqx = pytest.importorskip("equinox")

pytestmark = [pytest.mark.contract, pytest.mark.usefixtures("quick_compile")]
KEYS = jax.random.split(jax.random.key(7), 12)
PRECISIONS = [False, True]


class Custom(eqx.Module):
    """A module whose forward pass is code of its own: a skip, a table of integers and a function."""

    first: eqx.nn.Linear
    last: eqx.nn.Linear
    table: jax.Array
    activation: object

    def __init__(self):
        self.first = eqx.nn.Linear(6, 6, key=KEYS[0])
        self.last = eqx.nn.Linear(6, 3, key=KEYS[1])
        self.table = jnp.array([5, 4, 3, 2, 1, 0])
        self.activation = jax.nn.softplus

    def __call__(self, x):
        return self.last(x[self.table] + self.activation(self.first(x)))


def mlp(**settings):
    return eqx.nn.MLP(6, 3, 8, 2, key=KEYS[0], **settings)


def cnn():
    layers = [
        eqx.nn.Conv2d(1, 4, 3, key=KEYS[0]),
        eqx.nn.Lambda(jax.nn.relu),
        eqx.nn.AvgPool2d(2, 2),
        eqx.nn.Lambda(jnp.ravel),
        eqx.nn.LayerNorm(36),
        eqx.nn.Linear(36, 3, key=KEYS[1]),
    ]
    return eqx.nn.Sequential(layers)


def normalized(p=0.5):
    def make():
        layers = [
            eqx.nn.Linear(6, 8, key=KEYS[0]),
            eqx.nn.BatchNorm(8, "batch", mode="batch"),
            eqx.nn.Lambda(jnp.tanh),
            eqx.nn.Dropout(p),
            eqx.nn.Linear(8, 3, key=KEYS[1]),
        ]
        return eqx.nn.Sequential(layers)

    return eqx.nn.make_with_state(make)()


def batch(*shape):
    x = jax.random.normal(KEYS[2], (5, *(shape or (6,))))
    return x, jnp.array([0, 1, 2, 1, 0])


def native(model, x, y):
    def loss(model):
        return cross_entropy(jax.vmap(model)(x), y)

    return eqx.filter_jit(eqx.filter_value_and_grad(loss))(model)


def native_stateful(model, state, x, y, key):
    """Loss, gradient and updated State as an Equinox user writes them."""
    keys = jax.random.split(key, len(x))

    def loss(model):
        run = jax.vmap(
            lambda x, state, key: model(x, state, key=key),
            axis_name="batch",
            in_axes=(0, None, 0),
            out_axes=(0, None),
        )
        outputs, updated = run(x, state, keys)
        return cross_entropy(outputs, y), updated

    return eqx.filter_jit(eqx.filter_value_and_grad(loss, has_aux=True))(model)


def assert_bitwise(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)


@pytest.mark.few(1)
@pytest.mark.parametrize("double", PRECISIONS)
@pytest.mark.parametrize(("make", "shape"), [(mlp, (6,)), (cnn, (1, 8, 8)), (Custom, (6,))])
def test_bp_is_filter_grad_to_the_bit(make, shape, double):
    with jax.enable_x64(double):
        model, (x, y) = make(), batch(*shape)
        loss, grads = native(model, x, y)
        for param in (model, eqx.filter(model, eqx.is_inexact_array)):
            ours, our_loss, _ = BP("cross_entropy").get_grads(model, param, (x, y))
            assert_bitwise(ours, grads)
            assert our_loss == loss


def test_leaves_without_gradient_come_back_as_none():
    grads, _, _ = BP("cross_entropy").get_grads(Custom(), Custom(), batch())
    assert grads.table is None and grads.activation is None and grads.first.weight.shape == (6, 6)


def test_parameters_are_those_given_not_those_of_the_model():
    other = eqx.nn.MLP(6, 3, 8, 2, key=KEYS[5])
    grads, _, _ = BP("cross_entropy").get_grads(mlp(), other, batch())
    assert_bitwise(grads, native(other, *batch())[1])


def test_arrays_that_are_no_parameters_come_with_the_parameters():
    model = Custom()
    turned = eqx.tree_at(lambda m: m.table, model, jnp.arange(6))
    grads, _, _ = BP("cross_entropy").get_grads(model, turned, batch())
    assert_bitwise(grads, native(turned, *batch())[1])


def test_shared_gives_the_tied_gradient():
    class Tied(eqx.Module):
        shared: eqx.nn.Shared

        def __init__(self):
            pair = eqx.nn.Linear(6, 6, key=KEYS[0]), eqx.nn.Linear(6, 6, key=KEYS[1])
            self.shared = eqx.nn.Shared(pair, lambda pair: pair[1].weight, lambda pair: pair[0].weight)

        def __call__(self, x):
            first, second = self.shared()
            return second(jnp.tanh(first(x)))[:3]

    grads, _, _ = BP("cross_entropy").get_grads(Tied(), Tied(), batch())
    assert_bitwise(grads, native(Tied(), *batch())[1])


@pytest.mark.few(1)
@pytest.mark.parametrize("double", PRECISIONS)
def test_batch_statistics_and_dropout_in_training_are_the_librarys(double):
    with jax.enable_x64(double):
        (model, state), (x, y) = normalized(), batch()
        (loss, updated), grads = native_stateful(model, state, x, y, KEYS[3])
        ours, our_loss, _, (_, our_state) = BP("cross_entropy").get_grads(
            model, (model, state), (x, y), return_param=True, key=KEYS[3]
        )
        assert our_loss == loss
        assert_bitwise(ours[0], grads)
        assert_bitwise(our_state, updated)


def test_gradients_of_batch_statistics_are_zeros():
    model, state = normalized(p=0.0)
    (_, zeros), _, _ = BP("cross_entropy").get_grads(model, (model, state), batch())
    assert jax.tree.structure(zeros) == jax.tree.structure(state)
    assert all(not leaf.any() for leaf in jax.tree.leaves(zeros))


def test_batch_statistics_move_once_per_training_pass_and_not_in_evaluation():
    layered, params, model_state = as_layered(normalized()[0], normalized())
    _, once = layered.apply(params, model_state, batch()[0], key=KEYS[3], train=True)
    _, still = layered.apply(params, once, batch()[0])
    counts = [tree[1]["state"][0] for tree in (model_state, once, still)]
    assert [int(count) for count in counts] == [0, 1, 1]
    assert_bitwise(once, still)


def test_evaluation_uses_running_statistics_and_no_dropout():
    model, state = normalized()
    x, y = batch()
    _, _, _, (_, state) = BP("cross_entropy").get_grads(model, (model, state), (x, y), return_param=True, key=KEYS[3])
    inference = eqx.nn.inference_mode(model)
    reference, _ = jax.vmap(inference, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(x, state)
    for needs in ("callable", "layered"):
        adapted = adapt(model, needs=needs)
        params, model_state = adapted.split((model, state))
        np.testing.assert_array_equal(adapted.model(params, x, model_state), reference)


def test_dropout_follows_its_key():
    (layered, params, model_state), x = as_layered(normalized()[0], normalized()), batch()[0]

    def outputs(key):
        return layered.apply(params, model_state, x, key=key, train=True)[0]

    assert jnp.array_equal(outputs(KEYS[3]), outputs(KEYS[3]))
    assert not jnp.array_equal(outputs(KEYS[3]), outputs(KEYS[4]))


class Noisy(eqx.Module):
    """A member that wants a key in training and evaluation."""

    linear: eqx.nn.Linear

    def __call__(self, x, key):
        return self.linear(x + jax.random.normal(key, x.shape))


def nested():
    norm = eqx.nn.BatchNorm(6, "batch", mode="batch")
    inner = eqx.nn.Sequential([norm, eqx.nn.Dropout(0.5), eqx.nn.MLP(6, 6, 4, 1, key=KEYS[1])])
    first, last = eqx.nn.Linear(6, 6, key=KEYS[0]), Noisy(eqx.nn.Linear(6, 3, key=KEYS[2]))
    return eqx.nn.Sequential([first, eqx.nn.Dropout(0.5), eqx.nn.Lambda(jax.nn.relu), inner, last])


def test_training_and_draws_are_alike_whole_and_in_layers(x64):
    (model, state), (x, y) = eqx.nn.make_with_state(nested)(), batch()
    (value, updated), expected = native_stateful(model, state, x, y, KEYS[3])
    close = functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12)
    for rule in (BP("cross_entropy"), PC("cross_entropy", mode="exact")):
        (grads, _), loss, _, (_, moved) = rule.get_grads(model, (model, state), (x, y), return_param=True, key=KEYS[3])
        jax.tree.map(close, jax.tree.leaves((loss, grads, moved)), jax.tree.leaves((value, expected, updated)))
    layered, params, model_state = as_layered(model, (model, state))
    outputs, _ = layered.apply(params, model_state, x, key=KEYS[3], train=True)
    close(cross_entropy(outputs, y), value)
    whole = adapt(model)
    own, collections = whole.split((model, state))
    close(layered(params, x, model_state), whole.model(own, x, collections))


def test_dropout_without_a_key_is_an_error():
    model, state = normalized()
    with pytest.raises(ModelError, match="draws random numbers in training and no key"):
        BP("cross_entropy").get_grads(model, (model, state), batch())


def test_batch_normalization_without_its_state_is_an_error():
    model, _ = normalized()
    with pytest.raises(ModelError, match="make_with_state"):
        BP("cross_entropy").get_grads(model, model, batch())


def test_the_state_of_another_model_is_an_error():
    model, _ = normalized()
    _, state = eqx.nn.make_with_state(lambda: eqx.nn.Sequential([eqx.nn.BatchNorm(8, "batch", mode="batch")]))()
    with pytest.raises(ModelError, match="The State in the parameters"):
        BP("cross_entropy").get_grads(model, (model, state), batch())


@pytest.mark.parametrize(("make", "shape"), [(mlp, (6,)), (cnn, (1, 8, 8))])
def test_layers_compute_what_the_model_computes(make, shape, x64):
    model, (x, _) = make(), batch(*shape)
    layered, params, model_state = as_layered(model)
    assert model_state == ()
    np.testing.assert_array_equal(layered(params, x), jax.vmap(model)(x))


def test_gradients_in_layers_join_to_the_librarys_structure(x64):
    model, (x, y) = cnn(), batch(1, 8, 8)
    adapted = adapt(model, needs="layered")
    params, _ = adapted.split(model)
    grads = jax.grad(lambda params: cross_entropy(adapted.model(params, x), y))(params)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-15),
        adapted.join(grads, ()),
        native(model, x, y)[1],
    )


def test_activations_merge_into_the_linear_layers_before_them():
    layered, params, _ = as_layered(cnn())
    names = [layer.name for layer in layered.layers]
    assert names == ["Conv2d(4) + relu", "AvgPool2d", "ravel", "LayerNorm", "Linear(3)"]
    assert [layer.linear is not None for layer in layered.layers] == [True, True, True, False, True]
    assert [sorted(layer) for layer in params] == [["bias", "weight"], [], [], ["bias", "weight"], ["bias", "weight"]]
    assert layered.layers[0].activation is jax.nn.relu


def test_a_layer_is_its_activation_after_its_linear_map(x64):
    layered, params, _ = as_layered(mlp(activation=jax.nn.gelu, final_activation=jnp.tanh))
    x = batch()[0]
    for layer, layer_params in zip(layered.layers, params, strict=True):
        y, _ = layer.apply(layer_params, (), x)
        np.testing.assert_array_equal(y, layer.activation(layer.linear(layer_params, x)))
        x = y


def test_the_linear_map_of_a_layer_has_an_adjoint(x64):
    layered, params, _ = as_layered(cnn())
    x = batch(1, 8, 8)[0]
    layer, layer_params = layered.layers[0], params[0]
    out = layer.linear(layer_params, x)
    # affine in x: the difference of two outputs is the linear part of the difference of the inputs
    linear = lambda d: layer.linear(layer_params, x + d) - out  # noqa: E731
    (adjoint,) = jax.vjp(lambda x: layer.linear(layer_params, x), x)[1](out)
    np.testing.assert_allclose(jnp.vdot(linear(x), out), jnp.vdot(x, adjoint), rtol=1e-10)


def test_an_mlp_applies_any_scalar_function_per_neuron(x64):
    model = mlp(activation=lambda x: jax.nn.gelu(x, approximate=False))
    layered, params, _ = as_layered(model)
    assert [layer.linear is not None for layer in layered.layers] == [True, True, True]
    np.testing.assert_array_equal(layered(params, batch()[0]), jax.vmap(model)(batch()[0]))


def test_sequences_in_sequences_are_unrolled(x64):
    model = eqx.nn.Sequential([eqx.nn.Sequential([mlp(), eqx.nn.Lambda(jnp.tanh)]), eqx.nn.Linear(3, 2, key=KEYS[3])])
    layered, params, _ = as_layered(model)
    assert [layer.name for layer in layered.layers] == [
        "Linear(8) + relu",
        "Linear(8) + relu",
        "Linear(3) + tanh",
        "Linear(2)",
    ]
    np.testing.assert_array_equal(layered(params, batch()[0]), jax.vmap(model)(batch()[0]))


def test_layers_say_what_they_carry_and_draw():
    layered, _, _ = as_layered(normalized()[0], normalized())
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
        model = eqx.nn.MLP(6, 3, 8, 2, key=jax.random.key(seed))
        adapted = adapt(model, needs=needs)
        run(adapted.model, adapted.split(model)[0], batch()[0])
    assert len(traces) == 1


def test_partials_compare_by_structure():
    def model():
        return eqx.nn.Sequential(
            [eqx.nn.Linear(6, 3, key=KEYS[0]), eqx.nn.Lambda(functools.partial(jax.nn.leaky_relu, negative_slope=0.2))]
        )

    first, second = as_layered(model())[0], as_layered(model())[0]
    assert first == second and hash(first) == hash(second) and len(first) == 1


def test_an_array_in_two_layers_is_an_error_naming_both():
    layer = eqx.nn.Linear(6, 6, key=KEYS[0])
    model = eqx.nn.Sequential([layer, eqx.nn.Lambda(jnp.tanh), layer])
    with pytest.raises(ModelError, match=r"layer 0 \(Linear\(6\) \+ tanh\) and layer 1 \(Linear\(6\)\)"):
        as_layered(model)
    grads, _, _ = BP("mse").get_grads(model, model, (batch()[0], batch()[0]))
    assert grads.layers[0].weight.shape == (6, 6)


def test_code_of_its_own_cannot_be_layered_and_the_error_says_the_way_out():
    with pytest.raises(ModelError, match="Custom cannot be split into layers") as error:
        as_layered(Custom())
    assert "eqx.nn.Sequential" in error.value.hint


def test_a_sequence_with_a_forward_pass_of_its_own_cannot_be_layered():
    class Residual(eqx.nn.Sequential):
        def __call__(self, x, *, key=None):
            return x + super().__call__(x, key=key)

    model = Residual([eqx.nn.Linear(3, 3, key=KEYS[0])])
    with pytest.raises(ModelError, match="Residual cannot be split"):
        as_layered(model)
    layered, params, _ = as_layered(eqx.nn.Sequential([model]))
    assert layered.layers[0].name == "Residual"
    np.testing.assert_array_equal(layered(params, batch(3)[0]), jax.vmap(model)(batch(3)[0]))


def images(channels, axes=2):
    conv = (eqx.nn.Conv1d, eqx.nn.Conv2d)[axes - 1](channels, 4, 3, key=KEYS[0])
    width = 4 * 6**axes
    return eqx.nn.Sequential([conv, eqx.nn.Lambda(jnp.ravel), eqx.nn.Linear(width, 3, key=KEYS[1])])


@pytest.mark.parametrize("rule", [BP("cross_entropy"), PC("cross_entropy", mode="exact")], ids=["bp", "pc"])
@pytest.mark.parametrize(
    ("axes", "shape", "found", "hint", "fix"),
    [
        (2, (8, 8, 3), "channels last", "x = jnp.moveaxis(x, -1, 1)", lambda x: jnp.moveaxis(x, -1, 1)),
        (1, (8, 3), "channels last", "x = jnp.moveaxis(x, -1, 1)", lambda x: jnp.moveaxis(x, -1, 1)),
        (2, (8, 8), "no channel axis", "x = x[:, None]", lambda x: x[:, None]),
    ],
)
def test_channels_in_the_wrong_place_get_the_line_that_helps(rule, axes, shape, found, hint, fix):
    model, (x, y) = images(3 if found == "channels last" else 1, axes), batch(*shape)
    with pytest.raises(ModelError, match=f"{found}, and Conv{axes}d\\(4\\) of Equinox takes batches") as error:
        rule.get_grads(model, model, (x, y))
    assert hint in error.value.hint
    assert jax.eval_shape(jax.vmap(model), fix(x)).shape == (5, 3)


def test_an_mlp_that_scans_cannot_be_layered():
    with pytest.raises(ModelError, match="scans"):
        as_layered(mlp(scan=True))


def test_parameters_of_another_model_are_an_error():
    with pytest.raises(ModelError, match=r"The parameters lack layers\.2\.weight"):
        BP("cross_entropy").get_grads(mlp(), eqx.nn.MLP(6, 3, 8, 1, key=KEYS[0]), batch())


def test_a_wrong_input_is_an_error_before_anything_runs():
    with pytest.raises(ModelError):
        BP("cross_entropy").get_grads(mlp(), mlp(), batch(7))


def test_adapted_layers_do_not_make_parameters():
    with pytest.raises(
        ModelError, match=r"Layer 0 \(Linear\(8\) \+ relu\).*as_layered|has the parameters that its library"
    ):
        as_layered(mlp())[0].init(KEYS[0], (6,))


def test_own_params_are_the_inexact_arrays():
    assert_bitwise(own_params(Custom()), eqx.filter(Custom(), eqx.is_inexact_array))


def test_a_model_that_wants_a_key_gets_one_per_example():
    class Noisy(eqx.Module):
        linear: eqx.nn.Linear

        def __call__(self, x, key):
            return self.linear(x + jax.random.normal(key, x.shape))

    model = Noisy(eqx.nn.Linear(6, 3, key=KEYS[0]))
    x, y = batch()
    grads, _, _ = BP("cross_entropy").get_grads(model, model, (x, y), key=KEYS[3])
    keys = jax.random.split(KEYS[3], len(x))
    reference = eqx.filter_jit(eqx.filter_grad(lambda m: cross_entropy(jax.vmap(m)(x, keys), y)))(model)
    assert_bitwise(grads, reference)
    with pytest.raises(ModelError, match="no key was given"):
        BP("cross_entropy").get_grads(model, model, (x, y))
