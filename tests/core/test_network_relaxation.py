"""Relaxation of a network: against strict predictive coding, closed forms, and the variance of a Gaussian."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import neurai_core as neurai
from neurai_core import terms
from neurai_core.errors import DataError, SettingsError, UsageError
from neurai_core.network import Network, activity, network_of
from neurai_core.network_relaxation import langevin, relax
from neurai_core.terms import NetworkEnergy

pytestmark = pytest.mark.usefixtures("x64", "quick_compile")


def normal(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def mlp(params: Any, x: jax.Array) -> jax.Array:
    *hidden, last = params
    for i, layer in enumerate(hidden):
        x = activity(jnp.tanh(x @ layer["w"] + layer["b"]), f"h{i + 1}")
    return activity(x @ last["w"] + last["b"], "y")


@pytest.fixture
def batch() -> tuple[Any, jax.Array, jax.Array]:
    """Parameters, inputs and one-hot targets of an MLP of four layers."""
    params, _ = neurai.models.mlp((5, 8, 7, 6, 3)).init(jax.random.key(0), (5,))
    params = jax.tree.map(lambda leaf: leaf + normal(1, *leaf.shape) / 10, params)
    return params, normal(2, 6, 5), jax.nn.one_hot(jnp.arange(6) % 3, 3)


def slope(energy: NetworkEnergy, network: Network, params: Any, x: Any, activities: Any) -> Any:
    return jax.jit(jax.grad(lambda p: energy(network(p, x, activities)[1], activities)))(params)


@pytest.mark.few(1)
@pytest.mark.parametrize("loss", ["squared_error", "cross_entropy"])
def test_descent_on_the_squared_energy_is_strict_predictive_coding(batch: Any, loss: str) -> None:
    params, x, y = batch
    settings = {"mode": "strict", "fresh": True, "loss_scale": "per_sample", "energy_trace": True}
    rule = neurai.algorithm("pc", loss=loss, eta=0.1, n=20, keep_activities=True, **settings)
    model = neurai.models.mlp((5, 8, 7, 6, 3), activation="tanh")
    targets = y if loss == "squared_error" else jnp.argmax(y, -1)
    strict, _ = jax.jit(lambda params: rule.estimate(model, params, (), (x, targets)))(params)
    energy = NetworkEnergy({} if loss == "squared_error" else {"y": terms.CrossEntropy()})
    network = network_of(mlp, params, x)
    relaxed = relax(network, params, x, start={"y": y}, held={"y": True}, energy=energy, eta=0.1, n=20)
    learnt = jax.tree.map(lambda leaf: leaf / 6, slope(energy, network, params, x, relaxed.activities))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-12), learnt, strict.grads)
    np.testing.assert_allclose(sum(relaxed.energy.values()), strict.aux["energy_trace"], rtol=1e-12)
    for name, v in zip(network.names, strict.aux["activities"], strict=False):
        np.testing.assert_allclose(relaxed.activities[name], v, rtol=0, atol=1e-12)


def test_a_linear_network_relaxes_to_the_energy_of_its_closed_form() -> None:
    """With h integrated out, y has covariance 1 + W2' W2: F = 1/2 r' (1 + W2' W2)^-1 r, r = y - x W1 W2."""
    w1, w2, x, y = normal(0, 5, 4) / 2, normal(1, 4, 3) / 2, normal(2, 6, 5), normal(3, 6, 3)
    network = network_of(lambda w, x: activity(activity(x @ w[0], "h") @ w[1], "y"), (w1, w2), x)
    relaxed = relax(network, (w1, w2), x, start={"y": y}, held={"y": True}, n=2000, tol=1e-15)
    r = y - x @ w1 @ w2
    expected = 0.5 * jnp.sum(r * jnp.linalg.solve(jnp.eye(3) + w2.T @ w2, r.T).T)
    np.testing.assert_allclose(sum(share[-1] for share in relaxed.energy.values()), expected, rtol=1e-12)
    assert int(relaxed.steps) < 2000 and float(relaxed.change) < 1e-15


def test_latents_that_nothing_moves_are_reported() -> None:
    def decoder(p: Any, x: jax.Array) -> jax.Array:
        z = activity(p["prior"] + jnp.zeros((len(x), 2)), "z")
        return activity(jax.nn.relu(z @ p["w"] + p["b"]) @ p["out"], "x")

    params = {"prior": jnp.zeros(2), "w": normal(0, 2, 5), "b": jnp.zeros(5), "out": normal(1, 5, 3)}
    x = normal(2, 6, 3)
    network = network_of(decoder, params, x)
    dead = [
        relax(network, {**params, "b": bias}, x, start={"x": x}, held={"x": True}, n=3, eta=0.01).dead
        for bias in (jnp.zeros(5), jnp.ones(5))
    ]
    assert dead == [{"z": 1.0}, {"z": 0.0}]


def test_what_is_dead_is_seen_over_examples_and_free_entries() -> None:
    def scanned(w: Any, x: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda x, w: (activity(x * w, "h"), None), x, w)[0]

    alike, w = jnp.ones((5, 4)), jnp.arange(1.0, 4.0)
    network = network_of(scanned, w, alike)
    assert relax(network, w, alike, n=1).dead == {"h": 1.0}  # layers differ, examples do not
    known = jnp.arange(4) < 3
    x = jnp.where(known, alike, normal(0, 5, 4))
    network = network_of(lambda w, x: activity(x * w, "x"), 1.0, x)
    assert relax(network, 1.0, x, held={"x": known}, n=1).dead == {"x": 0.0}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eta": "linear(1)"}, "eta='linear\\(1\\)' is text, expected a number or a schedule"),
        ({"corrector": "adam(0.1)"}, "corrector='adam\\(0.1\\)', expected an optax transformation"),
        ({"tol": -1.0}, "tol=-1.0, expected 0 or more"),
        ({"held": ["h1"]}, "`held` is a list, expected a dictionary by name"),
        ({"start": 0.0}, "`start` is a float, expected a dictionary by name"),
    ],
)
def test_wrong_settings_of_a_relaxation_are_one_sentence(settings: Any, message: str, batch: Any) -> None:
    params, x, _ = batch
    with pytest.raises(UsageError, match=message):
        relax(network_of(mlp, params, x), params, x, **settings)


