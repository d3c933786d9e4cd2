"""Predictive coding on networks of named values: chains are its special case, and any other function works as well."""

from __future__ import annotations

from itertools import pairwise

import equinox as eqx
import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neurai_core as neurai
from neurai_algorithms.predictive_coding import network_fixed
from neurai_algorithms.predictive_coding.network_bounds import slopes_are_bounded
from neurai_algorithms.predictive_coding.network_task import NetworkTask, network_task
from neurai_algorithms.predictive_coding.reach import ShortRelaxation
from neurai_algorithms.predictive_coding.spec import PCConfig
from neurai_core import losses
from neurai_core.errors import ModelError
from neurai_core.grads import PC
from neurai_core.models import mlp
from neurai_core.network import learning_network
from neurai_core.programs import read_program
from neurai_core.rule import objective
from neurai_core.sources import sources_of

pytestmark = pytest.mark.usefixtures("quick_compile")
SIZES = (6, 8, 7, 5, 3)
MODES = (
    {"mode": "strict", "light_cone": False, "loss_scale": "per_sample", "fresh": True},
    {"mode": "strict", "corrector": "sgd(0.1, momentum=0.5)", "remat": True},
    {"mode": "fixed_pred", "fresh": True, "n": 7},
    {"mode": "exact"},
    {"mode": "incremental", "optimizer": "sgd(0.01)", "n": 5},
    {"mode": "incremental", "optimizer": "sgd(0.01)", "n": 5, "corrector": "sgd(0.1, momentum=0.5)"},
)


def named_mlp(params, x):
    """Names in the reverse order of the alphabet, in which JAX sorts dictionaries."""
    for index, layer in enumerate(params):
        x = x @ layer["w"] + layer["b"]
        x = neurai.activity(x if index == len(params) - 1 else jnp.tanh(x), f"v{9 - index}")
    return x


@pytest.fixture
def batch():
    return jax.random.normal(jax.random.key(1), (10, 6)), jax.random.randint(jax.random.key(2), (10,), 0, 3)


@pytest.fixture
def params():
    return mlp(SIZES, "tanh").init(jax.random.key(0), (6,))[0]


def estimate(model, params, batch, **settings):
    rule = neurai.algorithm("pc", loss="cross_entropy", **settings)
    state = rule.init(model, params, key=jax.random.key(0))
    return jax.jit(lambda params: rule.estimate(model, params, state, batch)[0])(params)


def assert_close(a, b, tolerance=1e-12):
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance * np.abs(other).max())


@pytest.mark.few(1)
@pytest.mark.parametrize("settings", MODES, ids=str)
def test_a_chain_of_names_is_a_chain_of_layers(settings, params, batch):
    with jax.enable_x64(True):
        params = jax.tree.map(lambda p: p.astype(float), params)
        batch = batch[0].astype(float), batch[1]
        chain = estimate(mlp(SIZES, "tanh"), params, batch, **settings)
        network = estimate(named_mlp, params, batch, **settings)
        assert_close(network.grads, chain.grads)
        assert float(network.loss) == pytest.approx(float(chain.loss), rel=1e-14)
        for name in ("energy_change", "step_scale", "error_norms", "steps"):
            if name in chain.aux:
                assert_close(network.aux[name], chain.aux[name])


def skipping(params, x):
    """Paths of one to four steps from the outputs to h1."""
    hidden = []
    for index, w in enumerate(params["w"]):
        x = neurai.activity(jnp.tanh((x + sum(hidden[:-1])) @ w), f"h{index + 1}")
        hidden.append(x)
    return sum(hidden) @ params["out"]


def test_fixed_predictions_are_summed_path_by_path(monkeypatch):
    settings = {
        "mode": "fixed_pred",
        "n": 9,
        "fresh": True,
        "eta": "cosine_decay_schedule(0.5, 9)",
        "keep_activities": True,
    }
    with jax.enable_x64(True):
        weights = jax.random.normal(jax.random.key(0), (5, 6, 6)) / 2
        params = {"w": list(weights[:4]), "out": weights[4][:, :3]}
        batch = jax.random.normal(jax.random.key(1), (10, 6)), jnp.arange(10) % 3
        summed = estimate(skipping, params, batch, **settings)
        monkeypatch.setattr(network_fixed, "longest_path", lambda facts: None)
        swept = estimate(skipping, params, batch, **settings)
        assert_close(summed.grads, swept.grads)
        assert_close(summed.aux["activities"], swept.aux["activities"])
        assert_close(summed.aux["errors"], swept.aux["errors"])


