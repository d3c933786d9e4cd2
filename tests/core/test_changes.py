"""A function around a point: what its named values do to it, to each other, and what is not computed."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from changes_tools import relative
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from neurai_core.changes import Around, Stage
from neurai_core.errors import ModelError, UnknownName

WIDTH = 8
PRODUCTS = ("dot_general", "conv_general_dilated")


def chain(weights, x):
    h = x
    for place, w in enumerate(weights[:-1]):
        h = checkpoint_name(jnp.tanh(h @ w), f"h{place}")
    return h @ weights[-1]


def weights(depth):
    keys = jax.random.split(jax.random.key(0), depth)
    return [jax.random.normal(key, (WIDTH, WIDTH)) / 3 for key in keys]


def around_chain(depth=4):
    return Around(chain, weights(depth), jnp.ones((2, WIDTH)))


def small(here, names=None):
    rng = np.random.default_rng(0)
    return {
        name: jnp.asarray(0.1 * rng.normal(size=value.shape), value.dtype)
        for name, value in here.at.items()
        if names is None or name in names
    }


def count(function, *args, names=PRODUCTS):
    """Equations of some kind in what JAX computes, those inside others included."""

    def inside(jaxpr):
        own = sum(equation.primitive.name in names for equation in jaxpr.eqns)
        subs = (sub for equation in jaxpr.eqns for sub in jax.tree.leaves(equation.params, is_leaf=is_program))
        return own + sum(inside(getattr(sub, "jaxpr", sub)) for sub in subs if is_program(sub))

    def is_program(value):
        return hasattr(value, "eqns") or hasattr(getattr(value, "jaxpr", None), "eqns")

    return inside(jax.make_jaxpr(function)(*args).jaxpr)


def compiled_products(function, *args):
    """Matrix products in what the compiler makes of it."""
    return jax.jit(function).lower(*args).compile().as_text().count(" dot(")


def equations(function, *args):
    return len(jax.make_jaxpr(function)(*args).jaxpr.eqns)


# ---------------------------------------------------------------------------- values


def test_values_at_the_point_are_those_of_the_function():
    here = around_chain()
    assert relative(here.outputs, chain(weights(4), jnp.ones((2, WIDTH)))) == 0
    assert list(here.at) == ["h0", "h1", "h2"]
    assert here.base == {"h0": (None,), "h1": (None,), "h2": (None,)}


def test_outputs_and_predictions_change_by_what_they_depend_on(x64):
    w, x = weights(4), jnp.ones((2, WIDTH))
    here = Around(chain, w, x)
    deltas = small(here)
    outputs, predictions = here.changes(deltas)
    moved = {name: value + deltas[name] for name, value in here.at.items()}
    assert relative(outputs, moved["h2"] @ w[3] - here.outputs) < 1e-13
    assert predictions["h0"] == (None,)
    for above, below in (("h1", "h0"), ("h2", "h1")):
        place = int(above[1])
        assert relative(predictions[above][0], jnp.tanh(moved[below] @ w[place]) - here.at[above]) < 1e-13


def test_any_tree_of_outputs_and_whole_numbers_among_them():
    def function(x):
        h = checkpoint_name(x, "h")
        return {"twice": 2 * h, "fixed": x, "sign": h > 0, "floor": h.astype(int)}

    changes, _ = Around(function, jnp.array([-0.5, 2.0])).changes({"h": jnp.array([1.0, 1.0])})
    assert changes["twice"].tolist() == [2.0, 2.0]
    assert changes["fixed"] is None
    assert changes["sign"].tolist() == [True, False]
    assert changes["floor"].tolist() == [0, 1]


def test_arguments_may_be_keys_and_whole_numbers():
    def function(key, place, x):
        return checkpoint_name(x, "h")[place] * jax.random.normal(key)

    here = Around(function, jax.random.key(0), 1, jnp.arange(3.0))
    assert relative(here.changes({"h": np.ones(3)})[0], jax.random.normal(jax.random.key(0))) < 1e-6


def test_a_change_of_nothing_is_nothing():
    here = around_chain()
    outputs, predictions = here.changes({"h0": None})
    assert outputs is None
    assert predictions == {"h0": (None,), "h1": (None,), "h2": (None,)}


def test_narrow_floats_have_wide_changes():
    def narrow(tree):
        return jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), tree)

    here = Around(chain, narrow(weights(4)), jnp.ones((2, WIDTH), jnp.bfloat16))
    tiny = {name: jnp.full(value.shape, 1e-6, jnp.float32) for name, value in here.at.items()}
    outputs, predictions = here.changes(tiny)
    assert here.outputs.dtype == jnp.bfloat16 and outputs.dtype == jnp.float32
    assert predictions["h1"][0].dtype == jnp.float32
    exact, _ = around_chain().changes(tiny)
    assert relative(outputs, exact) < 0.03


# ---------------------------------------------------------------------------- names


def test_a_name_that_occurs_again_is_one_more_prediction(x64):
    def function(w, x):
        up = checkpoint_name(jnp.tanh(x @ w), "h")
        down = checkpoint_name(jnp.sin(up), "top")
        return checkpoint_name(jnp.cos(down @ w.T), "h")

    w, x = jnp.eye(3) + 0.1, jnp.ones((2, 3))
    here = Around(function, w, x)
    up, top = jnp.tanh(x @ w), jnp.sin(jnp.tanh(x @ w))
    assert here.depends == {"h": (frozenset(), frozenset({"top"})), "top": (frozenset({"h"}),)}
    assert here.outputs_depend == {"h"}
    assert here.base["h"][0] is None
    assert relative(here.base["h"][1], jnp.cos(top @ w.T) - up) < 1e-14
    outputs, predictions = here.changes({"top": 0.1 * jnp.ones_like(top)})
    assert outputs is None and predictions["top"] == (None,)
    assert predictions["h"][0] is None
    assert relative(predictions["h"][1], jnp.cos((top + 0.1) @ w.T) - jnp.cos(top @ w.T)) < 1e-13


@pytest.mark.parametrize("wrap", [jax.jit, jax.checkpoint, jax.custom_jvp, lambda f: jax.vmap(f)])
def test_names_inside_calls_are_found(wrap, x64):
    inner = wrap(lambda x: checkpoint_name(jnp.sin(x), "h"))
    if isinstance(inner, jax.custom_jvp):
        inner.defjvps(lambda t, _, x: jnp.cos(x) * t)
    x = jnp.arange(3.0)
    here = Around(lambda x: jnp.exp(inner(x)), x)
    assert here.at["h"].shape == (3,)
    assert relative(here.changes({"h": jnp.ones(3)})[0], jnp.exp(jnp.sin(x) + 1) - jnp.exp(jnp.sin(x))) < 1e-14


def test_names_inside_a_scan_have_its_axis(x64):
    w, xs = jnp.asarray(weights(2)[0], float), jnp.cos(jnp.arange(5 * WIDTH)).reshape(5, WIDTH)

    def function(w, xs):
        def turn(h, x):
            h = checkpoint_name(jnp.tanh(h @ w + x), "h")
            return h, jnp.exp(h)

        return lax.scan(turn, jnp.zeros(WIDTH), xs)

    here = Around(function, w, xs)
    assert here.at["h"].shape == (5, WIDTH)
    assert here.depends == {"h": (frozenset({"h"}),)}
    deltas = small(here)
    (last, read), predictions = here.changes(deltas)
    moved = here.at["h"] + deltas["h"]
    before = jnp.concatenate([jnp.zeros((1, WIDTH)), moved[:-1]])
    assert relative(last, deltas["h"][-1]) == 0
    assert relative(read, jnp.exp(moved) - jnp.exp(here.at["h"])) < 1e-13
    assert relative(predictions["h"][0], jnp.tanh(before @ w + xs) - here.at["h"]) < 1e-12


def test_what_all_turns_of_a_scan_share_is_kept_once():
    w, xs = jnp.ones((WIDTH, WIDTH)), jnp.ones((50, WIDTH))

    def function(w, xs):
        def turn(h, x):
            return (checkpoint_name(jnp.tanh(h @ w.T + x), "h"), None)

        return lax.scan(turn, jnp.zeros(WIDTH), xs)[0]

    here = Around(function, w, xs)
    assert max(leaf.size for leaf in jax.tree.leaves(here._carry)) == 50 * WIDTH


@pytest.mark.parametrize("kind", ["cond", "while"])
def test_a_name_where_data_decide_what_is_run_is_an_error(kind):
    def named(x):
        return checkpoint_name(x, "h")

    if kind == "cond":

        def function(x):
            return lax.cond(x > 0, named, jnp.sin, x)
    else:

        def function(x):
            return lax.while_loop(lambda x: x < 3, lambda x: named(x) + 1, x)

    with pytest.raises(ModelError, match=f"inside '{kind}' have names"):
        Around(function, 1.0)


def test_one_name_for_values_of_different_shapes_is_an_error():
    with pytest.raises(ModelError, match=r"'h' names values of shapes \(3,\) and \(\)"):
        Around(lambda x: checkpoint_name(checkpoint_name(x, "h").sum(), "h"), jnp.ones(3))


def test_a_wrong_name_or_shape_is_an_error():
    here = around_chain()
    with pytest.raises(UnknownName, match=r"No value is named 'h_1'.*'h1'"):
        here.changes({"h_1": here.at["h1"]})
    with pytest.raises(ModelError, match=r"change of 'h1' has shape \(8,\); the value has \(2, 8\)"):
        here.changes({"h1": jnp.zeros(8)})


# ---------------------------------------------------------------------------- derivatives


def test_the_pull_back_is_that_at_the_moved_point(x64):
    w, x = [jnp.asarray(one, float) for one in weights(4)], jnp.ones((2, WIDTH))
    here = Around(chain, w, x)
    deltas = small(here)
    ours = jax.grad(lambda d: jnp.sum(here.changes(d)[1]["h2"][0] ** 2))(deltas)
    true = jax.grad(lambda h: jnp.sum((jnp.tanh(h @ w[2]) - here.at["h2"]) ** 2))(here.at["h1"] + deltas["h1"])
    assert relative(ours["h1"], true) < 1e-13
    assert not np.any(ours["h0"]) and not np.any(ours["h2"])


def test_a_spike_jumps_and_has_the_derivative_of_its_surrogate():
    import neurai_core as neurai

    spike = neurai.surrogate("superspike", alpha=3.0)
    x, step = jnp.array([-0.1, -0.1, 0.2]), jnp.array([0.0, 0.3, -0.5])
    here = Around(lambda x: spike(checkpoint_name(x, "u")), x)
    change, pull = jax.vjp(lambda d: here.changes({"u": d})[0], step)
    assert change.tolist() == [0.0, 1.0, -1.0]
    np.testing.assert_allclose(pull(jnp.ones(3))[0], spike.derivative(x + step), rtol=1e-6)


def test_a_custom_pull_back_is_kept(x64):
    @jax.custom_vjp
    def straight(x):
        return jnp.exp(x)

    straight.defvjp(lambda x: (jnp.exp(x), x), lambda x, g: (7 * g * x,))
    here = Around(lambda x: straight(checkpoint_name(x, "h")), 0.0)
    change, pull = jax.vjp(lambda d: here.changes({"h": d})[0], jnp.asarray(1e-9))
    assert change == pytest.approx(1e-9 + 5e-19, rel=1e-15)
    assert float(pull(1.0)[0]) == pytest.approx(7e-9)


def test_parameters_may_be_differentiated_through_changes(x64):
    def change(w):
        return Around(lambda w, x: jnp.tanh(w * checkpoint_name(x, "h")), w, 0.3).changes({"h": jnp.asarray(0.2)})[0]

    true = jax.grad(lambda w: jnp.tanh(w * 0.5) - jnp.tanh(w * 0.3))(0.7)
    assert float(jax.grad(change)(0.7)) == pytest.approx(float(true), rel=1e-13)


def test_second_derivatives_are_those_at_the_moved_point(x64):
    here = Around(lambda x: jax.nn.gelu(checkpoint_name(x, "h")), 0.3)
    ours = jax.grad(jax.grad(lambda d: here.changes({"h": d})[0]))(0.4)
    assert float(ours) == pytest.approx(float(jax.grad(jax.grad(jax.nn.gelu))(0.7)), rel=1e-12)


# ---------------------------------------------------------------------------- what is not computed


def energy(here, deltas, resting=()):
    outputs, predictions = here.changes(deltas, resting=resting)
    total = jnp.sum((here.outputs + (0 if outputs is None else outputs)) ** 2)
    for name, (prediction,) in predictions.items():
        if prediction is not None:
            total += jnp.sum((prediction - deltas.get(name, 0)) ** 2)
    return total


def test_a_sweep_costs_one_product_up_and_one_down_per_prediction():
    here = around_chain(6)
    # 5 activities: every one enters one product
    assert count(jax.grad(lambda d: energy(here, d)), small(here)) == 2 * 5


def test_a_product_of_two_that_move_costs_two_up_and_two_down():
    here = Around(lambda x: checkpoint_name(x, "a") @ checkpoint_name(jnp.sin(x), "b"), jnp.ones((3, 3)))
    squared = jax.grad(lambda deltas: jnp.sum(here.changes(deltas)[0] ** 2))
    assert compiled_products(squared, small(here)) == 4


def test_what_has_not_moved_costs_nothing():
    here = around_chain(6)
    deltas = {**small(here, ["h4"]), "h3": jnp.zeros((2, WIDTH))}
    assert count(jax.grad(lambda d: energy(here, d)), deltas) == 2 * 2
    assert compiled_products(jax.grad(lambda d: energy(here, d, ["h3"])), deltas) == 2 * 2 - 1


def test_a_resting_activity_feels_the_same_force():
    here = around_chain(6)
    deltas = {**small(here), "h2": jnp.zeros((2, WIDTH))}
    ours = jax.grad(lambda d: energy(here, d, ["h2"]))(deltas)
    assert relative(ours, jax.grad(lambda d: energy(here, d))(deltas)) < 1e-6


def test_a_resting_loop_is_not_run():
    def function(w, xs):
        named = checkpoint_name(xs, "xs")
        return lax.scan(lambda h, x: (jnp.tanh(h @ w + x), None), jnp.zeros(WIDTH), named)[0]

    here = Around(function, weights(1)[0], jnp.ones((3, WIDTH)))
    zeros = {"xs": jnp.zeros((3, WIDTH))}

    def of(resting):
        return lambda d: here.changes(d, resting=resting)[0]

    assert count(of(["xs"]), zeros, names=["scan"]) < count(of([]), zeros, names=["scan"]) == 1
    ours, true = (jax.jacobian(of(resting))(zeros) for resting in (["xs"], []))
    assert relative(ours, true) < 1e-6


def test_values_are_computed_once_and_not_in_every_sweep():
    def relaxed(w, x):
        here = Around(chain, w, x)
        start = jax.tree.map(jnp.zeros_like, here.at)
        return lax.fori_loop(
            0, 9, lambda _, d: jax.tree.map(lambda a, g: a - 0.1 * g, d, jax.grad(lambda d: energy(here, d))(d)), start
        )

    # 6 products for the values, and for each of 5 activities one up and one down in the loop
    assert compiled_products(relaxed, weights(6), jnp.ones((2, WIDTH))) == 6 + 2 * 5


def test_the_program_grows_in_proportion_to_the_depth():
    points = map(around_chain, (5, 10, 20))
    sizes = [equations(jax.grad(partial(energy, here)), small(here)) for here in points]
    assert sizes[2] - sizes[1] == 2 * (sizes[1] - sizes[0])


# ---------------------------------------------------------------------------- the light cone


def test_the_cone_of_a_chain_grows_by_one_activity_a_sweep():
    stages = around_chain(5).cone(20)
    assert stages == (
        Stage(("h3",), ("h3",), 1),
        Stage(("h2", "h3"), ("h2",), 1),
        Stage(("h1", "h2", "h3"), ("h1",), 1),
        Stage(("h0", "h1", "h2", "h3"), ("h0",), 1),
    )
    assert around_chain(5).cone(2) == stages[:2]


def test_a_long_cone_has_stages_of_several_sweeps():
    stages = around_chain(31).cone(100, visits=120)
    assert sum(stage.sweeps for stage in stages) == 30
    assert sum(len(stage.names) for stage in stages) <= 150
    assert all(stage.resting == () for stage in stages if stage.sweeps > 1)


def test_a_force_also_comes_from_a_prediction_that_has_changed():
    def function(x):
        low = checkpoint_name(jnp.sin(x), "low")
        middle = checkpoint_name(jnp.sin(low), "middle")
        high = checkpoint_name(jnp.sin(middle), "high")
        return checkpoint_name(jnp.sin(high), "top") + low

    stages = Around(function, 1.0).cone(9)
    assert [set(stage.resting) for stage in stages] == [{"low", "top"}, {"middle", "high"}]


def test_a_second_prediction_exerts_a_force_from_the_start():
    def function(x):
        low = checkpoint_name(jnp.sin(x), "low")
        high = checkpoint_name(jnp.sin(low), "high")
        checkpoint_name(jnp.cos(high), "low")
        return checkpoint_name(jnp.sin(high), "top")

    assert set(Around(function, 1.0).cone(9)[0].names) == {"low", "high", "top"}
