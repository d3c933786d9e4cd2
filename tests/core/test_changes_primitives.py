"""Every operation: tiny changes against its derivative, larger ones against the plain difference, both in float64."""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from changes_tools import changes_of, pulled_back, relative
from jax import lax

from neurai_core.changes.linear import ARRANGE, SUM
from neurai_core.changes.products import MATRIX, POWERS, PRODUCTS
from neurai_core.changes.reductions import REDUCTIONS

TINY, SMALL, LARGE = 1e-25, 1e-5, 1.0
SEED = np.random.default_rng(0)


def numbers(*shape, positive=False):
    x = SEED.normal(size=shape)
    return (np.abs(x) + 0.3 if positive else x).astype(np.float32)


pytestmark = pytest.mark.usefixtures("quick_compile")
ROW, TABLE, IMAGE = numbers(6), numbers(4, 6), numbers(2, 7, 6, 3)
PLACES = np.array([2, 0, 2])
NHWC = ("NHWC", "HWIO", "NHWC")


def softplus_of_dot(q, k):
    return jax.nn.softmax(q @ k.T, axis=-1) @ k


def pool(x, size, stride, padding="VALID", **dilation):
    full = [(1, *pair, 1) for pair in (size, stride)]
    return lax.reduce_window(x, -jnp.inf, lax.max, *full, padding, **dilation)


def layer_norm(x):
    centered = x - x.mean(-1, keepdims=True)
    return centered * lax.rsqrt((centered**2).mean(-1, keepdims=True) + 1e-5)