def test_the_longest_path_is_counted_where_paths_end():
    x, w = jnp.ones((2, 6)), jnp.ones((6, 6))
    facts = neurai.network_of(skipping, {"w": [w] * 4, "out": w}, x).facts({"w": [w] * 4, "out": w}, x)
    assert network_fixed.longest_path(facts) == 4

    def looped(params, x):
        return jax.lax.scan(lambda x, w: (neurai.activity(x @ w, "h"), None), x, params)[0]

    def again(params, x):
        h = neurai.activity(x @ params[0], "h")
        return neurai.activity(h @ params[1], "h")

    for model in (looped, again):
        facts = neurai.network_of(model, jnp.stack([w] * 2), x).facts(jnp.stack([w] * 2), x)
        assert network_fixed.longest_path(facts) is None


@pytest.mark.slow
def test_the_trace_of_the_energy_is_that_of_the_chain(params, batch):
    with jax.enable_x64(True):
        params = jax.tree.map(lambda p: p.astype(float), params)
        found = [
            estimate(m, params, batch, energy_trace=True).aux["energy_trace"] for m in (mlp(SIZES, "tanh"), named_mlp)
        ]
        assert found[1].shape == (21,)
        assert_close(*found[::-1])


def test_a_deep_linear_network_relaxes_to_the_energy_of_its_closed_form():
    """F* = 1/2N sum_i r_i' S^-1 r_i, r = y - W_L:1 x, S = 1 + sum_l>1 W_L:l W_L:l'. Innocenti et al. 2024."""
    with jax.enable_x64(True):
        draw = np.random.default_rng(0).normal
        weights = [draw(size=size) / size[0] ** 0.5 for size in pairwise(SIZES)]
        x, y = draw(size=(10, 6)), draw(size=(10, 3))
        products = [np.eye(3)]  # W_L:l, from the output to the first layer
        for w in weights[::-1]:
            products.append(products[-1] @ w.T)
        r, s = y - x @ products[-1].T, sum(product @ product.T for product in products[:-1])
        expected = np.sum(r * np.linalg.solve(s, r.T).T) / 2 / len(x)

        def linear(weights, x):
            for index, w in enumerate(weights):
                x = neurai.activity(x @ w, f"v{index + 1}")
            return x

        network = neurai.network_of(linear, weights, x)
        relaxed = neurai.relax(network, weights, x, start={"v4": y}, held={"v4": True}, eta=0.3, n=600)
        found = {"relax": sum(relaxed.energy.values())}
        for mode in ("strict", "error"):
            settings = {"mode": mode, "eta": 0.3, "n": 600, "loss_scale": "per_sample", "energy_trace": True}
            rule = neurai.algorithm("pc", loss="squared_error", **settings)
            found[mode] = jax.jit(lambda w, rule=rule: rule.estimate(linear, w, (), (x, y))[0].aux["energy_trace"])(
                weights
            )
        for name, trace in found.items():
            assert trace[0] / len(x) > 1.5 * expected, name
            np.testing.assert_allclose(trace[-1] / len(x), expected, rtol=1e-8, err_msg=name)


@pytest.mark.few(1)
@pytest.mark.parametrize("model", [mlp(SIZES, "tanh"), named_mlp], ids=["layers", "names"])
def test_error_coordinates_end_where_strict_does(model, params, batch):
    with jax.enable_x64(True):
        params = jax.tree.map(lambda p: p.astype(float), params)
        settings = {"loss_scale": "per_sample", "n": 3000}
        strict = estimate(mlp(SIZES, "tanh"), params, batch, fresh=True, **settings)
        error = estimate(model, params, batch, mode="error", **settings)
        assert_close(error.grads, strict.grads, 1e-8)
        assert float(error.aux["energy_change"]) == pytest.approx(float(strict.aux["energy_change"]), rel=1e-10)


