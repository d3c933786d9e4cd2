"""The contract of surrogates: what a subclass gets for free, and what is refused."""

from __future__ import annotations

import copy
import pickle
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from pydantic import Field

import neurai_core as neurai
from neurai_core.errors import DataError, SettingsError, UsageError
from neurai_core.grads import BP, surrogate_grad
from neurai_core.grads.surrogate_grad import Sigmoid, SuperSpike, SurrogateFunctionBase
from neurai_core.models.spiking import snn
from neurai_core.plugin import Plugin
from neurai_core.specs import Config, SurrogateSpec
from neurai_core.surrogates import Facts, Surrogate, custom, normalized

U = np.linspace(-1.0, 1.0, 8)  # float32 for JAX, or float64 with x64


class Tent(SurrogateFunctionBase):
    """Only a derivative, written without a thought for precision."""

    def __init__(self, width=1.0, spiking=True):
        super().__init__(width=width, spiking=spiking)

    def derivative(self, u):
        return jnp.maximum(1 - jnp.abs(u) / self.width, 0)


class Arctan(SurrogateFunctionBase):
    """Only a primitive."""

    def __init__(self, slope=2.0, spiking=True):
        super().__init__(slope=slope, spiking=spiking)

    def primitive(self, u):
        return jnp.arctan(self.slope * u) / jnp.pi + 0.5


# ---- subclasses and functions


def test_a_subclass_with_a_derivative_is_a_surrogate():
    np.testing.assert_array_equal(Tent(2.0)(U), U >= 0)
    np.testing.assert_array_equal(jax.grad(lambda u: Tent(2.0)(u).sum())(U), 1 - jnp.abs(U) / 2)


def test_a_subclass_with_a_primitive_takes_its_derivative_from_it(x64):
    expected = 2 / jnp.pi / (1 + (2 * U) ** 2)
    np.testing.assert_allclose(Arctan().derivative(U), expected, rtol=1e-12)
    np.testing.assert_allclose(jax.grad(lambda u: Arctan()(u).sum())(U), expected, rtol=1e-12)
    np.testing.assert_allclose(Arctan(spiking=False)(U), jnp.arctan(2 * U) / jnp.pi + 0.5, rtol=1e-12)


@pytest.mark.parametrize(
    "made", [Tent(2.0), Arctan(), custom(primitive=jnp.tanh)], ids=["derivative", "both", "primitive"]
)
def test_a_subclass_keeps_the_dtype_it_is_given(made):
    u = U.astype(jnp.bfloat16)
    assert made(u).dtype == made.derivative(u).dtype == jnp.bfloat16
    np.testing.assert_array_equal(made.derivative(u), made.derivative(u.astype(float)).astype(u.dtype))


def test_two_functions_make_a_surrogate(x64):
    made = custom(
        derivative=lambda u, width: jnp.exp(-jnp.abs(u) / width),
        primitive=lambda u, width: width * jnp.where(u < 0, jnp.exp(u / width), 2 - jnp.exp(-u / width)),
        width=0.5,
        facts=Facts(area=1.0),
    )
    exponential = made.replace(spiking=False)
    np.testing.assert_allclose(exponential.derivative(U), jax.vmap(jax.grad(exponential.primitive))(U))
    assert made.facts.area == 1 and made.has_primitive
    slope = jax.grad(lambda one: one(U).sum())(made).width
    h = 1e-6
    by_hand = (exponential.replace(width=0.5 + h)(U) - exponential.replace(width=0.5 - h)(U)).sum() / (2 * h)
    np.testing.assert_allclose(slope, by_hand, rtol=1e-7)


def test_a_surrogate_without_functions_is_refused():
    with pytest.raises(UsageError, match="custom\\(\\) got no function"):
        custom()
    empty = type("Empty", (Surrogate,), {})
    with pytest.raises(UsageError, match="Empty defines neither derivative nor primitive"):
        empty()


