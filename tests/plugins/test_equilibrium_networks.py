"""Equilibrium propagation on networks of named values: chains are their special case, theory holds for any other."""

from __future__ import annotations

from functools import cache, partial

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from equilibrium_oracle import distance, problem
from jax.flatten_util import ravel_pytree

import neurai_core as neurai
from neurai_algorithms.equilibrium.network import network_dynamics
from neurai_algorithms.equilibrium.phases import Descent
from neurai_algorithms.equilibrium.rule import build
from neurai_algorithms.equilibrium.spec import EPConfig
from neurai_core.errors import ModelError, SettingsError, TrainingError
from neurai_core.grads import EP
from neurai_core.losses import loss_function, squared_error

pytestmark = pytest.mark.usefixtures("quick_compile")
DEEP, SHALLOW = (6, 5, 4, 3), (6, 5, 3)  # claims that say nothing of depth take the one that compiles quickly
ESTIMATORS = (
    (DEEP, {"mode": "two_phase", "tol": 0.05, "n_relax": 50, "check_every": 3}),
    (SHALLOW, {"mode": "symmetric", "beta": 0.2, "init": "zeros", "linearized": True, "trace": True}),
    (SHALLOW, {"mode": "coupled", "beta": 0.2, "stable": False}),
    (SHALLOW, {"mode": "coupled_one_sided", "beta": -0.2, "stable": False}),
    (SHALLOW, {"mode": "continual", "beta": 0.3, "stable": False}),
)


def named_chain(params, x):
    """The network of `equilibrium_oracle.problem`, its pre-activations named."""
    for index, layer in enumerate(params):
        x = neurai.activity(x @ layer["w"] + layer["b"], f"u{index + 1}")
        x = jax.nn.sigmoid(x) if index + 1 < len(params) else x
    return x


def skipping(params, x):
    """A skip connection and a cycle of one: what no chain has. The outputs have no parameter of their own."""
    v = neurai.activity(jnp.tanh(x @ params["in"]), "v")  # its name is behind that of the top in the alphabet
    v = neurai.activity(0.5 * jnp.tanh(v @ params["side"]), "v")
    top = neurai.activity(jnp.tanh(v) @ params["up"] + x @ params["skip"], "top")
    return jnp.sin(top)


SHAPES = {"in": (6, 5), "side": (5, 5), "up": (5, 3), "skip": (6, 3)}


@pytest.fixture
def skip_params(x64):
    keys = jax.random.split(jax.random.key(4), len(SHAPES))
    return {n: jax.random.normal(k, s) / 2 for k, (n, s) in zip(keys, SHAPES.items(), strict=True)}


def assert_close(a, b, tolerance=1e-12):
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance * np.abs(other).max())


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("sizes", "settings"), ESTIMATORS, ids=lambda one: one["mode"] if isinstance(one, dict) else ""
)
def test_a_chain_of_names_is_a_chain_of_layers(sizes, settings, x64):
    model, params, batch = problem(sizes=sizes)
    optimizer = {"optimizer": optax.sgd(0.1)} if settings["mode"] == "continual" else {}
    rule = build(EPConfig(**settings), loss=loss_function("cross_entropy"), **optimizer)
    step = jax.jit(rule.estimate, static_argnums=0)
    (chain, state), (network, own) = (step(m, params, rule.init(m, params), batch) for m in (model, named_chain))
    assert_close(network.grads, chain.grads)
    assert_close((network.loss, own), (chain.loss, state))
    assert_close(network.aux, chain.aux, 1e-10)  # energies are small differences in places


# ---------------------------------------------------------------------------- theory, where there is no chain


def energy(params, x, v):
    """Batch mean of the gaussian energy of `skipping`, v = (h, top)."""
    h, top = v
    errors = (
        h - jnp.tanh(x @ params["in"]),
        h - 0.5 * jnp.tanh(h @ params["side"]),
        top - jnp.tanh(h) @ params["up"] - x @ params["skip"],
    )
    return sum(jnp.sum(e**2) for e in errors) / len(x)


def cost(v, y):
    return squared_error(jnp.sin(v[1]), y)


@jax.jit
def rest(params, batch, beta):
    """Where F has its minimum, by descent from zeros."""
    x, y = batch

    def step(v, _):
        slope = jax.grad(lambda v: len(x) * (energy(params, x, v) + beta * cost(v, y)))(v)
        return jax.tree.map(lambda u, g: u - 0.1 * g, v, slope), None

    return jax.lax.scan(step, (jnp.zeros((4, 5)), jnp.zeros((4, 3))), None, length=800)[0]


