"""Flax Linen models: gradients to the bit as jax.grad of apply gives them, and layers for local rules."""

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

flax = pytest.importorskip("flax")
nn = pytest.importorskip("flax.linen")

pytestmark = [pytest.mark.contract, pytest.mark.usefixtures("quick_compile")]
KEYS = jax.random.split(jax.random.key(7), 12)
PRECISIONS = [False, True]


class Plain(nn.Module):
    """Code of its own, a skip connection."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x + nn.softplus(nn.Dense(6)(x)))


class Normalized(nn.Module):
    """Batch statistics and dropout, switched by an argument as Flax's guides do."""

    rate: float = 0.5

    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.BatchNorm(use_running_average=not train)(nn.Dense(8)(x))
        return nn.Dense(3)(nn.Dropout(self.rate, deterministic=not train)(x))


def flattened(x):
    return x.reshape(x.shape[0], -1)


def mlp():
    # A fresh initializer every time, as users write it: it must not count as another model.
    return nn.Sequential(
        [nn.Dense(8, kernel_init=nn.initializers.he_normal()), nn.relu, nn.Dense(8), nn.tanh, nn.Dense(3)]
    )


def cnn():
    pool = functools.partial(nn.avg_pool, window_shape=(2, 2), strides=(2, 2))
    return nn.Sequential([nn.Conv(4, (3, 3)), nn.relu, pool, flattened, nn.LayerNorm(), nn.Dense(3)])


def normalized():
    """Batch normalization and dropout in a sequence, which passes no argument on."""
    return nn.Sequential([nn.Dense(8), nn.BatchNorm(), nn.tanh, nn.Dropout(0.5), nn.Dense(3)])


def normalized_variables():
    made = nn.Sequential([nn.Dense(8), nn.BatchNorm(use_running_average=True), nn.tanh, nn.Dense(3)])
    variables = made.init(KEYS[0], batch()[0])
    names = {"layers_0": "layers_0", "layers_1": "layers_1", "layers_3": "layers_4"}
    return {
        collection: {names[layer]: value for layer, value in tree.items()} for collection, tree in variables.items()
    }


def batch(*shape):
    x = jax.random.normal(KEYS[2], (5, *(shape or (6,))))
    return x, jnp.array([0, 1, 2, 1, 0])


def native(model, variables, x, y):
    return jax.jit(jax.value_and_grad(lambda variables: cross_entropy(model.apply(variables, x), y)))(variables)


def assert_bitwise(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)


def as_double(variables):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.zeros(()).dtype), variables)


@pytest.mark.few(1)
@pytest.mark.parametrize("double", PRECISIONS)
@pytest.mark.parametrize(("make", "shape"), [(mlp, (6,)), (cnn, (8, 8, 1)), (Plain, (6,))])
def test_bp_is_jax_grad_of_apply_to_the_bit(make, shape, double):
    with jax.enable_x64(double):
        model, (x, y) = make(), batch(*shape)
        variables = as_double(model.init(KEYS[0], x))
        loss, grads = native(model, variables, x, y)
        ours, our_loss, _ = BP("cross_entropy").get_grads(model, variables, (x, y))
        assert_bitwise(ours, grads)
        assert our_loss == loss


def test_gradients_come_back_in_the_form_of_the_parameters():
    model, (x, y) = mlp(), batch()
    variables = model.init(KEYS[0], x)
    grads, _, _ = BP("cross_entropy").get_grads(model, variables, (x, y))
    for form in (lambda variables: variables["params"], flax.core.freeze):
        ours, _, _ = BP("cross_entropy").get_grads(model, form(variables), (x, y))
        assert_bitwise(ours, form(grads))


@pytest.mark.parametrize("double", PRECISIONS)
def test_training_with_batch_statistics_and_dropout_is_the_librarys(double):
    with jax.enable_x64(double):
        model, (x, y) = Normalized(), batch()
        variables = as_double(model.init(KEYS[0], x, train=False))

        def loss(params):
            outputs, updated = model.apply(
                {**variables, "params": params},
                x,
                train=True,
                rngs={"dropout": KEYS[3]},
                mutable=["batch_stats"],
            )
            return cross_entropy(outputs, y), updated

        (value, updated), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])
        ours, our_value, _, returned = BP("cross_entropy").get_grads(
            model, variables, (x, y), return_param=True, key=KEYS[3]
        )
        assert our_value == value
        assert_bitwise(ours["params"], grads)
        assert_bitwise(returned, {**variables, **updated})
        assert not any(leaf.any() for leaf in jax.tree.leaves(ours["batch_stats"]))