def test_a_plugin_is_a_config_and_a_class():
    class TentConfig(Config):
        width: float = Field(1.0, gt=0, description="half the support, in units of u")
        spiking: bool = True

    class RegisteredTent(Tent):
        config_class = TentConfig

    spec = SurrogateSpec(name="tent", summary="A tent", config=TentConfig)
    with neurai.temporary(Plugin(spec, RegisteredTent.build)):
        tent = neurai.surrogate("tent", width=2.0)
        assert tent == RegisteredTent(2.0) and tent.origin.name == "tent"
        assert tent.config == TentConfig(width=2.0)
        with pytest.raises(SettingsError, match="width"):
            neurai.surrogate("tent", width=0.0)


def test_a_class_takes_from_its_spec_what_it_does_not_state():
    class TentConfig(Config):
        width: float = Field(1.0, gt=0, description="half the support, in units of u")
        spiking: bool = True

    class Stated(Tent):
        spec = SurrogateSpec(name="tent", summary="A tent", config=TentConfig, area="where(width > 2, inf, 3 * width)")

        @property
        def facts(self):
            return Facts(peak=1.0, support=(-self.width, self.width))

    assert Stated.config_class is TentConfig
    assert Stated(2.0).facts == Facts(6.0, 1.0, None, (-2.0, 2.0), symmetric=True, signed=False)
    assert jax.jit(jax.vmap(lambda width: Stated(width).facts.area))(jnp.array([1.0, 4.0])).tolist() == [
        3.0,
        float("inf"),
    ]
    other = type("Other", (Stated,), {"facts": property(lambda self: Facts(area=1.0, symmetric=False, signed=True))})
    assert other(2.0).facts == Facts(area=1.0, symmetric=False, signed=True)
    wrong = type("Wrong", (Stated,), {"spec": Stated.spec.model_copy(update={"area": "2 * breadth"})})
    with pytest.raises(UsageError, match="area='2 \\* breadth' of the spec is no Python expression"):
        _ = wrong(2.0).facts


# ---- no primitive


def test_without_a_primitive_spiking_false_names_those_that_have_one():
    for make in (
        lambda: Tent(spiking=False),
        lambda: Tent().replace(spiking=False),
        lambda: custom(derivative=jnp.cos, spiking=False),
    ):
        with pytest.raises(UsageError, match=r"no primitive, which spiking=False.*\n.*sigmoid, .*superspike"):
            make()
    with pytest.raises(UsageError, match="Tent was asked for its primitive"):
        Tent().primitive(U)


def test_without_a_primitive_its_numbers_may_be_traced_but_not_learned():
    def loss(width, u):
        return Tent(width)(u).sum()

    np.testing.assert_array_equal(jax.jit(jax.grad(loss, 1))(2.0, U), Tent(2.0).derivative(U))
    with pytest.raises(UsageError, match="no primitive, which the derivative by one of its numbers needs"):
        jax.grad(loss)(2.0, U)


# ---- firing otherwise than by the step


class Noisy(Tent):
    """Fires at random, with a derivative that knows nothing of it."""

    needs_key = True

    def step(self, u, key):
        return jnp.where(jnp.isnan(u), u, u >= jax.random.uniform(key, u.shape, u.dtype, -0.5, 0.5))


def test_a_subclass_may_draw_its_spikes_with_a_key_of_each_call():
    keys = jax.random.split(jax.random.key(0), 3)
    drawn = jax.jit(jax.vmap(lambda key: Noisy()(U / 4, key=key)))(keys)
    assert set(np.unique(drawn)) == {0.0, 1.0} and jnp.any(drawn[0] != drawn[1])
    np.testing.assert_array_equal(Noisy()(U / 4, key=keys[2]), drawn[2])
    np.testing.assert_array_equal(Noisy().spikes(U / 4, key=keys[2]), drawn[2] == 1)
    gradient = jax.grad(lambda u: Noisy()(u, key=keys[0]).sum())(U)
    np.testing.assert_array_equal(gradient, Tent().derivative(U))
    inside = normalized(custom(primitive=jax.nn.sigmoid))
    assert not inside.needs_key and not Tent().needs_key


def test_without_a_key_a_surrogate_that_draws_says_what_to_write():
    for call in (Noisy(), Noisy().spikes):
        with pytest.raises(UsageError, match=r"Noisy draws its spikes and got no key.*\n.*key=jax.random.key"):
            call(U)


