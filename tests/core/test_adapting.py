"""What a rule gets to see of a model, and what happens when it cannot."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import neurai_core as neurai
from neurai_core.adapting import Adapted, Adapter, adapt, as_layered, own_params
from neurai_core.errors import ModelError
from neurai_core.layered import Layered, Variables, dense
from neurai_core.models import mlp
from neurai_core.plugin import Plugin
from neurai_core.specs import AdapterSpec


def test_a_layered_is_seen_as_it_is():
    model = mlp((3, 2))
    params, _ = model.init(jax.random.key(0), (3,))
    layered, split, model_state = as_layered(model, params)
    assert layered is model and split is params and model_state == ()


def test_variables_carry_the_model_state_in_and_out():
    adapted = adapt(mlp((3, 2)))
    assert adapted.split(Variables("params", ("state",))) == ("params", ("state",))
    assert adapted.join("grads", ("state",)) == Variables("grads", ("state",))
    assert adapted.join("grads", ()) == "grads"


def test_any_callable_serves_a_rule_that_needs_no_layers():
    def model(params, x):
        return x @ params

    adapted = adapt(model)
    assert adapted.model is model and own_params(model) is None


def test_an_opaque_callable_cannot_be_layered():
    def opaque(params, x):
        return x @ params

    with pytest.raises(ModelError, match="opaque is one opaque callable") as caught:
        adapt(opaque, needs="layered")
    assert "Layered((" in caught.value.hint


def test_something_that_is_no_model_is_refused():
    with pytest.raises(ModelError, match="The model is a int"):
        adapt(3)


def test_params_outside_the_model_must_be_given():
    with pytest.raises(ModelError, match="keeps its parameters separately"):
        as_layered(mlp((3, 2)))


class Library:
    """A model of a library with an adapter of its own."""


def test_a_third_partys_adapter_is_found_by_the_name_of_its_library():
    inner = Layered((dense(2),))

    def split(params):
        return (params,), ()

    def adapt_library(model, *, needs, input_shape=None):
        return Adapted(inner, split, lambda tree, model_state: tree[0])

    def build(config, **context):
        return Adapter(adapt_library, lambda model: {"w": jnp.ones((3, 2))})

    library = Library.__module__.partition(".")[0]
    plugin = Plugin(AdapterSpec(name=library, summary="Models of a test."), build)
    with neurai.temporary(plugin):
        layered, params, model_state = neurai.as_layered(Library())
        assert layered == inner and params[0]["w"].shape == (3, 2) and model_state == ()
        bp = neurai.grads.BP("mse")
        grads, loss, accuracy = bp.get_grads(Library(), {"w": jnp.ones((3, 2))}, (jnp.ones((4, 3)), jnp.zeros((4, 2))))
        assert grads["w"].shape == (3, 2) and loss == 9.0 and accuracy == -1