@pytest.mark.parametrize("settings", [{"eta": -0.1}, {"eta": 0.1, "temperature": -1.0}])
def test_langevin_refuses_what_has_no_root(settings: Any) -> None:
    with pytest.raises(SettingsError, match="expected 0 or more"):
        langevin(**settings)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_relaxation_that_runs_away_warns(compiled: bool) -> None:
    network = network_of(lambda w, x: activity(activity(x * w, "h") * w, "y"), 3.0, jnp.ones((4, 1)))

    def energies(eta: float, **settings: Any) -> Any:
        start, held = {"y": jnp.zeros((4, 1))}, {"y": True}
        return relax(network, 3.0, jnp.ones((4, 1)), start=start, held=held, eta=eta, n=60, **settings).energy

    energies = jax.jit(energies) if compiled else energies
    with pytest.warns(neurai.RisingEnergy):
        jax.block_until_ready(energies(0.25))  # the curvature is 1 + 3^2
    jax.block_until_ready(energies(0.15))  # a warning is an error


def test_samples_may_climb() -> None:
    network = network_of(lambda w, x: activity(x * w, "h"), 1.0, jnp.ones((4, 1)))
    hot = langevin(0.1, temperature=5.0)
    energy = relax(network, 1.0, jnp.ones((4, 1)), corrector=hot, key=jax.random.key(0), n=20).energy["h"]
    assert energy[-1] > energy[0]


