"""Every registered rule that names a definition gives, in float64, the gradients that its definition gives."""

from __future__ import annotations

import ast
from functools import partial
from itertools import cycle
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neurai_core as neurai
from neurai_core.layered import dense
from neurai_core.losses import loss_function
from neurai_core.models import mlp
from neurai_core.models.spiking import ALIF, Leaky, SpikingNetwork, Stage
from neurai_core.plugin import resolve, source_of
from neurai_core.specs import AlgorithmSpec

pytestmark = pytest.mark.usefixtures("x64", "quick_compile")
LOSSES = ("cross_entropy", "squared_error")
# Settings of rules that have more to say than their defaults and modes. A mode that is here is tried so, and only so.
MORE: dict[str, tuple[dict[str, Any], ...]] = {
    "pc": (
        {"eta": 0.3, "fresh": True, "loss_scale": "per_sample"},
        {"mode": "fixed_pred", "eta": "exponential_decay(0.9, 1, 0.8)", "n": 5, "fresh": True},
        {"nudge": "centered", "beta": 0.3, "n": 7},
        {"mode": "error", "nudge": "negative", "beta": 0.3, "loss_scale": 2.0},
        {"mode": "incremental", "optimizer": "sgd(0.05)", "loss_scale": 3.0},
    ),
    "bipc": (
        {
            "mode": "bistrict",
            "loss_b": "mse",
            "alpha_f": 0.7,
            "alpha_b": 0.3,
            "precision": 2.0,
            "loss_scale": "per_sample",
            "fresh": True,
        },
    ),
    "ep": (
        {"energy": "hopfield", "activation": "sigmoid", "dt": 0.5, "beta": 0.5},
        {"energy": "hopfield", "mode": "symmetric", "beta": 0.3, "init": "feedforward", "tau": 2.0, "n_nudged": 5},
        {"mode": "two_phase_matched", "activation": "sigmoid", "init": "zeros", "beta": -0.5},
    ),
    "eprop": ({"feedback": "random"},),
}


def defined() -> list[AlgorithmSpec]:
    """The rules that the registry knows and that name a definition."""
    return [spec for name in neurai.names("algorithm") if (spec := neurai.spec("algorithm", name)).definition]


def settings_of(spec: AlgorithmSpec) -> list[dict[str, Any]]:
    """The defaults, what there is more, and every mode that is not among them."""
    found = [{}, *MORE.get(spec.name, ())]
    field = spec.config.model_fields.get("mode")
    if field is None:
        return found
    values = get_args(field.annotation) or getattr(field.annotation, "__members__", {}).values()
    tried = {one.get("mode", field.default) for one in found}
    return found + [{"mode": str(value)} for value in values if value not in tried]


def cases() -> list[Any]:
    """Rule, loss and settings; the losses take turns."""
    given = [(spec.name, one) for spec in defined() for one in settings_of(spec)]
    return [
        pytest.param(name, loss, one, id="-".join([name, loss, *map(str, one.values())]))
        for (name, one), loss in zip(given, cycle(LOSSES), strict=False)
    ]


def built(name: str, loss: str, settings: dict[str, Any]) -> Any:
    """The rule, at the step that is documented."""
    config = neurai.spec("algorithm", name).config
    if "stable" in config.model_fields and "stable" not in config(**settings).unused():
        settings = {"stable": False} | settings
    return config(**settings), neurai.algorithm(name, loss=loss, **settings)


def problem(rule: Any, spec: AlgorithmSpec, loss: str) -> tuple[Any, ...]:
    """A small network that the rule takes, with parameters that are all drawn, its state and a batch."""
    shape: tuple[int, ...] = (4,)
    model: Any = mlp((4, 6, 5, 3), "tanh")
    if "spiking" in spec.claims:
        shape = (12, 4)
        hidden = Stage(dense(6), ALIF(0.9, adaptation=0.3, synapse=0.7, detach_reset=False), recurrent=True)
        stages = (hidden, Stage(dense(3), Leaky(0.8, synapse=0.6)))
        model = SpikingNetwork(stages, neurai.surrogate("superspike", alpha=2.0))
    params, _ = model.init(jax.random.key(0), shape)
    if hasattr(rule, "extended"):
        params = rule.extended(model, params, key=jax.random.key(4), input_shape=shape)[1]
    draw = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: leaf + 0.1 * draw.normal(size=leaf.shape), params)
    x = jnp.asarray(draw.normal(size=(5, *shape)))
    y = jnp.array([0, 1, 2, 0, 1]) if loss == "cross_entropy" else jnp.asarray(draw.normal(size=(5, 3)))
    return model, params, rule.init(model, params, key=jax.random.key(5)), (x, y)


def distance(ours: Any, theirs: Any) -> float:
    """The largest distance of two leaves, relative to the second; a leaf of zeros must be met exactly."""
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    return max(float(jnp.linalg.norm(a - b) / (jnp.linalg.norm(b) or 1e-300)) for a, b in pairs)


def gradients(definition: Any, config: Any, loss: str, model: Any, *rest: Any) -> Any:
    return jax.jit(partial(definition, config, loss_function(loss), model))(*rest)


class Signs(ast.NodeTransformer):
    """Every product with a minus before it."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        return ast.UnaryOp(ast.USub(), node) if isinstance(node.op, ast.Mult) else node


def mutant(spec: AlgorithmSpec) -> Any:
    """A copy of the definition with other signs, which the test has to notice."""
    module, _, attribute = spec.definition.partition(":")
    tree = Signs().visit(ast.parse(source_of(spec.definition)))
    namespace: dict[str, Any] = {"__name__": f"{module}_mutant"}
    exec(compile(ast.fix_missing_locations(tree), "mutant", "exec"), namespace)
    return namespace[attribute]


@pytest.mark.parametrize(("name", "loss", "settings"), cases())
def test_the_estimate_is_its_definition_and_no_other(name: str, loss: str, settings: dict[str, Any]) -> None:
    spec = neurai.spec("algorithm", name)
    config, rule = built(name, loss, settings)
    model, *rest = problem(rule, spec, loss)
    try:
        theirs = gradients(resolve(spec.definition), config, loss, model, *rest)
    except NotImplementedError as refused:
        assert settings.keys() == {"mode"}, refused
        pytest.skip(f"not defined: {refused}")
    ours = jax.jit(partial(rule.estimate, model))(*rest)[0].grads
    assert max(float(jnp.linalg.norm(leaf)) for leaf in jax.tree.leaves(theirs)) > 1e-3
    assert distance(ours, theirs) < 1e-9
    if not settings:
        assert distance(gradients(mutant(spec), config, loss, model, *rest), ours) > 1e-3