@pytest.mark.slow
def test_a_few_sweeps_in_error_coordinates_reach_every_layer(batch):
    deep = mlp((6, *[8] * 15, 3), "tanh")
    params = deep.init(jax.random.key(3), (6,))[0]
    found = estimate(deep, params, batch, mode="error", n=2)
    assert all(float(jnp.linalg.norm(layer["w"])) > 0 for layer in found.grads)
    assert float(found.aux["energy_change"]) < 0


class Compact(linen.Module):
    """A network with a forward pass of its own, which no adapter takes apart."""

    @linen.compact
    def __call__(self, x):
        h = linen.tanh(linen.Dense(8)(x))
        return linen.Dense(3)(h + linen.Dense(8)(linen.tanh(h)))


@pytest.mark.few(1)
@pytest.mark.parametrize("mode", ["strict", "error", "incremental"])
def test_a_module_with_a_forward_pass_of_its_own_trains_after_one_word(mode, batch):
    model = Compact()
    params = model.init(jax.random.key(0), batch[0])
    with pytest.raises(ModelError, match="names no value") as caught:
        PC("cross_entropy", mode=mode).get_grads(model, params, batch)
    assert "neurai.activity" in str(caught.value) and 'neurai.named(model, "auto")' in str(caught.value)
    named = neurai.named(model, "auto")
    method = PC("cross_entropy", mode=mode, **({"optimizer": "adam(2e-3)"} if mode == "incremental" else {}))
    losses = []
    for _ in range(20):
        grads, loss, _ = method.get_grads(named, params, batch)
        params = jax.tree.map(lambda p, g: p - (1.0 if mode == "incremental" else 0.5) * g, params, grads)
        losses.append(float(loss))
    assert losses[-1] < 0.8 * losses[0]


def test_a_vmapped_module_is_a_network(batch):
    model = eqx.nn.MLP(6, 3, 8, 2, key=jax.random.key(0))

    class Own(eqx.Module):
        inner: eqx.nn.MLP

        def __call__(self, x):
            return self.inner(x) + self.inner(-x)

    own = Own(model)
    params = eqx.filter(own, eqx.is_array)
    grads, _, _ = PC("cross_entropy").get_grads(neurai.named(own, "auto"), params, batch)
    exact, _, _ = PC("cross_entropy", mode="exact").get_grads(neurai.named(own, "auto"), params, batch)
    true, _, _ = neurai.grads.BP("cross_entropy").get_grads(own, params, batch)
    assert_close(exact, true, 1e-5)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(grads))


def test_a_name_that_occurs_again_is_predicted_again(batch):
    """Two predictions of one activity: their errors add, and each has parameters of its own."""

    def lateral(params, x):
        h = neurai.activity(jnp.tanh(x @ params["up"]), "h")
        h = neurai.activity(jnp.tanh(h @ params["side"]), "h")
        return h @ params["out"]

    keys = jax.random.split(jax.random.key(4), 3)
    with jax.enable_x64(True):
        shapes = {"up": (6, 5), "side": (5, 5), "out": (5, 3)}
        params = {k: jax.random.normal(key, s) / 2 for key, (k, s) in zip(keys, shapes.items(), strict=True)}
        x, y = batch[0].astype(float), batch[1]
        found = estimate(lateral, params, (x, y), eta=0.05, n=2000, fresh=True, loss_scale="per_sample")

        def energy(params, h):
            loss = -jax.nn.log_softmax(h @ params["out"])[jnp.arange(10), y].sum()
            return loss + sum(
                ((mu - h) ** 2).sum() / 2 for mu in (jnp.tanh(x @ params["up"]), jnp.tanh(h @ params["side"]))
            )

        @jax.jit
        def by_hand(params):
            start = jnp.tanh(x @ params["up"])
            h = jax.lax.fori_loop(0, 4000, lambda _, h: h - 0.05 * jax.grad(energy, 1)(params, h), start)
            return jax.tree.map(lambda g: g / 10, jax.grad(energy)(params, h))

        assert_close(found.grads, by_hand(params), 1e-8)


