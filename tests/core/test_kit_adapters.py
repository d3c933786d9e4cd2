"""The checks of adapters catch what they are for: each mutant breaks one property and fails one check.

This module is the library that is adapted: its models are lists of matrices with tanh between them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from neurai_core.adapting import Adapted, Adapter, Example
from neurai_core.errors import ModelError
from neurai_core.layered import Layered, linear_layer
from neurai_core.plugin import Plugin
from neurai_core.specs import AdapterSpec
from neurai_core.testing import check_adapter, failures

pytestmark = pytest.mark.usefixtures("quick_compile")
X = jax.random.normal(jax.random.key(0), (5, 4))
NAMES = f"{__name__}.Net", f"{__name__}.Counting"
SPEC = {"name": __name__, "summary": "One that may break one property.", "library": "Matrices", "models": NAMES}


class Net:
    def __init__(self):
        keys = jax.random.split(jax.random.key(1))
        self.weights = [jax.random.normal(keys[0], (4, 3)).at[0, 0].set(5.0), jax.random.normal(keys[1], (3, 2))]

    def __call__(self, weights, x):
        return jnp.tanh(x @ weights[0]) @ weights[1]


class Counting(Net):
    """Also counts its training passes."""

    def __init__(self):
        super().__init__()
        self.seen = jnp.zeros(())


def examples():
    def training(model, params, loss):
        weights, *seen = params if isinstance(model, Counting) else (params,)
        value, grads = jax.value_and_grad(lambda weights: loss(model(weights, X)))(weights)
        if isinstance(model, Counting):
            return value, (grads, jnp.zeros(())), (weights, seen[0] + 1)
        return value, grads, params

    net, counting = Net(), Counting()
    return {
        NAMES[0]: Example(net, net.weights, X, partial(training, net)),
        NAMES[1]: Example(counting, own_params(counting), X, partial(training, counting), layered=False),
    }


def own_params(model):
    return (model.weights, model.seen) if isinstance(model, Counting) else model.weights


# ---- a sound adapter, with a switch for every defect


@dataclass(frozen=True)
class Bridge:
    defect: str = ""
    extra: Any = None
    model: Any = field(default=None, compare=False)

    def __call__(self, params, x):
        return self.apply(params, (), x)[0]

    def apply(self, params, model_state, x, *, key=None, train=False):
        first, last = (layer["matrix"] for layer in params)
        if self.defect == "writes":
            self.model.weights = [first, last]
        outputs = (jnp.sin if self.defect == "function" else jnp.tanh)(x @ first) @ last
        counted = train and self.defect != "not counted" and model_state != ()
        return outputs, {"seen": model_state["seen"] + 1} if counted else model_state


class Odd:
    """One that is no dict, list or tuple."""

    def __init__(self, matrix):
        self.matrix = matrix

    def __getitem__(self, name):
        return self.matrix


jax.tree_util.register_pytree_node(Odd, lambda odd: ([odd.matrix], None), lambda _, kept: Odd(*kept))


def split(defect, params):
    weights, state = params if isinstance(params, tuple) else (params, ())
    plain = tuple((Odd(one) if defect == "container" else {"matrix": one}) for one in weights)
    return plain, {"seen": state} if isinstance(params, tuple) else ()


def join(defect, params, model_state):
    weights = [layer["matrix"] for layer in params]
    if defect == "join":
        weights = [jnp.clip(one, -4.0, 4.0) for one in weights]
    return (weights, model_state["seen"]) if model_state != () else weights


def matmul(params, x):
    return x @ params["matrix"]


def other_matmul(params, x):
    return x @ params["matrix"] * 1.01


def adapt(defect, model, *, needs, input_shape=None):
    pair = partial(split, defect), partial(join, defect)
    if defect == "refuses" and isinstance(model, Counting):
        raise ModelError("Counting is not supported.")
    if needs == "layered":
        if isinstance(model, Counting) or defect == "no layers":
            raise ModelError("It cannot be split.")
        linear = other_matmul if defect == "layer" else matmul
        return Adapted(
            Layered(tuple(linear_layer(None, linear, name, "matrix") for name in ("tanh", "identity"))), *pair
        )
    return Adapted(Bridge(defect, object() if defect == "unequal" else None, model), *pair)


def moving(model):
    """The model's own parameters, which a careless adapter has changed when it is asked again."""
    model.weights = [one + 1 for one in model.weights]
    return own_params(model)


def plugin(defect="", params=own_params, made=examples, **spec):
    adapter = Adapter(partial(adapt, defect), params, examples=made)
    return Plugin(AdapterSpec(**{**SPEC, **spec}), lambda config, **context: adapter)


MUTANTS = [
    ("accepts", plugin(models=(*NAMES, "Other"))),
    ("accepts", plugin(name="other")),
    ("accepts", plugin(known_failures={"layer": "it has none"})),
    ("plain", plugin("container")),
    ("round-trip", plugin("join")),
    ("gradients", plugin("function")),
    ("collections", plugin("not counted")),
    ("layers", plugin("no layers")),
    ("layers", plugin("layer")),
    ("same-again", plugin("unequal")),
    ("untouched", plugin("writes")),
    ("untouched", plugin(params=moving)),
]


def test_the_sound_one_passes_every_check():
    assert {one.status for one in check_adapter(plugin())} == {"passed", "skipped"}  # loaded from no module


@pytest.mark.parametrize(("caught", "mutant"), MUTANTS, ids=[name for name, _ in MUTANTS])
def test_a_mutant_is_caught_by_its_check_and_no_other(caught, mutant):
    failed = failures(check_adapter(mutant))
    assert [one.check for one in failed] == [caught], [(one.check, one.reason) for one in failed]
    assert failed[0].reason and failed[0].hint
    assert not failed[0].reason[0].isdigit(), "a figure without words"


def test_without_examples_checks_are_skipped_and_say_how_to_give_them():
    found = check_adapter(plugin(made=None))
    assert {one.status for one in found} == {"skipped"}
    assert found[0].reason == "it has no examples: Adapter(..., examples=...), or check_adapter(..., examples=...)"
    assert not failures(check_adapter(plugin(made=None), examples=examples()))


def test_without_its_library_an_adapter_is_skipped_with_the_command_that_installs_it():
    (found, *_) = check_adapter(plugin(requires={"no_such_library": "neurai[matrices]"}))
    assert found.status == "skipped" and "python -m pip install 'neurai[matrices]'" in found.reason


def test_a_model_that_is_refused_is_named():
    failed = failures(check_adapter(plugin("refuses"), only=["accepts"]))
    assert [one.reason for one in failed] == ["Counting is not supported."]