def test_evaluation_uses_running_statistics_and_no_dropout():
    model, (x, _) = Normalized(), batch()
    variables = model.init(KEYS[0], x, train=False)
    adapted = adapt(model)
    params, model_state = adapted.split(variables)
    outputs, model_state = adapted.model.apply(params, model_state, x, key=KEYS[3], train=True)
    reference = model.apply({"params": variables["params"], **model_state}, x, train=False)
    np.testing.assert_array_equal(adapted.model(params, x, model_state), reference)
    assert not jnp.array_equal(outputs, reference)


def test_evaluation_wins_over_what_the_code_says():
    class Stubborn(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.BatchNorm(use_running_average=False)(nn.Dense(8)(x))
            x = nn.Dropout(0.5, deterministic=False)(x)
            return nn.Dense(3)(x)

    class Meek(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.BatchNorm(use_running_average=True)(nn.Dense(8)(x))
            return nn.Dense(3)(x)

    variables = Meek().init(KEYS[0], batch()[0])
    adapted = adapt(Stubborn())
    params, model_state = adapted.split(variables)
    outputs = adapted.model(params, batch()[0], model_state)
    np.testing.assert_array_equal(outputs, Meek().apply(variables, batch()[0]))


@pytest.mark.parametrize("needs", ["callable", "layered"])
def test_flags_left_open_are_set_by_training_and_evaluation(needs):
    adapted, x = adapt(normalized(), needs=needs), batch()[0]
    params, model_state = adapted.split(normalized_variables())
    first, moved = adapted.model.apply(params, model_state, x, key=KEYS[3], train=True)
    again, _ = adapted.model.apply(params, model_state, x, key=KEYS[3], train=True)
    other, _ = adapted.model.apply(params, model_state, x, key=KEYS[4], train=True)
    assert jnp.array_equal(first, again) and not jnp.array_equal(first, other)
    assert not jnp.array_equal(jax.tree.leaves(moved)[0], jax.tree.leaves(model_state)[0])
    outputs, still = adapted.model.apply(params, moved, x)
    assert_bitwise(still, moved)
    assert not jnp.array_equal(outputs, first)


class Blocked(nn.Module):
    """Batch statistics, dropout and noise, off unless an argument says that it is trained."""

    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.BatchNorm(use_running_average=not train)(nn.Dense(6)(3 * x))
        x = nn.Dropout(0.5, deterministic=not train)(x)
        return x + jax.random.normal(self.make_rng("noise"), x.shape) if train else x


class Training(nn.Module):
    @nn.compact
    def __call__(self, x, training: bool = False):
        x = nn.BatchNorm(use_running_average=not training)(nn.Dense(6)(3 * x))
        return nn.Dropout(0.5, deterministic=not training)(x)


class Deterministic(nn.Module):
    @nn.compact
    def __call__(self, x, deterministic: bool = True):
        x = nn.BatchNorm(use_running_average=deterministic)(nn.Dense(6)(3 * x))
        return nn.Dropout(0.5, deterministic=deterministic)(x)


class Running(nn.Module):
    @nn.compact
    def __call__(self, x, use_running_average: bool = True):
        return nn.BatchNorm(use_running_average=use_running_average)(nn.Dense(6)(3 * x))


MODES = [
    (Blocked, {"train": True}),
    (Training, {"training": True}),
    (Deterministic, {"deterministic": False}),
    (Running, {"use_running_average": False}),
]


def squared(outputs, targets):
    return jnp.mean((outputs - targets) ** 2)


def trained_by_flax(apply, variables, x, y):
    """Gradients, loss and updated variables as a Flax user computes them."""

    def loss(params):
        rngs = {"dropout": KEYS[3], "noise": KEYS[3]}
        outputs, updated = apply({**variables, "params": params}, x, rngs=rngs, mutable=["batch_stats"])
        return squared(outputs, y), updated

    (value, updated), grads = jax.value_and_grad(loss, has_aux=True)(variables["params"])
    return value, grads, {**variables, **updated}


def assert_trained_alike(model, variables, x, y, expected):
    """By `bp` on the whole, by exact `pc` layer by layer, and by the layers themselves."""
    close = functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12)
    value, grads, updated = expected
    for rule in (BP(squared), PC(squared, mode="exact")):
        ours, loss, _, returned = rule.get_grads(model, variables, (x, y), return_param=True, key=KEYS[3])
        jax.tree.map(close, (loss, ours["params"], returned), (value, grads, updated))
    layered, params, model_state = as_layered(model, variables)
    outputs, moved = layered.apply(params, model_state, x, key=KEYS[3], train=True)
    close(squared(outputs, y), value)
    moved, expected = (jax.tree.leaves(tree) for tree in (moved, as_layered(model, updated)[2]))
    jax.tree.map(close, moved, expected)


@pytest.mark.few(1)
@pytest.mark.parametrize(("block", "told"), MODES, ids=lambda value: getattr(value, "__name__", ""))
def test_a_block_that_is_told_of_training_trains_alike_whole_and_in_layers(x64, block, told):
    model, (x, _) = nn.Sequential([block(), nn.Dense(3)]), batch()
    variables, y = as_double(model.init(KEYS[0], x)), jax.random.normal(KEYS[5], (5, 3))
    expected = trained_by_flax(functools.partial(model.apply, **told), variables, x, y)
    assert_trained_alike(model, variables, x, y, expected)


def test_every_member_of_nested_sequences_is_told_of_training(x64):
    class Told(nn.Module):
        """What the sequence below is if its members could be told by hand."""

        @nn.compact
        def __call__(self, x):
            x = Inner(name="layers_1")(nn.Dense(6, name="layers_0")(x))
            return nn.Dense(3, name="layers_3")(Blocked(name="layers_2")(x, train=True))

    class Inner(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = Blocked(name="layers_1")(nn.relu(x), train=True)
            return nn.Dropout(0.5, deterministic=False, name="layers_2")(x)

    inner = nn.Sequential([nn.relu, Blocked(), nn.Dropout(0.5)])
    model, (x, _) = nn.Sequential([nn.Dense(6), inner, Blocked(), nn.Dense(3)]), batch()
    y = jax.random.normal(KEYS[5], (5, 3))
    rngs = {"params": KEYS[0], "dropout": KEYS[1]}
    variables = as_double(Told().init(rngs, x))
    assert_trained_alike(model, variables, x, y, trained_by_flax(Told().apply, variables, x, y))


def test_evaluation_is_told_too(x64):
    class Eager(nn.Module):
        @nn.compact
        def __call__(self, x, train: bool = True):
            return 2 * x if train else x

    model, x = nn.Sequential([nn.Dense(6), Eager(), nn.Dense(3)]), batch()[0]
    variables = as_double(model.init(KEYS[0], x))
    expected = nn.Sequential([nn.Dense(6), lambda x: x, nn.Dense(3)]).apply(variables, x)
    np.testing.assert_array_equal(adapt(model).model(variables["params"], x), expected)
    layered, params, model_state = as_layered(model, variables)
    np.testing.assert_array_equal(layered(params, x, model_state), expected)


def test_members_may_have_names(x64):
    model, (x, y) = nn.Sequential([nn.Dense(6, name="one"), nn.relu, nn.Dense(3, name="two")]), batch()
    variables = as_double(model.init(KEYS[0], x))
    layered, params, _ = as_layered(model, variables)
    np.testing.assert_array_equal(layered(params, x), model.apply(variables, x))
    grads, loss, _ = PC("cross_entropy", mode="exact").get_grads(model, variables, (x, y))
    expected_loss, expected = native(model, variables, x, y)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-12)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12), grads, expected)