def test_attention_with_skip_connections_relaxes_and_its_energy_falls() -> None:
    def model(p: Any, x: jax.Array) -> jax.Array:
        q, k, v = jnp.split(activity(x @ p["qkv"], "qkv"), 3, -1)
        x = x + activity(jax.nn.softmax(q @ k.mT) @ v @ p["out"], "attention")
        return activity(x + activity(jax.nn.gelu(x @ p["up"]) @ p["down"], "mlp"), "y")

    sizes = {"qkv": (6, 18), "out": (6, 6), "up": (6, 12), "down": (12, 6)}
    params = {name: normal(i, *size) / 3 for i, (name, size) in enumerate(sizes.items())}
    x, y = normal(5, 2, 4, 6), normal(6, 2, 4, 6)
    network = network_of(jax.jit(model), params, x)
    relaxed = jax.jit(lambda p: relax(network, p, x, start={"y": y}, held={"y": True}, eta=0.05, n=30))(params)
    falls = jnp.diff(sum(relaxed.energy.values()))
    assert bool(jnp.all(falls < 0))
    grads = slope(NetworkEnergy(), network, params, x, relaxed.activities)
    assert all(float(jnp.abs(g).max()) > 0 for g in jax.tree.leaves(grads))


def test_scanned_layers_relax_as_the_same_layers_one_by_one() -> None:
    w, x, y = normal(0, 3, 4, 4) / 2, normal(1, 6, 4), normal(2, 6, 4)

    def scanned(w: jax.Array, x: jax.Array) -> jax.Array:
        x, _ = jax.lax.scan(lambda x, w: (activity(jnp.tanh(x @ w), "h"), None), x, w)
        return activity(x @ w[0], "y")

    def unrolled(w: jax.Array, x: jax.Array) -> jax.Array:
        for i in range(3):
            x = activity(jnp.tanh(x @ w[i]), f"h{i}")
        return activity(x @ w[0], "y")

    loop, chain = network_of(scanned, w, x), network_of(unrolled, w, x)
    a, b = (relax(network, w, x, start={"y": y}, held={"y": True}) for network in (loop, chain))
    np.testing.assert_allclose(a.activities["h"], [b.activities[f"h{i}"] for i in range(3)], rtol=1e-12)
    learnt = [slope(NetworkEnergy(), n, w, x, r.activities) for n, r in ((loop, a), (chain, b))]
    np.testing.assert_allclose(*learnt, rtol=1e-11)


def test_two_predictions_of_one_activity_meet_where_their_weights_say() -> None:
    def model(mu: jax.Array, x: jax.Array) -> jax.Array:
        return activity(activity(x * mu[0], "h") * 0 + x * mu[1], "h")

    network = network_of(model, jnp.asarray([1.0, 4.0]), jnp.ones((2, 3)))
    energy = NetworkEnergy(weights={"h": (3.0, 1.0)}, learning={"h": (0.0, 1.0)})
    relaxed = relax(network, jnp.asarray([1.0, 4.0]), jnp.ones((2, 3)), energy=energy, n=200)
    np.testing.assert_allclose(relaxed.activities["h"], (3 * 1.0 + 1 * 4.0) / 4)
    learnt = slope(energy.for_learning, network, jnp.asarray([1.0, 4.0]), jnp.ones((2, 3)), relaxed.activities)
    np.testing.assert_allclose(learnt, [0, 6 * (4 - 1.75)])


# ---------------------------------------------------------------------------- what is held


def test_half_known_inputs_are_filled_in_and_their_known_half_stays() -> None:
    """A decoder of one latent per example recalls what it can make: the unknown half follows from the known one."""
    w = normal(0, 2, 8)

    def decoder(params: jax.Array, x: jax.Array) -> jax.Array:
        z = activity(jnp.zeros((len(x), 2)) + 0 * params[:, 0], "z")
        return activity(z @ params, "x")

    truth = normal(1, 5, 2) @ w
    known = jnp.arange(8) < 4
    network = network_of(decoder, w, truth)
    relaxed = relax(
        network,
        w,
        truth,
        start={"x": jnp.where(known, truth, 0)},
        held={"x": known},
        energy=NetworkEnergy(weights={"z": 0.0}),
        eta=0.05,
        n=4000,
    )
    np.testing.assert_array_equal(relaxed.activities["x"][:, :4], truth[:, :4])
    np.testing.assert_allclose(relaxed.activities["x"], truth, atol=1e-6)


