"""PEPITA: its forward weights come to align with its feedback, and what it cannot train is said."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import neurai_core as neurai
from neurai_core.errors import ModelError, UsageError
from neurai_core.layered import Layered, conv, dense, flatten, residual
from neurai_core.models import mlp
from neurai_core.rule import problem_of
from neurai_core.training.loop import train_task
from neurai_core.training.settings import choose
from neurai_core.training.task import prepare

pytestmark = pytest.mark.usefixtures("quick_compile")

MODEL = mlp((8, 7, 6, 4), activation="tanh")


def test_the_forward_weights_come_to_align_with_the_feedback() -> None:
    """Section 5 of the paper: at first the direction of the hidden layer is as good as random."""
    settings = {"rule": "pepita", "align": True, "epochs": 5, "model": "mlp:64,relu"}
    rows = train_task(prepare(choose(settings, environ={}))).rows
    hidden, last = ([row.values[f"aux/alignment/cosine/{layer}"] for row in rows] for layer in (0, 1))
    assert hidden[0] < 0.1 and hidden[-1] > 0.15
    assert min(last) > 0.95


class TestWhatItCannotTrainOn:
    def test_inputs_that_the_model_does_not_take_are_not_the_fault_of_the_rule(self) -> None:
        params, _ = MODEL.init(jax.random.key(0), (8,))
        told = problem_of((jnp.ones((5, 9)), jnp.zeros(5, int)), classes=4)
        with pytest.raises(ModelError, match=r"Layer 0 .* cannot take an input of shape float32\[5,9\]"):
            neurai.algorithm("pepita").init(MODEL, params, key=jax.random.key(1), problem=told)

    def test_without_the_form_of_the_inputs_there_is_nothing_to_project_onto(self) -> None:
        params, _ = MODEL.init(jax.random.key(0), (8,))
        with pytest.raises(UsageError, match="projects the error onto the inputs, and their number is not known"):
            neurai.algorithm("pepita").init(MODEL, params, key=jax.random.key(1))

    def test_images_and_layers_that_are_not_dense_are_named(self) -> None:
        images = Layered((conv(2, 3), flatten(), dense(4)))
        vectors = Layered((dense(4), residual(dense(4)), dense(4)))
        for model, shape, said in (
            (images, (6, 6, 1), "vectors"),
            (vectors, (8,), r"layer 1 \(residual.*\) is not dense"),
        ):
            params, _ = model.init(jax.random.key(0), shape)
            told = problem_of((jnp.ones((5, *shape)), jnp.zeros(5, int)), classes=4)
            with pytest.raises(ModelError, match=said):
                neurai.algorithm("pepita").init(model, params, key=jax.random.key(1), problem=told)