def test_where_nothing_is_drawn_a_key_changes_nothing():
    np.testing.assert_array_equal(Tent()(U, key=jax.random.key(0)), Tent()(U))


def test_what_is_fired_has_the_precision_of_u_and_no_derivative_of_its_own():
    class Twice(Tent):
        def step(self, u, key):
            assert u.dtype == jnp.float32
            return jnp.where(u >= 0, 2.0 * jnp.exp(0 * u), 0.0)

    u = U.astype(jnp.bfloat16)
    assert Twice()(u).dtype == jnp.bfloat16 and Twice()(u).tolist() == [0.0] * 4 + [2.0] * 4
    np.testing.assert_array_equal(jax.grad(lambda u: Twice()(u).sum())(U), Tent().derivative(U))


# ---- what is saved and computed


def residuals(function, *args):
    """Shapes of what the backward pass keeps from the forward pass."""
    saved = jax.vjp(function, *args)[1]
    return sorted(leaf.shape for leaf in jax.tree.leaves(saved) if leaf.shape)


@pytest.mark.parametrize("surrogate", [SuperSpike(), Sigmoid(spiking=False), Tent(), custom(primitive=jnp.tanh)])
def test_the_backward_pass_keeps_nothing_but_the_input(surrogate):
    kept = jax.vjp(surrogate, U)[1]
    arrays = [leaf for leaf in jax.tree.leaves(kept) if leaf.shape]
    assert len(arrays) == 1
    np.testing.assert_array_equal(arrays[0], jnp.asarray(U))


def test_a_scan_over_time_keeps_one_array_per_step():
    def run(currents):
        def step(v, current):
            v = 0.9 * v + current
            s = SuperSpike(10.0)(v - 1)
            return v - s, None

        return jax.lax.scan(step, jnp.zeros(3), currents)[0]

    assert residuals(run, jnp.ones((50, 3))).count((50, 3)) == 1


def test_the_primitive_is_not_evaluated_unless_a_number_is_differentiated():
    waves = custom(derivative=lambda u, k: k * jnp.cos(k * u), primitive=lambda u, k: jnp.sin(k * u), k=3.0)
    learned = jax.tree.map(jnp.asarray, waves)

    def program(of):
        return str(jax.make_jaxpr(jax.grad(lambda one, u: one(u).sum(), of))(learned, U))

    assert "cos " in program(1) and "sin " not in program(1)


def test_the_forward_pass_evaluates_no_derivative():
    waves = custom(derivative=jnp.cos)
    forward = jax.make_jaxpr(lambda u: jax.vjp(waves, u)[0])(U)
    assert "cos" not in str(forward)


def test_sharded_over_devices_it_gives_the_same_gradient(python):
    script = """
        import jax, jax.numpy as jnp, numpy as np
        from jax.sharding import AxisType, PartitionSpec as P
        from neurai_core.grads.surrogate_grad import SuperSpike

        u, mesh = jnp.linspace(-2, 2, 8), jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Auto,))
        sharded = jax.shard_map(SuperSpike(3.0), mesh=mesh, in_specs=P("batch"), out_specs=P("batch"))
        grads = jax.jit(jax.grad(lambda u: sharded(u).sum()))(u)
        np.testing.assert_allclose(grads, SuperSpike(3.0).derivative(u), rtol=1e-6)
        print(len(grads.sharding.device_set))
    """
    flags = "--xla_force_host_platform_device_count=4"
    assert python(script, XLA_FLAGS=flags, JAX_PLATFORMS="cpu").split() == ["4"]


@pytest.mark.parametrize("width", [0.25, 1.0, 4.0])
def test_the_tangent_of_a_width_is_finite_where_u_is_not(width):
    for one in (surrogate_grad.Rectangular(width), surrogate_grad.Triangle(width), surrogate_grad.Circ(width)):
        learned = jax.tree.map(jnp.asarray, one)
        for dtype in (jnp.float16, jnp.bfloat16, jnp.float32):
            ends = jnp.array([-jnp.inf, jnp.inf], dtype)
            for end in ends:
                slopes = jax.grad(lambda one, end=end: one(end).astype(jnp.float32))(learned)
                assert all(jnp.isfinite(leaf) for leaf in jax.tree.leaves(slopes))