def test_dropout_without_a_key_is_an_error():
    model, (x, y) = Normalized(), batch()
    variables = model.init(KEYS[0], x, train=False)
    with pytest.raises(ModelError, match="Normalized draws random numbers in training and no key"):
        BP("cross_entropy").get_grads(model, variables, (x, y))


def test_a_missing_collection_is_an_error_that_names_it():
    model, (x, y) = Normalized(), batch()
    variables = model.init(KEYS[0], x, train=False)
    with pytest.raises(ModelError, match="batch_stats"):
        BP("cross_entropy").get_grads(model, {"params": variables["params"]}, (x, y), key=KEYS[3])


@pytest.mark.parametrize("given", [None, 3])
def test_parameters_that_were_not_made_yet_are_an_error_that_says_how_to_make_them(given):
    with pytest.raises(ModelError, match=r"model\.init\(key, x\)"):
        BP("cross_entropy").get_grads(mlp(), given, batch())
    assert own_params(mlp()) is None
    with pytest.raises(ModelError, match="keeps its parameters separately"):
        as_layered(mlp())


def test_parameters_of_another_shape_are_an_error():
    model, (x, y) = mlp(), batch()
    variables = model.init(KEYS[0], batch(7)[0])
    with pytest.raises(ModelError, match=r"do not fit|cannot take"):
        BP("cross_entropy").get_grads(model, variables, (x, y))


@pytest.mark.parametrize(("make", "shape"), [(mlp, (6,)), (cnn, (8, 8, 1))])
def test_layers_compute_what_the_model_computes(make, shape, x64):
    model, (x, _) = make(), batch(*shape)
    variables = as_double(model.init(KEYS[0], x))
    layered, params, model_state = as_layered(model, variables)
    assert model_state == ()
    np.testing.assert_array_equal(layered(params, x), model.apply(variables, x))


