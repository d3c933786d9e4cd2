"""Networks of Equinox and Flax models: named by the user, by their products and by their modules."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neurai_core.network import activity, network_of
from neurai_core.network_relaxation import relax

X = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)


class Case(NamedTuple):
    """A model of a library with a residual ``__call__`` of its own, its parameters, and its own call on a batch."""

    model: Any
    params: Any
    call: Any
    products: tuple[str, ...]
    modules: tuple[str, ...]


def equinox_case() -> Case:
    eqx = pytest.importorskip("equinox")

    class Net(eqx.Module):
        first: Any
        norm: Any
        rest: list[Any]
        scale: jax.Array

        def __init__(self, key: Any) -> None:
            a, b, c = jax.random.split(key, 3)
            self.first = eqx.nn.Linear(5, 8, key=a)
            self.norm = eqx.nn.LayerNorm(8)
            self.rest = [eqx.nn.Linear(8, 8, key=b), eqx.nn.Linear(8, 3, use_bias=False, key=c)]
            self.scale = jnp.ones(8)

        def __call__(self, x: jax.Array) -> jax.Array:
            h = jax.nn.relu(activity(self.first(x), "h"))
            h = h + self.scale * jnp.tanh(self.rest[0](self.norm(h)))
            return self.rest[1](h)

    model = Net(jax.random.key(0))
    params = eqx.filter(model, eqx.is_inexact_array)
    products = ("h", "rest.0.weight", "rest.1.weight")
    return Case(model, params, jax.vmap(model), products, ("first", "h", "norm", "rest.0", "rest.1"))


def linen_case() -> Case:
    nn = pytest.importorskip("flax.linen")

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            h = nn.relu(activity(nn.Dense(8)(x), "h"))
            dense = nn.Dense(8, name="twice")
            h = h + jnp.tanh(dense(nn.LayerNorm()(h)))
            return nn.Dense(3)(dense(h))

    model = Net()
    params = model.init(jax.random.key(0), X)
    products = ("h", "twice.kernel", "twice.kernel:2", "Dense_1.kernel")
    modules = ("Dense_0", "h", "LayerNorm_0", "twice", "twice:2", "Dense_1")
    return Case(model, params, lambda x: model.apply(params, x), products, modules)


def nnx_case() -> Case:
    nnx = pytest.importorskip("flax.nnx")

    class Net(nnx.Module):
        def __init__(self, rngs: Any) -> None:
            self.first = nnx.Linear(5, 8, rngs=rngs)
            self.rest = nnx.Sequential(nnx.BatchNorm(8, rngs=rngs), nnx.Linear(8, 8, rngs=rngs))
            self.drop = nnx.Dropout(0.5, rngs=rngs)
            self.out = nnx.Linear(8, 3, rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            h = jax.nn.relu(activity(self.first(x), "h"))
            return self.out(self.drop(h + jnp.tanh(self.rest(h))))

    model = Net(nnx.Rngs(0))
    params = nnx.state(model, nnx.Param)
    frozen = nnx.clone(model)
    frozen.eval()
    modules = ("first", "h", "rest.layers.0", "rest.layers.1", "drop", "out")
    return Case(model, params, frozen, ("h", "rest.layers.1.kernel", "out.kernel"), modules)


CASES = {"equinox": equinox_case, "linen": linen_case, "nnx": nnx_case}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]()


@pytest.mark.few(1)
@pytest.mark.parametrize("how", [None, "auto", "modules"])
def test_a_model_of_a_library_is_a_network(case: Case, how: str | None) -> None:
    from neurai_core.automatic_names import named

    model = case.model if how is None else named(case.model, how)
    network = network_of(model, case.params, X)
    assert network.names == {None: ("h",), "auto": case.products, "modules": case.modules}[how]
    assert all(shape[0] == 4 for shape in network.shapes.values())
    np.testing.assert_allclose(network(case.params, X)[0], case.call(X), rtol=1e-5, atol=1e-6)
    ones = {name: jnp.ones(shape) for name, shape in network.shapes.items()}
    outputs, _ = network(case.params, X, {network.names[-1]: ones[network.names[-1]]})
    if how is not None:
        np.testing.assert_array_equal(outputs, 1)


@pytest.mark.few(1)
def test_gradients_have_the_structure_of_the_library(case: Case) -> None:
    from neurai_core.automatic_names import named

    network = network_of(named(case.model, "auto"), case.params, X)
    last = network.names[-1]
    relaxed = relax(network, case.params, X, start={last: jnp.ones((4, 3))}, held={last: True}, eta=0.01, n=5)

    def energy(params: Any) -> jax.Array:
        predictions = network(params, X, relaxed.activities)[1]
        return sum(jnp.sum((predictions[k][0] - v) ** 2) for k, v in relaxed.activities.items())

    grads = jax.grad(energy)(case.params)
    assert jax.tree.structure(grads) == jax.tree.structure(case.params)
    assert sum(float(jnp.abs(g).max()) > 0 for g in jax.tree.leaves(grads)) > 4


def test_a_dropout_mask_is_held() -> None:
    """In training with a key, the network is one function: the same draw in every evaluation."""
    case = nnx_case()
    network = network_of(case.model, case.params, X, key=jax.random.key(3), train=True)
    first, again = network(case.params, X)[0], network(case.params, X)[0]
    np.testing.assert_array_equal(first, again)
    other = network_of(case.model, case.params, X, key=jax.random.key(4), train=True)
    assert bool(jnp.any(other(case.params, X)[0] != first))


def test_naming_leaves_the_model_of_the_user_as_it_is(case: Case) -> None:
    from neurai_core.automatic_names import named

    kinds = [type(one) for one in jax.tree.leaves(case.model, is_leaf=lambda n: n is not case.model)]
    network_of(named(case.model, "modules"), case.params, X)
    assert kinds == [type(one) for one in jax.tree.leaves(case.model, is_leaf=lambda n: n is not case.model)]
    assert network_of(case.model, case.params, X).names == ("h",)