# primitive: function of arrays, the arrays
LINEAR = {
    "neg": (lambda x: -x, [ROW]),
    "reshape": (lambda x: x.reshape(3, 8), [TABLE]),
    "broadcast_in_dim": (lambda x: jnp.broadcast_to(x, (4, 6)), [ROW]),
    "transpose": (lambda x: x.T, [TABLE]),
    "squeeze": (lambda x: lax.squeeze(x, (0,)), [ROW[None]]),
    "slice": (lambda x: x[1:3], [TABLE]),
    "rev": (lambda x: x[::-1], [TABLE]),
    "copy": (lambda x: lax.copy_p.bind(x), [ROW]),
    "optimization_barrier": (lambda x, y: lax.optimization_barrier((x, y)), [ROW, TABLE]),
    "device_put": (lambda x: jax.device_put(x), [ROW]),
    "stack": (lambda x, y: jnp.stack([x, y], 1), [ROW, ROW + 1]),
    "unstack": (lambda x: jnp.unstack(x, axis=1), [TABLE]),
    "tile": (lambda x: jnp.tile(x, (2, 3)), [TABLE]),
    "split": (lambda x: lax.split(x, (1, 3)), [TABLE]),
    "concatenate": (lambda x, y: jnp.concatenate([x, 3 * jnp.ones((1, 6)), y]), [TABLE, TABLE + 1]),
    "pad": (lambda x: jnp.pad(x, 2, constant_values=7), [ROW]),
    "stop_gradient": (lambda x: x + lax.stop_gradient(2 * x), [ROW]),
    "gather": (lambda x: x.at[jnp.array([1, 9])].get(mode="fill", fill_value=5.0), [ROW]),
    "dynamic_slice": (lambda x: lax.dynamic_slice(x, (1, 2), (2, 2)), [TABLE]),
    "dynamic_update_slice": (lambda x, y: lax.dynamic_update_slice(x, y, (1, 2)), [TABLE, TABLE[:2, :2]]),
    "scatter": (lambda x: x.at[PLACES[:2]].set(3.0), [TABLE]),
    "convert_element_type": (lambda x: 2 * x.astype(jnp.float64), [ROW]),
    "add": (lambda x, y: x + y, [ROW, TABLE]),
    "add_any": (lambda x: jax.grad(lambda x: (x * x).sum())(x), [ROW]),
    "sub": (lambda x, y: x - y, [ROW, TABLE]),
    "reduce_sum": (lambda x: x.sum(1), [TABLE]),
    "cumsum": (lambda x: lax.cumsum(x, 1, reverse=True), [TABLE]),
    "reduce_window_sum": (lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 2, 2, 1), (1, 1, 1, 1), "SAME"), [IMAGE]),
    "fft": (lambda x: jnp.fft.rfft(x), [ROW]),
    "real": (lambda x: jnp.fft.rfft(x).real, [ROW]),
    "imag": (lambda x: jnp.fft.rfft(x).imag, [ROW]),
    "conj": (lambda x: jnp.conj(jnp.fft.rfft(x)), [ROW]),
    "complex": (lambda x: lax.complex(x, 2 * x), [ROW]),
    "scatter-add": (lambda x, y: x.at[PLACES].add(y[:3]), [TABLE, TABLE + 1]),
    "scatter-sub": (lambda x, y: x.at[PLACES].subtract(y[:3]), [TABLE, TABLE + 1]),
    "select_and_scatter_add": (
        lambda x: jax.grad(lambda z: (pool(z, (2, 2), (2, 2)) * x).sum())(IMAGE[:, :6].astype(x.dtype)),
        [IMAGE[:, :3, :3]],
    ),
    "select_and_gather_add": (
        lambda x: jax.jvp(lambda z: pool(z, (2, 2), (2, 2)), (IMAGE.astype(x.dtype),), (x,))[1],
        [IMAGE],
    ),
    "triangular_solve": (
        lambda y: jax.scipy.linalg.solve_triangular(np.tril(TABLE[:, :4]) + 3 * np.eye(4), y, lower=True),
        [TABLE],
    ),
    "select_n": (lambda x, y: jnp.where(TABLE > 0, x, y), [TABLE + 1, TABLE]),
}
OTHERS = {
    "mul": (lambda x, y: x * y, [ROW, TABLE]),
    "mul by itself": (lambda x: x * x, [ROW]),
    "div": (lambda x, y: x / y, [ROW, numbers(4, 6, positive=True)]),
    "square": (lambda x: jnp.square(x), [ROW]),
    "integer_pow": (lambda x: x**5, [ROW]),
    "pow": (lambda x, y: x**y, [1 + numbers(4, 6, positive=True), ROW]),
    "dot_general": (lambda x, y: x @ y.T, [TABLE, TABLE + 1]),
    "einsum": (lambda x, y: jnp.einsum("bi,bj->bij", x, y), [TABLE, TABLE + 1]),
    "conv_general_dilated": (
        lambda x, w: lax.conv_general_dilated(x, w, (2, 1), "SAME", dimension_numbers=NHWC),
        [IMAGE, numbers(3, 3, 3, 4)],
    ),
    "atan2": (lambda x, y: jnp.arctan2(x, y), [TABLE, ROW]),
    "max": (lambda x, y: jnp.maximum(x, y), [ROW, TABLE]),
    "min": (lambda x, y: jnp.minimum(x, y), [ROW, TABLE]),
    "clamp": (lambda x, y: lax.clamp(jnp.asarray(-0.5, x.dtype), x, y), [TABLE, np.abs(TABLE[::-1])]),
    "reduce_max": (lambda x: x.max(1), [TABLE]),
    "reduce_min": (lambda x: x.min(1), [TABLE]),
    "reduce_prod": (lambda x: x.prod(1), [TABLE]),
    "product of all": (lambda x: x.prod(), [TABLE[:2, :3]]),
    "cumprod": (lambda x: lax.cumprod(x, 1), [TABLE]),
    "cummax": (lambda x: lax.cummax(x, 1), [TABLE]),
    "cummin": (lambda x: lax.cummin(x, 0, reverse=True), [TABLE]),
    "reduce_window_max": (lambda x: pool(x, (2, 2), (2, 2)), [IMAGE]),
    "overlapping windows": (lambda x: pool(x, (3, 3), (2, 1), "SAME"), [IMAGE]),
    "dilated windows": (lambda x: pool(x, (2, 2), (1, 1), window_dilation=(1, 2, 3, 1)), [IMAGE]),
    "reduce_window_min": (
        lambda x: (
            -pool(-x, (2, 2), (2, 2)) + lax.reduce_window(x, jnp.inf, lax.min, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        ),
        [IMAGE],
    ),
    "logsumexp": (lambda x: jax.scipy.special.logsumexp(x, axis=1), [TABLE]),
    "softmax": (lambda x: jax.nn.softmax(x, axis=1), [TABLE]),
    "masked softmax": (lambda x: jax.nn.softmax(jnp.where(np.tri(4, 6, 2), x, -jnp.inf), axis=1), [TABLE]),
    "log_softmax": (lambda x: jax.nn.log_softmax(x, axis=1), [TABLE]),
    "attention": (softplus_of_dot, [TABLE, TABLE + 1]),
    "layer norm": (layer_norm, [TABLE]),
    "norm": (lambda x: jnp.linalg.norm(x, axis=1), [TABLE]),
    "nested scans": (
        lambda x: lax.scan(lambda c, x: lax.scan(lambda c, y: (jnp.tanh(c + y), c * y), c, x), 0.3, x),
        [TABLE],
    ),
    "reversed scan": (
        lambda x, w: lax.scan(lambda c, x: (jnp.tanh(w @ c + x), c), x[0], x, reverse=True),
        [TABLE, numbers(6, 6) / 2],
    ),
}
if hasattr(lax, "polynomial"):
    OTHERS["polynomial"] = (lambda x, y: lax.polynomial(x, [1.0, y, -0.5]), [TABLE, TABLE + 1])
# There is no safe form: the change is the plain difference, and a tiny one is lost.
PLAIN = {
    "sort": (lambda x: jnp.sort(x, 1), [TABLE]),
    "top_k": (lambda x: lax.top_k(x, 2)[0], [TABLE]),
    "floor": (lambda x: jnp.floor(3 * x), [TABLE]),
    "sign": (lambda x: jnp.sign(x), [TABLE]),
    "rem": (lambda x: x % 0.7, [TABLE]),
    "cholesky": (lambda x: jnp.linalg.cholesky(x @ x.T + np.eye(4)), [TABLE]),
    "cond": (lambda x: lax.cond(x.sum() > 0, jnp.sin, jnp.cos, x), [TABLE]),
    "while": (lambda x: lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, jnp.sin(s[1])), (0, x))[1], [TABLE]),
    "argmax": (lambda x: x[jnp.arange(4), x.argmax(1)] + x.argmax(1), [TABLE]),
    "comparison": (lambda x: (x > 0.1).astype(x.dtype) + (x > 0.1).sum(), [TABLE]),
    "cumlogsumexp": (lambda x: lax.cumlogsumexp(x, 1), [TABLE]),
}
WITHOUT_TRANSPOSE = {"while", "dilated windows", "select_and_gather_add"}  # JAX has none
SAFE = {**LINEAR, **OTHERS}
ALL = {**SAFE, **PLAIN}