# ---- a pytree of numbers


def test_leaves_are_the_numbers():
    assert jax.tree.leaves(SuperSpike(3.0)) == [3.0]
    (path, _), = jax.tree_util.tree_leaves_with_path(SuperSpike(3.0))  # fmt: skip
    assert jax.tree_util.keystr(path) == ".alpha"
    doubled = jax.tree.map(lambda leaf: 2 * leaf, Sigmoid(3.0, spiking=False))
    assert doubled == Sigmoid(6.0, spiking=False)


def test_a_width_per_neuron_equals_neurons_one_by_one(x64):
    widths = jnp.linspace(1.0, 4.0, 8)
    each = jax.tree.map(lambda _: widths, Sigmoid())

    def batch(one):
        return one(jnp.stack([U, 2 * U])).sum()

    slopes = jax.grad(batch)(each).alpha
    one_by_one = [
        jax.grad(lambda one, u=u: one(u) + one(2 * u))(Sigmoid(alpha)).alpha for u, alpha in zip(U, widths, strict=True)
    ]
    np.testing.assert_allclose(slopes, jnp.stack(one_by_one), rtol=1e-12)
    assert each(0.3).shape == (8,)


@pytest.mark.parametrize("make", [jnp.asarray, np.asarray, np.ndarray.tolist], ids=["jax", "numpy", "list"])
def test_a_width_per_neuron_may_be_given_by_name_and_by_class(make):
    widths = np.array([1, 2, 4, 8])
    by_name, by_class = neurai.surrogate("sigmoid", alpha=make(widths)), Sigmoid(alpha=make(widths))
    assert by_name == by_class == neurai.rebuild(by_name.origin.to_json())
    assert by_name.alpha.dtype == jnp.float32 and by_name.origin.settings["alpha"] == [1.0, 2.0, 4.0, 8.0]
    np.testing.assert_allclose(by_name.derivative(0.0), widths / 4, rtol=1e-6)
    assert by_name.spikes(0.0).shape == by_name.primitive(jnp.zeros((3, 1))).shape[1:] == (4,)
    assert by_name.replace(alpha=3.0) == Sigmoid(3.0)


def test_widths_that_are_wrong_are_named_with_their_place():
    with pytest.raises(SettingsError, match=r"^alpha\[1\]\[0\]: input should be greater than 0 \(got -2.0\)"):
        Sigmoid(jnp.array([[1.0], [-2.0]]))
    for strange in (["wide"], [], [[1.0], [1.0, 2.0]], jnp.array([True]), jnp.array([1j])):
        with pytest.raises(SettingsError, match=r"^alpha: input should be a valid number"):
            Sigmoid(strange)
    with pytest.raises(DataError, match=r"u of shape \(2, 3\), which does not broadcast with alpha \(4,\)"):
        Sigmoid(jnp.ones(4))(jnp.ones((2, 3)))
    with pytest.raises(DataError, match=r"does not broadcast with surrogate.alpha \(4,\)"):
        normalized(SuperSpike(jnp.ones(4))).derivative(jnp.ones((2, 3)))
    with pytest.raises(SettingsError, match="levels: input should be a valid integer"):
        surrogate_grad.MultiLevelCount(levels=jnp.array([1, 2]))


def test_one_width_per_neuron_can_be_normalized():
    widths = jnp.array([1.0, 4.0])
    np.testing.assert_allclose(normalized(SuperSpike(widths)).derivative(0.0), widths / 2)
    with pytest.raises(UsageError, match="must be positive and finite"):
        normalized(custom(primitive=lambda u, area: area * jax.nn.sigmoid(u), area=jnp.array([1.0, 0.0])))