def test_batch_statistics_are_updated_once_per_batch(batch):
    class Normalized(linen.Module):
        @linen.compact
        def __call__(self, x, train: bool = False):
            h = linen.BatchNorm(use_running_average=not train)(linen.Dense(8)(x))
            return linen.Dense(3)(linen.relu(h))

    model = Normalized()
    params = model.init(jax.random.key(0), batch[0])
    named = neurai.named(model, "auto")
    _, _, _, after = PC("cross_entropy").get_grads(named, params, batch, return_param=True)
    _, _, _, once = neurai.grads.BP("cross_entropy").get_grads(model, params, batch, return_param=True)
    assert_close(after["batch_stats"], once["batch_stats"], 1e-6)


@pytest.mark.few(1)
@pytest.mark.parametrize("mode", ["strict", "error"])
def test_gradients_have_the_types_of_the_parameters(mode, params, batch):
    params = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
    found = estimate(named_mlp, params, batch, mode=mode)
    assert {leaf.dtype for leaf in jax.tree.leaves(found.grads)} == {jnp.dtype(jnp.bfloat16)}
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(found.grads))


@pytest.mark.few(1)
@pytest.mark.parametrize("mode", ["strict", "error"])
def test_layers_in_a_loop_relax(mode, batch):
    """The activity has the axis of the loop in front."""

    def deep(params, x):
        def layer(h, w):
            return neurai.activity(jnp.tanh(h @ w), "layers"), None

        return jax.lax.scan(layer, x @ params["in"], params["layers"])[0] @ params["out"]

    keys = jax.random.split(jax.random.key(5), 3)
    shapes = {"in": (6, 7), "layers": (4, 7, 7), "out": (7, 3)}
    params = {k: jax.random.normal(key, s) / 2 for key, (k, s) in zip(keys, shapes.items(), strict=True)}
    found = estimate(deep, params, batch, mode=mode, eta=0.3, n=30)
    assert 0 < float(found.aux["step_scale"]) <= 1
    assert float(found.aux.get("energy_change", -1.0)) < 0
    assert all(float(jnp.abs(leaf).max()) > 0 for leaf in jax.tree.leaves(found.grads["layers"]))


@pytest.mark.slow
def test_steps_follow_the_moves_where_activities_bend_the_energy(batch, monkeypatch):
    def normalized(x):
        x = x - x.mean(-1, keepdims=True)
        return x / jnp.sqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-5)

    def model(params, x):
        for index, w in enumerate(params[:-1]):
            x = neurai.activity(normalized(x) @ w, f"h{index}")
        return normalized(x) @ params[-1]

    keys = jax.random.split(jax.random.key(0), 4)
    sizes = ((6, 8), 0.01), ((8, 8), 0.01), ((8, 8), 1.0), ((8, 3), 1.0)
    params = [scale * jax.random.normal(key, size) for key, (size, scale) in zip(keys, sizes, strict=True)]
    settings = {"loss_scale": "per_sample", "energy_trace": True, "n": 30}
    found = estimate(model, params, batch, **settings)
    trace = found.aux["energy_trace"]
    assert trace[-1] < trace[0] / 4 and trace.argmax() == 0  # in between, momentum may carry it a little uphill
    monkeypatch.setattr(NetworkTask, "steps_are_watched", False)
    assert found.aux["step_scale"] < estimate(model, params, batch, **settings).aux["step_scale"] < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["strict", "fixed_pred", "incremental"])
def test_activities_that_no_error_reaches_are_counted(mode):
    def model(params, x):
        for index, w in enumerate(params[:-1]):
            x = neurai.activity(jnp.tanh(x @ w), f"h{index}")
        return x @ params[-1]

    params = [jax.random.normal(key, (3, 3)) for key in jax.random.split(jax.random.key(0), 5)]
    batch = jnp.ones((2, 3)), jnp.zeros(2, int)
    with pytest.warns(ShortRelaxation, match=r"no error to 2 of 4 activities, among them 'h0'.* It takes n=5"):
        found = estimate(model, params, batch, mode=mode, n=3)
    assert [bool(jnp.any(grad)) for grad in found.grads] == [False, False, True, True, True]
    assert all(bool(jnp.any(grad)) for grad in estimate(model, params, batch, mode=mode, n=5).grads)
    rule = neurai.algorithm("pc", loss="cross_entropy", mode=mode, n=1)
    state = rule.init(model, params, key=jax.random.key(0))
    with pytest.warns(ShortRelaxation, match=r"no error to 4 of 4 activities, among them 'h0'.* It takes n=5"):
        jax.eval_shape(lambda params: rule.estimate(model, params, state, batch)[0], params)