def test_a_named_input_may_be_clamped_nudged_or_free() -> None:
    def model(w: jax.Array, x: jax.Array) -> jax.Array:
        return activity(activity(x, "x") @ w, "y")

    w, x, y = jnp.eye(3), jnp.zeros((2, 3)), jnp.ones((2, 3))
    network = network_of(model, w, x)

    def settled(weight: float, **held: Any) -> Any:
        energy = NetworkEnergy(weights={"x": weight})
        held = {"y": True, **held}
        return relax(network, w, x, start={"y": y}, held=held, energy=energy, n=300).activities["x"]

    np.testing.assert_allclose(settled(1.0), 0.5)  # as far from its input as from what explains y
    np.testing.assert_allclose(settled(0.0), 1.0)
    np.testing.assert_allclose(settled(1.0, x=np.arange(3) > 0)[:, 1:], 0.0)


def test_an_activity_starts_at_its_prediction_from_what_is_given(batch: Any) -> None:
    params, x, _ = batch
    network = network_of(mlp, params, x)
    relaxed = relax(network, params, x, start={"h1": jnp.ones((6, 8))}, n=0)
    np.testing.assert_array_equal(relaxed.activities["h2"], network(params, x, {"h1": jnp.ones((6, 8))})[1]["h2"][0])
    assert relaxed.energy["h1"].shape == (1,) and float(relaxed.energy["h2"][0]) == 0


def test_held_entries_do_not_move_whatever_the_corrector(batch: Any) -> None:
    params, x, y = batch
    network = network_of(mlp, params, x)
    mask = normal(4, 6, 8) > 0
    held = {"h1": mask, "y": True, "h2": False}
    for corrector in (optax.adam(0.1), langevin(0.1)):
        settings: Any = {"corrector": corrector, "key": jax.random.key(0), "n": 5}
        relaxed = relax(network, params, x, start={"y": y}, held=held, **settings)
        before = network(params, x)[1]["h1"][0]
        np.testing.assert_array_equal(relaxed.activities["h1"] == before, mask)
        np.testing.assert_array_equal(relaxed.activities["y"], y)


# ---------------------------------------------------------------------------- energies


@pytest.mark.parametrize(
    ("term", "minimum"),
    [(terms.Laplace(0.5), 0.0), (terms.Laplace(2.0), 0.5), (lambda p, a: 1.5 * (a - p) ** 2, 0.25)],
)
def test_a_sparse_prior_thresholds_and_a_callable_is_a_term(term: Any, minimum: float) -> None:
    """min_z |z| / s + (1 - z)^2 / 2 is at max(0, 1 - 1 / s)."""
    network = network_of(lambda w, x: activity(activity(w * x, "z") + 0 * x, "x"), 0.0, jnp.ones((2, 1)))
    energy = NetworkEnergy({"z": term})
    settings: Any = {"start": {"x": jnp.ones((2, 1))}, "held": {"x": True}, "energy": energy}
    relaxed = relax(network, 0.0, jnp.ones((2, 1)), eta=lambda t: 0.3 / (1 + 0.1 * t), n=3000, **settings)
    np.testing.assert_allclose(relaxed.activities["z"], minimum, atol=3e-3)


@pytest.mark.parametrize("term", [terms.Squared(2.0), terms.Cauchy(0.7), terms.CrossEntropy()])
def test_the_energy_is_the_sum_of_its_terms(term: Any) -> None:
    predictions = {"a": (normal(0, 4, 3), normal(1, 4, 3)), "b": (normal(2, 4, 2),)}
    v = {"a": jax.nn.softmax(normal(3, 4, 3)), "b": normal(4, 4, 2)}
    energy = NetworkEnergy({"a": term}, weights={"a": (0.5, 2.0)})
    expected = 0.5 * term(predictions["a"][0], v["a"]).sum() + 2 * term(predictions["a"][1], v["a"]).sum()
    np.testing.assert_allclose(energy.by_name(predictions, v)["a"], expected)
    np.testing.assert_allclose(energy(predictions, v), expected + 0.5 * jnp.sum((predictions["b"][0] - v["b"]) ** 2))