def test_widths_may_be_traced():
    widths, u = jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([0.1, 0.2])
    mapped = jax.jit(jax.vmap(lambda alpha: neurai.surrogate("sigmoid", alpha=alpha).derivative(u)))(widths)
    np.testing.assert_allclose(mapped, Sigmoid(widths).derivative(u), rtol=1e-6)
    origin = jax.eval_shape(lambda alpha: neurai.surrogate("sigmoid", alpha=alpha), widths).origin
    assert origin.settings["alpha"] == "traced"


def test_a_network_whose_neurons_differ_in_width_learns_by_a_rule():
    """The model is static to a rule, so its surrogate has to hash; each width acts on its own neuron."""
    batch = jnp.ones((2, 3)), jnp.array([0, 0])
    wide, narrow, both = (
        snn((3, 2, 2), surrogate=Sigmoid(alpha), steps=4) for alpha in (1.0, 8.0, jnp.array([1.0, 8.0]))
    )
    params, _ = both.init(jax.random.key(0), (3,))
    of_wide, of_narrow, found = (BP("cross_entropy").get_grads(m, params, batch)[0] for m in (wide, narrow, both))
    columns = found[0]["input"]["w"]
    np.testing.assert_allclose(columns[:, 0], of_wide[0]["input"]["w"][:, 0], rtol=1e-6)
    np.testing.assert_allclose(columns[:, 1], of_narrow[0]["input"]["w"][:, 1], rtol=1e-6)
    assert not np.allclose(of_wide[0]["input"]["w"], of_narrow[0]["input"]["w"])


def test_learning_the_width_lowers_the_loss(x64):
    key = jax.random.key(0)
    x = jax.random.normal(key, (64, 3))
    y = Sigmoid(0.5, spiking=False)(x @ jnp.array([1.0, -2.0, 0.5]))

    def loss(params):
        surrogate, w = params
        return jnp.mean((surrogate(x @ w) - y) ** 2)

    params = Sigmoid(4.0, spiking=False), jnp.array([1.0, -2.0, 0.5])
    optimizer = optax.adam(0.1)
    state, first = optimizer.init(params), loss(params)

    @jax.jit
    def step(params, state):
        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, updates), state

    for _ in range(100):
        params, state = step(params, state)
    assert loss(params) < 0.05 * first
    assert params[0].alpha < 2.0 and type(params[0]) is Sigmoid


def test_learning_the_width_through_spikes_lowers_the_loss():
    """The width of a spiking unit is learned so that its surrogate moves the weights that it stands on."""
    x = jax.random.normal(jax.random.key(0), (128, 4))
    y = (x @ jnp.array([1.0, -1.0, 0.5, 0.0]) > 0.2).astype(jnp.float32)

    def loss(params):
        surrogate, w, b = params
        return jnp.mean((surrogate(x @ w + b) - y) ** 2) + jnp.mean(
            (surrogate.replace(spiking=False)(x @ w + b) - y) ** 2
        )

    params = Sigmoid(0.5), 0.1 * jnp.ones(4), jnp.zeros(())
    first = loss(params)
    optimizer = optax.adam(0.05)

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return (optax.apply_updates(params, updates), state), None

    params = jax.tree.map(jnp.asarray, params)
    (params, _), _ = jax.jit(lambda start: jax.lax.scan(step, start, length=100))((params, optimizer.init(params)))
    assert loss(params) < 0.35 * first and params[0].alpha > 1.0


def test_origin_and_settings_survive_transformations():
    surrogate = neurai.surrogate("superspike", alpha=10.0)
    returned = jax.jit(lambda one: one)(surrogate)
    assert returned.origin == surrogate.origin and returned.alpha == 10.0
    for copied in (copy.deepcopy(surrogate), pickle.loads(pickle.dumps(surrogate))):
        assert copied == surrogate and copied.origin == surrogate.origin
    assert neurai.rebuild(surrogate) == surrogate