def test_gradients_in_layers_join_to_the_librarys_structure(x64):
    model, (x, y) = cnn(), batch(8, 8, 1)
    variables = as_double(model.init(KEYS[0], x))
    adapted = adapt(model, needs="layered")
    params, _ = adapted.split(variables)
    grads = jax.grad(lambda params: cross_entropy(adapted.model(params, x), y))(params)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-15),
        adapted.join(grads, ()),
        native(model, variables, x, y)[1],
    )


def test_activations_merge_into_the_linear_layers_before_them():
    model = cnn()
    layered, params, _ = as_layered(model, model.init(KEYS[0], batch(8, 8, 1)[0]))
    names = [layer.name for layer in layered.layers]
    assert names == ["Conv(4) + relu", "avg_pool", "flattened", "LayerNorm", "Dense(3)"]
    assert [layer.linear is not None for layer in layered.layers] == [True, True, False, False, True]
    assert [sorted(layer) for layer in params] == [["bias", "kernel"], [], [], ["bias", "scale"], ["bias", "kernel"]]


def test_layers_say_what_they_carry_and_draw():
    layered, _, model_state = as_layered(normalized(), normalized_variables())
    assert [layer.stateful for layer in layered.layers] == [False, True, False, False, False]
    assert [layer.stochastic for layer in layered.layers] == [False, False, False, True, False]
    assert [bool(state) for state in model_state] == [False, True, False, False, False]


def test_batch_statistics_in_layers_join_to_the_librarys_structure():
    adapted = adapt(normalized(), needs="layered")
    variables = normalized_variables()
    assert_bitwise(adapted.join(*adapted.split(variables)), variables)


def test_sequences_in_sequences_are_unrolled(x64):
    model = nn.Sequential([mlp(), nn.relu, nn.Dense(2)])
    variables = as_double(model.init(KEYS[0], batch()[0]))
    adapted = adapt(model, needs="layered")
    params, model_state = adapted.split(variables)
    names = [layer.name for layer in adapted.model.layers]
    assert names == ["Dense(8) + relu", "Dense(8) + tanh", "Dense(3) + relu", "Dense(2)"]
    np.testing.assert_array_equal(adapted.model(params, batch()[0]), model.apply(variables, batch()[0]))
    assert_bitwise(adapted.join(params, model_state), variables)


@pytest.mark.parametrize("needs", ["callable", "layered"])
def test_a_rebuilt_model_does_not_retrace(needs):
    traces = []

    @functools.partial(jax.jit, static_argnums=0)
    def run(model, params, x):
        traces.append(model)
        return model(params, x)

    for seed in range(3):
        model, x = mlp(), batch()[0]
        adapted = adapt(model, needs=needs)
        run(adapted.model, adapted.split(model.init(jax.random.key(seed), x))[0], x)
    assert len(traces) == 1


def test_models_of_different_settings_differ():
    narrow, wide = nn.Sequential([nn.Dense(3)]), nn.Sequential([nn.Dense(4)])
    for needs in ("callable", "layered"):
        assert adapt(narrow, needs=needs).model != adapt(wide, needs=needs).model


def test_a_module_used_twice_is_an_error_naming_both_layers():
    layer = nn.Dense(6)
    with pytest.raises(ModelError, match=r"layers\[0\] \(Dense\(6\)\) and layers\[2\] \(Dense\(6\)\)"):
        adapt(nn.Sequential([layer, nn.relu, layer]), needs="layered")


def test_code_of_its_own_cannot_be_layered_and_the_error_says_the_way_out():
    with pytest.raises(ModelError, match="Plain cannot be split into layers") as error:
        adapt(Plain(), needs="layered")
    assert "nn.Sequential" in error.value.hint


def test_a_module_with_code_of_its_own_is_one_layer_of_a_sequence(x64):
    model = nn.Sequential([Plain(), nn.tanh, nn.Dense(2)])
    variables = as_double(model.init(KEYS[0], batch()[0]))
    layered, params, _ = as_layered(model, variables)
    assert [layer.name for layer in layered.layers] == ["Plain", "tanh", "Dense(2)"]
    np.testing.assert_array_equal(layered(params, batch()[0]), model.apply(variables, batch()[0]))


def test_variables_of_another_model_are_an_error():
    model, x = mlp(), batch()[0]
    wrong = nn.Sequential([nn.Dense(8), nn.Dense(3)]).init(KEYS[0], x)
    with pytest.raises(ModelError, match=r"params\.layers_1, which belongs to no layer"):
        as_layered(model, wrong)
    lacking = nn.Sequential([nn.Dense(8), nn.relu, nn.Dense(8)]).init(KEYS[0], x)
    with pytest.raises(ModelError, match=r"Layer 2 \(Dense\(3\)\) has no parameters"):
        as_layered(model, lacking)