def test_weights_and_precisions_may_be_traced(batch: Any) -> None:
    params, x, y = batch
    network = network_of(mlp, params, x)

    def final(weight: Any) -> Any:
        energy = NetworkEnergy({"h1": terms.Squared(weight)}, weights={"h2": weight})
        return sum(
            e[-1] for e in relax(network, params, x, start={"y": y}, held={"y": True}, energy=energy).energy.values()
        )

    swept = jax.jit(jax.vmap(final))(jnp.asarray([0.5, 2.0]))
    np.testing.assert_allclose(swept, jax.jit(lambda: [final(0.5), final(2.0)])(), rtol=1e-12)


# ---------------------------------------------------------------------------- sampling


def test_langevin_has_the_variance_of_a_gaussian() -> None:
    """On precision k the stationary variance of the discrete step is T / (k (1 - eta k / 2)), Wibisono 2018."""
    x, k, eta, temperature = jnp.ones((40_000, 1)), 2.0, 0.3, 0.5
    network = network_of(lambda mu, x: activity(mu * x, "h"), jnp.asarray(3.0), x)
    energy = NetworkEnergy({"h": terms.Squared(k)})
    key = jax.random.key(1)
    corrector = langevin(eta, temperature)
    relaxed = relax(network, jnp.asarray(3.0), x, energy=energy, corrector=corrector, key=key, n=40)
    h = relaxed.activities["h"]
    variance = temperature / (k * (1 - eta * k / 2))
    deviation = variance * np.sqrt(2 / h.size)
    assert abs(float(h.var()) - variance) < 4 * deviation
    assert abs(float(h.mean()) - 3) < 4 * np.sqrt(variance / h.size)


def test_langevin_without_temperature_is_plain_descent_and_keys_decide_the_rest(batch: Any) -> None:
    params, x, _ = batch
    network = network_of(mlp, params, x)

    def run(temperature: Any, seed: int) -> Any:
        corrector = langevin(lambda t: 0.1, temperature)
        start = {"h1": jnp.ones((6, 8))}
        return relax(network, params, x, start=start, corrector=corrector, key=jax.random.key(seed)).activities["h2"]

    plain = relax(network, params, x, start={"h1": jnp.ones((6, 8))}, eta=0.1).activities["h2"]
    np.testing.assert_allclose(run(0.0, 0), plain, rtol=1e-12)
    np.testing.assert_array_equal(run(1.0, 1), run(1.0, 1))
    assert bool(jnp.any(run(1.0, 1) != run(1.0, 2)))


def test_langevin_without_a_key_is_one_clear_error(batch: Any) -> None:
    params, x, _ = batch
    with pytest.raises(UsageError, match=r"draws from a key and none was given.\n.*key=key"):
        relax(network_of(mlp, params, x), params, x, corrector=langevin(0.1))


# ---------------------------------------------------------------------------- transformations


@pytest.mark.slow
def test_relaxation_maps_over_parameters(batch: Any) -> None:
    params, x, y = batch
    network = network_of(mlp, params, x)
    stack = jax.tree.map(lambda leaf: jnp.stack([leaf, jnp.sin(leaf)]), params)

    def run(p: Any) -> Any:
        return relax(network, p, x, start={"y": y}, held={"y": True}, tol=1e-3, n=50)

    mapped, alone = jax.jit(jax.vmap(run))(stack), jax.jit(run)
    for i in range(2):
        one = alone(jax.tree.map(lambda leaf, i=i: leaf[i], stack))
        mine = jax.tree.map(lambda leaf, i=i: leaf[i], mapped)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), mine, one)


@pytest.mark.slow
def test_relaxation_differentiates_in_both_modes(batch: Any) -> None:
    params, x, y = batch
    network = network_of(mlp, params, x)

    def final(eta: Any) -> jax.Array:
        relaxed = relax(network, params, x, start={"y": y}, held={"y": True}, eta=eta, n=7)
        return sum(share[-1] for share in relaxed.energy.values())

    compiled = jax.jit(final)
    numeric = (compiled(0.1 + 1e-6) - compiled(0.1 - 1e-6)) / 2e-6
    slopes = jax.jit(lambda eta: [jax.grad(final)(eta), jax.jacfwd(final)(eta)])(0.1)
    np.testing.assert_allclose(slopes, numeric, rtol=1e-6)