@jax.jit
def learned(params, batch, beta, dt):
    rule = neurai.algorithm("ep", loss="squared_error", mode="symmetric", beta=beta, dt=dt, n_relax=800)
    return rule.estimate(skipping, params, (), batch)[0]


@pytest.mark.slow
def test_estimates_are_contrasts_of_energies_at_rest(skip_params):
    """The states are found independently; the rule is not told that the network has a cycle and a skip connection."""
    _, _, batch = problem(sizes=SHALLOW)
    up, down = (jax.grad(energy)(skip_params, batch[0], rest(skip_params, batch, beta)) for beta in (0.4, -0.4))
    found = learned(skip_params, batch, 0.4, 0.1)
    assert_close(found.grads, jax.tree.map(lambda a, b: (a - b) / 0.8, up, down), 1e-9)
    at_rest = rest(skip_params, batch, 0.0)
    assert_close(found.loss, cost(at_rest, batch[1]), 1e-9)
    rule = neurai.algorithm("ep", loss="squared_error", n_relax=800, mode="symmetric")
    assert_close(jax.jit(partial(rule.predict, skipping))(skip_params, batch[0]), jnp.sin(at_rest[1]), 1e-9)


def test_small_nudges_give_the_gradient_of_the_loss_at_equilibrium(skip_params):
    _, _, (x, y) = problem(sizes=SHALLOW)
    v = rest(skip_params, (x, y), 0.0)

    @jax.jit
    def implicit(params, v):  # - d^2E/dtheta dv (d^2E/dv^2)^-1 dC/dv
        flat, tree = ravel_pytree(v)
        slope = lambda params, flat: jax.grad(lambda flat: energy(params, x, tree(flat)))(flat)  # noqa: E731
        curvature = jax.jacfwd(slope, 1)(params, flat)
        back = jnp.linalg.solve(curvature, jax.grad(lambda flat: cost(tree(flat), y))(flat))
        return jax.tree.map(lambda g: -g, jax.vjp(lambda params: slope(params, flat), params)[1](back)[0])

    true = implicit(skip_params, v)
    far, near = (distance(learned(skip_params, (x, y), beta, 0.1).grads, true) for beta in (0.1, 0.01))
    assert near < 1e-4
    assert 90 < far / near < 110  # symmetric: of order beta^2


def test_a_step_that_is_too_large_is_made_smaller(skip_params):
    _, _, batch = problem(sizes=SHALLOW)
    steep = jax.tree.map(lambda w: 4 * w, skip_params)
    assert float(learned(skip_params, batch, 0.4, 0.1).aux["step_scale"]) == 1
    found = learned(steep, batch, 0.4, 1.0)
    assert found.aux["step_scale"] < 0.5 and found.aux["energy_change"] < 0 and not found.aux["blown_up"]


def test_layers_in_a_loop_count_one_by_one(x64):
    def looped(params, x):
        body = lambda h, w: (neurai.activity(jnp.tanh(h) @ w, "h"), None)  # noqa: E731
        return jnp.cos(jax.lax.scan(body, x, params)[0])

    descent = Descent(rate=lambda t: 0.1, steps=1, nudge=1.0)
    force = np.random.default_rng(0).normal(size=(3, 5, 4))

    @jax.jit
    def residual(params, x, force):
        return network_dynamics(looped, params, x, (), None, None, descent).residual((force,))

    found = residual(np.ones((3, 4, 4)), np.ones((5, 4)), force)
    assert found == pytest.approx(np.linalg.norm(force, axis=2).mean(axis=1).sum(), rel=1e-12)


# ---------------------------------------------------------------------------- models of other libraries


class Compact(linen.Module):
    """A network with a forward pass of its own, which no adapter takes apart."""

    @linen.compact
    def __call__(self, x, train: bool = False):
        x = 4 * x.reshape(len(x), -1)  # of a size at which normalization is not steep
        h = linen.BatchNorm(use_running_average=not train)(linen.Dense(16)(x))
        h = linen.Dropout(0.1, deterministic=not train)(linen.relu(h))
        return linen.Dense(10)(h)


@cache
def variables():
    return jax.jit(Compact().init)(jax.random.key(0), jnp.ones((2, 8, 8)))


def test_a_module_with_a_forward_pass_of_its_own_learns_digits():
    data = neurai.dataset("digits")
    x, y = data.x_train[:256], data.y_train[:256]
    adapted = neurai.adapt(neurai.named(Compact(), "auto"), needs="network")
    params, model_state = adapted.split(variables())
    rule = neurai.algorithm("ep", loss="cross_entropy", mode="symmetric", beta=0.1)
    step = jax.jit(lambda *given, key: rule.estimate(adapted.model, *given, (x, y), key=key))
    _, once = jax.jit(partial(adapted.model.apply, train=True))(params, model_state, x, key=jax.random.key(0))
    state, losses = model_state, []
    for turn in range(20):
        found, state = step(params, state, key=jax.random.key(turn))
        assert turn or assert_close(state, once, 1e-5) is None
        params = jax.tree.map(lambda p, g: p - 0.3 * g, params, found.grads)
        losses.append(float(found.loss))
    assert losses[-1] < 0.5 * losses[0]