def attention(x):
    return jax.nn.softmax(x @ x.mT) @ x


SLOPES = [
    (jnp.tanh, True),
    (jax.nn.gelu, True),
    (jax.nn.relu, True),
    (lambda x: x.mean(0, keepdims=True) / 4 + x, True),
    (lambda x: x / jnp.linalg.norm(x), False),
    (lambda x: x * jax.lax.rsqrt(jnp.sum(x * x) + 1e-5), False),
    (attention, False),
    (lambda x: jax.lax.scan(lambda c, _: (jnp.exp(-c), None), x, length=2)[0], False),
]


@pytest.mark.parametrize(("function", "bounded"), SLOPES)
def test_what_has_no_bound_on_its_slope_is_seen_in_the_program(function, bounded):
    def model(params, x):
        return function(neurai.activity(x @ params, "h")) @ params

    params, x = jnp.ones((4, 4)), jnp.ones((2, 4))
    network = learning_network(model, params, x)
    assert slopes_are_bounded(network, params, (), x) == bounded
    before = learning_network(lambda w, x: neurai.activity(function(x) @ w, "h") @ w, params, x)
    assert slopes_are_bounded(before, params, (), x)  # nothing moves there


def test_a_parameter_learns_from_the_predictions_that_it_enters_alone(batch):
    def model(params, x):
        h = neurai.activity(jnp.tanh(x @ params["h"]), "h")
        v = neurai.activity(jnp.tanh(h @ params["v"] + h), "v")
        return v @ params["out"] + x @ params["skip"]

    sizes = {"h": (6, 5), "v": (5, 5), "out": (5, 3), "skip": (6, 3)}
    params = {name: jnp.ones(size) / 4 for name, size in sizes.items()}
    task = network_task(PCConfig(), objective(losses.cross_entropy, None), model, params, (), batch, None)
    (outputs, _), predictions = task.network((params, ()), batch[0])
    activities = {name: found[0] for name, found in predictions.items()}
    errors = {name: tuple(found) for name, found in predictions.items()}
    labels = ["h", "v", "error of h", "error of v", "error of the output"]
    program = read_program(task.gradients, activities, errors, outputs)
    entering = sources_of(program, [frozenset([label]) for label in labels]).outputs
    assert dict(zip(sorted(params), map(sorted, entering), strict=True)) == {
        "h": ["error of h"],
        "out": ["error of the output", "v"],
        "skip": ["error of the output"],
        "v": ["error of v", "h"],
    }


def test_outputs_alone_are_no_activities(batch):
    def shallow(params, x):
        return neurai.activity(x @ params, "y")

    with pytest.raises(ModelError, match="nothing but its outputs"):
        estimate(shallow, jnp.ones((6, 3)), batch)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["strict", "incremental", "error"])
def test_a_function_differentiated_in_reverse_only_relaxes_as_the_same_one_without(mode, x64):
    @jax.custom_vjp
    def bent(x):
        return jnp.tanh(x)

    bent.defvjp(lambda x: (jnp.tanh(x), jnp.tanh(x)), lambda t, g: (g * (1 - t * t),))
    params = [
        jax.random.normal(jax.random.key(i), shape, jnp.float64) for i, shape in enumerate([(4, 6), (6, 5), (5, 3)])
    ]
    batch = jax.random.normal(jax.random.key(3), (8, 4), jnp.float64), jnp.arange(8) % 3

    def grads(phi):
        def model(params, x):
            return neurai.activity(phi(neurai.activity(x @ params[0], "a")) @ params[1], "b") @ params[2]

        rule = neurai.algorithm("pc", loss="cross_entropy", mode=mode, n=5)
        state = rule.init(model, params, key=jax.random.key(0))
        return jax.jit(lambda params: rule.estimate(model, params, state, batch)[0].grads)(params)

    for ours, expected in zip(grads(bent), grads(jnp.tanh), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-12)