def case(name, dtype):
    """The function, its arguments and directions to move them in; numbers that float32 holds."""
    function, args = ALL[name]
    rng = np.random.default_rng(1)
    directions = [rng.normal(size=x.shape).astype(np.float32) / 4 for x in args]
    return function, *([jnp.asarray(x, dtype) for x in part] for part in (args, directions))


def difference(function, args, directions, size):
    """f(x + u) - f(x)."""
    before, after = function(*args), function(*(a + size * d for a, d in zip(args, directions, strict=True)))
    return jax.tree.map(lambda b, a: b - a, after, before)


def along(name, function, args, directions):
    """The derivative; for it nothing is stopped, because a change goes through."""
    function = (lambda x: 3 * x) if name == "stop_gradient" else function
    return jax.jvp(function, tuple(args), tuple(directions))[1]


@cache
def true_changes(name):
    """In float64: the derivative for names with a rule, and differences of the two sizes above rounding."""
    function, *given = case(name, np.float64)

    @jax.jit
    def all_of(args, directions):
        differences = [difference(function, args, directions, size) for size in (np.float32(SMALL), LARGE)]
        return along(name, function, args, directions) if name in SAFE else None, *differences

    return all_of(*given)


def test_every_rule_is_here():
    assert set(ARRANGE) | set(SUM) | set(MATRIX) | set(PRODUCTS) | set(POWERS) | set(REDUCTIONS) <= {
        *SAFE, "layout_constraint", "sharding_constraint", "reduce_precision", "polynomial",
    }  # fmt: skip


@pytest.mark.parametrize("name", SAFE)
def test_in_float32_changes_of_any_size_are_those_of_float64(name, x64):
    function, *given = case(name, np.float32)
    ours = changes_of(function, *given, [TINY, SMALL, LARGE])
    derivative, small, large = true_changes(name)
    assert relative(at(ours, 0), scaled(derivative)) < 4e-6
    assert relative(at(ours, 1), small) < 4e-6
    assert relative(at(ours, 2), large) < 4e-6


@pytest.mark.parametrize("name", ALL)
def test_in_float64_a_tiny_change_is_the_derivative_and_a_large_one_the_difference(name, x64):
    function, *given = case(name, np.float64)
    ours = changes_of(function, *given, [TINY, LARGE])
    derivative, _, large = true_changes(name)
    assert relative(at(ours, 1), large) < 1e-13
    if name in SAFE:
        assert relative(at(ours, 0), scaled(derivative)) < 1e-14


@pytest.mark.parametrize("name", sorted(set(ALL) - WITHOUT_TRANSPOSE))
def test_the_derivative_is_that_at_the_moved_point(name, x64):
    function, args, directions = case(name, np.float64)

    def wave(x):
        return np.cos(np.arange(x.size)).astype(x.dtype).reshape(x.shape)

    ours, true = pulled_back(function, args, directions, jax.tree.map(wave, jax.eval_shape(function, *args)))
    assert relative(ours, true) < 1e-12


def at(tree, place):
    return jax.tree.map(lambda x: np.asarray(x)[place], tree)


def scaled(derivative):
    return jax.tree.map(lambda x: np.asarray(x) * TINY, derivative)