# ---------------------------------------------------------------------------- bad input


def hidden(params, x):
    return neurai.activity(x @ params, "h") ** 2


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"energy": "hopfield", "dt": 0.5}, ModelError, r"'hopfield' needs a model in layers(?s:.*)energy='gaussian'"),
        ({"mode": "holomorphic"}, SettingsError, r"real(?s:.*)symmetric, richardson"),
        ({"order": "even_odd"}, SettingsError, r"no layers(?s:.*)order='synchronous'"),
        ({"activation": "tanh"}, SettingsError, r"activation(?s:.*)into the model"),
        ({"init": (jnp.zeros((4, 2)),), "mode": "symmetric"}, ModelError, r"expected \[\(4, 3\)\]"),
    ],
    ids=str,
)
def test_what_a_network_cannot_serve_is_refused_in_one_sentence(settings, error, message):
    with pytest.raises(error, match=message):
        EP("squared_error", **settings).get_grads(hidden, jnp.ones((2, 3)), (jnp.ones((4, 2)), jnp.ones((4, 3))))


def test_a_model_that_cannot_be_taken_apart_says_why_and_both_ways_out():
    batch = jnp.ones((2, 8, 8)), jnp.zeros(2, int)
    with pytest.raises(ModelError, match=r"Compact(?s:.*)needs a model in layers(?s:.*)from layers, or"):
        EP("cross_entropy", energy="hopfield", dt=0.5).get_grads(Compact(), variables(), batch)
    with pytest.raises(ModelError, match=r"names no value(?s:.*)neurai.named\(model, \"auto\"\)"):
        EP("cross_entropy").get_grads(Compact(), variables(), batch, key=jax.random.key(0))


def test_outputs_are_one_array():
    def pair(params, x):
        h = neurai.activity(x @ params, "h")
        return jnp.sin(h), 2 * h

    with pytest.raises(ModelError, match="expected one array"):
        EP(lambda outputs, y: outputs[0].sum()).get_grads(pair, jnp.ones((2, 3)), (jnp.ones((4, 2)), jnp.ones((4, 3))))


def test_activities_that_blow_up_are_named():
    batch = jnp.ones((4, 2)), jnp.ones((4, 3))
    with pytest.raises(TrainingError, match="activities of 'h' blew up at step 1 of the nudged phase"):
        EP("squared_error", dt=1e9, n_relax=3, stable=False).get_grads(hidden, jnp.ones((2, 3)), batch)


def test_errors_relax_to_the_equilibrium_of_activities(skip_params):
    batch, found = problem(sizes=SHALLOW)[2], []
    for coordinates, steps in (("activities", 1000), ("errors", 300)):
        settings = {"mode": "symmetric", "beta": 0.2, "n_relax": steps, "coordinates": coordinates}
        rule = build(EPConfig(**settings), loss=loss_function("cross_entropy"))
        found.append(jax.jit(rule.estimate, static_argnums=0)(skipping, skip_params, (), batch)[0])
    assert_close(found[1].grads, found[0].grads, 1e-8)
    assert_close((found[1].loss, found[1].aux["energy"]), (found[0].loss, found[0].aux["energy"]), 1e-8)


def test_errors_reach_the_first_layer_in_one_step(x64):
    model, params, batch = problem(sizes=DEEP)
    first = []
    for coordinates in ("activities", "errors"):
        rule = build(EPConfig(n_relax=1, coordinates=coordinates), loss=loss_function("cross_entropy"))
        grads = jax.jit(rule.estimate, static_argnums=0)(model, params, rule.init(model, params), batch)[0].grads
        first.append(float(jnp.abs(grads[0]["w"]).max()))
    assert first[0] == 0 < first[1]


@pytest.mark.parametrize(
    "settings",
    [{"mode": "coupled"}, {"energy": "hopfield", "dt": 0.5}, {"linearized": True}, {"activation": "tanh"}],
)
def test_what_does_not_go_with_error_coordinates_is_told(settings):
    with pytest.raises(SettingsError, match=r"EP: coordinates='errors' and .* cannot be combined"):
        build(EPConfig(coordinates="errors", **settings), loss=loss_function("cross_entropy"))