def test_a_relaxation_that_settles_ends_and_repeats_its_last_energy(batch: Any) -> None:
    params, x, y = batch
    network = network_of(mlp, params, x)
    relaxed = relax(network, params, x, start={"y": y}, held={"y": True}, tol=1e-3, n=300)
    taken = int(relaxed.steps)
    again = relax(network, params, x, start={"y": y}, held={"y": True}, n=taken)
    assert 1 < taken < 300 and relaxed.energy["y"].shape == (301,)
    for name, share in relaxed.energy.items():
        np.testing.assert_allclose(share[: taken + 1], again.energy[name], rtol=1e-12)
        np.testing.assert_array_equal(share[taken:], share[taken])


def test_activities_of_half_precision_networks_relax_in_float32() -> None:
    w, x = jnp.ones((3, 2), jnp.bfloat16), jnp.ones((4, 3), jnp.bfloat16)
    network = network_of(lambda w, x: activity(activity(x @ w, "h") @ w.T, "y"), w, x)
    relaxed = relax(network, w, x, start={"y": np.zeros((4, 3))}, held={"y": True})
    assert {leaf.dtype for leaf in jax.tree.leaves((relaxed.activities, relaxed.energy))} == {jnp.dtype("float32")}


# ---------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"start": {"h1": np.ones((6, 7))}}, DataError, r"'h1' was given with shape \(6, 7\), expected \(6, 8\)"),
        ({"start": {"h9": np.ones((6, 8))}}, DataError, r"name 'h9', which .* Did you mean 'h1'\?\n.*h1, h2, h3, y"),
        ({"start": {"y": np.arange(6)}}, DataError, r"'y' was given as int64, expected floats.\n.*one_hot"),
        ({"held": {"h1": np.ones((7, 8), bool)}}, DataError, r"mask of 'h1' has shape \(7, 8\), .*\(6, 8\)"),
        ({"held": {"h1": np.ones((6, 8))}}, DataError, "mask of 'h1' is of type float64, expected booleans"),
        ({"held": {"z": True}}, DataError, r"The masks of `held` name 'z', which the network does not have"),
        ({"held": dict.fromkeys(("h1", "h2", "h3", "y"), True)}, DataError, "All activities are held"),
        ({"n": -1}, SettingsError, "n=-1, expected a whole number"),
        ({"n": 2.5}, SettingsError, "n=2.5, expected a whole number"),
        ({"energy": NetworkEnergy({"h4": terms.Laplace()})}, DataError, "term or weight for 'h4'.* Did you mean"),
        ({"energy": NetworkEnergy(weights={"y": (1, 2)})}, DataError, "2 weights for 'y', which is predicted 1 times"),
        ({"energy": NetworkEnergy(weights={"y": -1.0})}, SettingsError, r"weights\['y'\]=-1.0, expected 0 or more"),
        ({"eta": 0.2, "corrector": optax.adam(0.1)}, SettingsError, "eta=0.2 is the step of plain descent, and a corr"),
    ],
)
def test_bad_input_is_one_clear_error(batch: Any, settings: Any, error: Any, message: str) -> None:
    params, x, _ = batch
    with pytest.raises(error, match=message):
        relax(network_of(mlp, params, x), params, x, **settings)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: terms.Squared(-1.0), "Squared: precision=-1.0, expected 0 or more"),
        (lambda: terms.Squared(np.array([1.0, np.nan])), "Squared: precision=.*expected 0 or more"),
        (lambda: terms.Laplace(0.0), "Laplace: scale=0.0, expected more than 0"),
        (lambda: terms.Cauchy(jnp.array([1.0, 0.0])), "Cauchy: scale=.*expected more than 0"),
    ],
)
def test_a_term_without_a_density_is_refused(make: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        make()


def test_scales_may_be_learned() -> None:
    def cost(scale: jax.Array) -> jax.Array:
        return jnp.sum(terms.Laplace(scale)(jnp.ones(3), jnp.zeros(3)))

    np.testing.assert_allclose(jax.grad(cost)(jnp.asarray(2.0)), -3 / 4)
