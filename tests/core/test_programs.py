"""Programs: flat lists of equations that compute, and differentiate to, what the function does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

from neurai_core.programs import CALLS, Loop, Program, read_program

OFFSET = np.arange(3.0)


@jax.custom_vjp
def doubled(x: jax.Array) -> jax.Array:
    """2 x, with a derivative that no mathematics would give."""
    return checkpoint_name(2 * x, "doubled")


doubled.defvjp(lambda x: (2 * x, ()), lambda _, pull: (7 * pull,))


def model(w: jax.Array, x: jax.Array) -> dict[str, Any]:
    """A function with every kind of call, a loop, a branch, a constant, and outputs that are none of its own."""
    shifted = jax.jit(lambda x: checkpoint_name(x + 1, "shifted"))
    x = shifted(shifted(x))
    x = jax.checkpoint(lambda x: checkpoint_name(jnp.sin(x), "sine"))(doubled(x))
    last, all = jax.lax.scan(lambda c, w: (checkpoint_name(c @ w + x.sum() + OFFSET, "turn"), 2 * c), x, w)
    last = jax.lax.cond(last.sum() > 0, lambda y: y, lambda y: -y, last)
    return {"last": jax.nn.relu(last), "all": all, "one": 1.0, "offset": OFFSET, "x": x}


W, X = jnp.ones((2, 3, 3)) / 3, jnp.arange(12.0).reshape(4, 3) / 12


def rerun(program: Program, *args: Any) -> Any:
    leaves = program.run(jax.tree.leaves(args), lambda equation, operands: equation(*operands))
    return jax.tree.unflatten(program.structure, leaves)


def assert_same(a: Any, b: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_a_program_computes_what_the_function_computes(transform: Callable[..., Any]) -> None:
    program = read_program(model, W, X)
    assert_same(transform(lambda *args: rerun(program, *args))(W, X), transform(model)(W, X))


def test_a_program_has_the_custom_derivatives_of_the_function() -> None:
    program = read_program(model, W, X)

    def total(function: Callable[..., Any]) -> Any:
        return jax.grad(lambda *args: sum(map(jnp.sum, jax.tree.leaves(function(*args)))), (0, 1))(W, X)

    assert_same(total(lambda *args: rerun(program, *args)), total(model))


def test_calls_are_inlined_and_loops_are_not() -> None:
    def kinds(**settings: Any) -> list[str]:
        return [equation.primitive.name for equation in read_program(model, W, X, **settings).equations]

    kept, inlined = kinds(), kinds(inline=CALLS)
    assert {"custom_vjp_call", "custom_jvp_call", "scan", "cond"} <= set(kept)
    assert not {"jit", "custom_vjp_call", "custom_jvp_call"} & set(inlined)
    assert inlined.count("scan") == 1 and inlined.count("name") == 4


def test_every_call_writes_values_of_its_own() -> None:
    names = [e for e in read_program(model, W, X).equations if e.name == "shifted"]
    assert len(names) == 2 and names[0].results != names[1].results


def test_a_loop_says_how_it_uses_its_operands() -> None:
    (scan,) = [e for e in read_program(model, W, X).equations if e.loop]
    constants = len(scan.operands) - 2
    assert scan.loop == Loop(constants=constants, carry=1, length=2)
    assert scan.holds_names and scan.body is not None
    assert [e.name for e in scan.body.equations if e.name] == ["turn"]


def test_the_same_function_and_shapes_are_read_once() -> None:
    assert read_program(model, W, X) is read_program(model, 2 * W, 3 * X)
    assert read_program(model, W, X[:2]) is not read_program(model, W, X)


def test_a_jit_that_says_how_it_is_sharded_stays_one_equation() -> None:
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    program = read_program(jax.jit(lambda x: 2 * x, in_shardings=here), X)
    assert [equation.primitive.name for equation in program.equations] == ["jit"]