def test_numbers_may_be_traced_when_built_by_name_or_by_class():
    slopes = jnp.array([1.0, 10.0])
    by_name = jax.vmap(lambda alpha: neurai.surrogate("superspike", alpha=alpha).derivative(U))(slopes)
    by_class = jax.vmap(lambda alpha: SuperSpike(alpha).derivative(U))(slopes)
    np.testing.assert_array_equal(by_name, by_class)
    np.testing.assert_allclose(by_name, [SuperSpike(float(a)).derivative(U) for a in slopes], rtol=1e-6)
    origin = jax.eval_shape(lambda alpha: neurai.surrogate("superspike", alpha=alpha), 1.0).origin
    assert origin.settings["alpha"] == "traced"


# ---- identity


def test_one_that_is_built_again_does_not_retrace():
    traces = []

    @partial(jax.jit, static_argnums=0)
    def run(surrogate, u):
        traces.append(surrogate)
        return surrogate(u)

    for _ in range(3):
        run(SuperSpike(10.0), U)
        run(neurai.surrogate("superspike", alpha=10.0), U)
    assert len(traces) == 1
    run(SuperSpike(11.0), U)
    assert len(traces) == 2


def test_equality_is_by_class_numbers_and_mode():
    assert SuperSpike(2.0) == SuperSpike(2) and hash(SuperSpike(2.0)) == hash(SuperSpike(2))
    different = [SuperSpike(2.0), SuperSpike(3.0), SuperSpike(2.0, spiking=False), Sigmoid(2.0), Tent(2.0)]
    assert len(set(different)) == len(different)
    learned = jax.tree.map(jnp.asarray, SuperSpike(2.0))
    assert learned == learned and learned != SuperSpike(2.0)


def test_arrays_compare_and_hash_by_their_values_and_traced_ones_do_not_hash():
    widths = np.array([1.0, 2.0])
    assert Sigmoid(widths) == Sigmoid(jnp.array(widths)) and len({Sigmoid(widths), Sigmoid(2 * widths)}) == 2
    assert len({Sigmoid(widths), Sigmoid(widths.tolist())}) == 1 and Sigmoid(widths) != Sigmoid(widths[:1])

    @jax.jit
    def hashed(one):
        assert one == one and one != Sigmoid(widths)
        return hash(one)

    with pytest.raises(TypeError, match="unhashable"):
        hashed(Sigmoid(widths))


def test_it_cannot_be_changed_in_place():
    surrogate = SuperSpike(2.0)
    with pytest.raises(AttributeError, match=r"SuperSpike is frozen.*replace"):
        surrogate.alpha = 3.0
    assert surrogate.replace(alpha=3.0) == SuperSpike(3.0)
    with pytest.raises(UsageError, match="SuperSpike has no setting 'beta'"):
        surrogate.replace(beta=3.0)
    with pytest.raises(SettingsError, match="alpha"):
        surrogate.replace(alpha=-3.0)


def test_it_prints_as_it_is_written():
    assert repr(Sigmoid(alpha=2, spiking=False)) == "Sigmoid(alpha=2.0, spiking=False)"


# ---- normalized


def test_normalized_takes_the_area_from_the_primitive_when_it_is_not_stated():
    doubled = custom(primitive=lambda u: 2 * jax.nn.sigmoid(u))
    np.testing.assert_allclose(normalized(doubled).derivative(0.0), 0.25)


def test_normalized_keeps_its_width_learnable_and_its_peak_moving():
    slope = jax.grad(lambda one: normalized(one).derivative(0.0))(SuperSpike(4.0)).alpha
    np.testing.assert_allclose(slope, 0.5)  # the peak of SuperSpike at area 1 is alpha / 2


def test_normalized_refuses_what_has_no_area():
    with pytest.raises(UsageError, match="neither states its area nor has a primitive"):
        normalized(Tent())
    with pytest.raises(UsageError, match="must be positive and finite"):
        normalized(custom(primitive=lambda u: u))


# ---- arguments


def test_documented_example_with_real_numbers():
    assert Sigmoid(alpha=4.0, spiking=True)(np.array([1.0, 2.0, 3.0])).tolist() == [1.0, 1.0, 1.0]


def test_integers_are_refused_with_a_way_out():
    with pytest.raises(DataError, match=r"Sigmoid got u as int\d+ \[3\].*\n.*jnp.asarray\(u, float\)"):
        Sigmoid()(np.array([1, 2, 3]))
