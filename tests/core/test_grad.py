"""``grad`` keeps its documented arguments and conventions."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neurai_core.errors import UsageError
from neurai_core.grads import grad


def cubic(x, y):
    return jnp.sum(x**3 * y)


X, Y = jnp.array([1.0, 2.0]), jnp.array([3.0, 4.0])


def test_it_equals_jax_grad():
    np.testing.assert_array_equal(grad(cubic)(X, Y), jax.grad(cubic)(X, Y))


@pytest.mark.parametrize("argnums", [0, 1, (0, 1), (1,)])
def test_argnums_select_the_arguments(argnums):
    ours, theirs = grad(cubic, argnums)(X, Y), jax.grad(cubic, argnums)(X, Y)
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_return_fun_value_is_value_and_grad():
    value, slope = grad(cubic, return_fun_value=True)(X, Y)
    expected_value, expected_slope = jax.value_and_grad(cubic)(X, Y)
    assert value == expected_value
    np.testing.assert_array_equal(slope, expected_slope)


def test_has_aux_hands_the_second_part_back():
    def with_aux(x):
        return jnp.sum(x**2), {"seen": x}

    slope, aux = grad(with_aux, has_aux=True)(X)
    np.testing.assert_array_equal(slope, 2 * X)
    np.testing.assert_array_equal(aux["seen"], X)
    (value, aux), slope = grad(with_aux, has_aux=True, return_fun_value=True)(X)
    assert value == 5.0
    np.testing.assert_array_equal(aux["seen"], X)


def test_holomorphic_functions_are_differentiated():
    assert grad(lambda z: z**2, holomorphic=True)(1.0 + 2.0j) == 2.0 + 4.0j


def test_integers_are_differentiated_when_allowed():
    assert grad(lambda n: n * 2.0, allow_int=True)(3).dtype == jax.dtypes.float0


def test_keyword_arguments_reach_the_function():
    assert grad(lambda x, scale: scale * x)(1.0, scale=5.0) == 5.0


def test_without_reduce_axes_a_mapped_gradient_is_per_example():
    w, x = jnp.array(2.0), jnp.arange(4.0)
    per_example = jax.vmap(grad(lambda w, x: w * x), in_axes=(None, 0), axis_name="batch")(w, x)
    np.testing.assert_array_equal(per_example, x)


@pytest.mark.parametrize("axes", ["batch", ("batch",), ["batch"]])
def test_reduce_axes_give_the_total_gradient(axes):
    w, x = jnp.array(2.0), jnp.arange(4.0)
    total = jax.vmap(grad(lambda w, x: w * x, reduce_axes=axes), in_axes=(None, 0), axis_name="batch")(w, x)
    np.testing.assert_array_equal(total, jnp.full(4, 6.0))


def test_reduce_axes_over_two_named_axes():
    def total(w, x):
        return grad(lambda w, x: w * x, reduce_axes=("rows", "columns"))(w, x)

    x = jnp.arange(6.0).reshape(2, 3)
    inner = jax.vmap(total, in_axes=(None, 0), axis_name="columns")
    outer = jax.vmap(inner, in_axes=(None, 0), axis_name="rows")
    np.testing.assert_array_equal(outer(1.0, x), jnp.full((2, 3), 15.0))


def test_reduce_axes_sum_once_under_shard_map():
    script = """
        import jax, jax.numpy as jnp
        from jax.sharding import AxisType, PartitionSpec as P
        from neurai_core.grads import grad

        mesh = jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Auto,))
        total = grad(lambda w, x: jnp.sum(w * x), reduce_axes=("batch",))
        for check in (True, False):
            mapped = jax.shard_map(total, mesh=mesh, in_specs=(P(), P("batch")), out_specs=P(), check_vma=check)
            assert jax.jit(mapped)(jnp.ones(1), jnp.arange(4.0)).tolist() == [6.0], check
    """
    environment = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], env=environment, check=True)


def test_wrong_use_says_what_was_expected():
    with pytest.raises(UsageError, match="expected a function"):
        grad(3.0)
    with pytest.raises(UsageError, match="differentiates argument 2 and was called with 1"):
        grad(cubic, argnums=2)(X)
