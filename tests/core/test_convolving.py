"""Forms of convolutions: the same derivatives, and which of them is taken."""

from __future__ import annotations

from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurai_core.errors import ModelError
from neurai_core.layered import ConvForms, Convolution, avg_pool, conv, convolving, joins, max_pool, mean_pooled
from neurai_core.program_convolutions import convolution_of
from neurai_core.programs import read_program

KEY = jax.random.key(0)
ALL, PAIRS = ConvForms("shifts", "patches", "chunks"), ConvForms("pairs", "patches", "chunks")
SMALL = {"CHUNK": 600, "SEVERAL": 0, "MANY": 0, "FEWER": 600}
FEW = st.tuples(st.integers(1, 2), st.integers(1, 2))
PADS = st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2)


def plain(convolution):
    """The same convolution, as JAX differentiates it."""
    return lambda x, w: jax.lax.conv_general_dilated(
        x,
        w,
        convolution.stride,
        convolution.padding,
        rhs_dilation=convolution.dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


@jax.jit(static_argnums=0)
def derivatives(function, x, w):
    """Of first and second order, forward and reverse."""
    along = jnp.cos(x), jnp.sin(w)
    cubes = lambda x, w: jnp.sum(function(x, w) ** 3)  # noqa: E731
    slopes = jax.grad(cubes, (0, 1))
    twice = jax.grad(lambda x, w: sum(jnp.sum(g * v) for g, v in zip(slopes(x, w), along, strict=True)), (0, 1))
    return jax.jvp(function, (x, w), along), slopes(x, w), jax.jvp(slopes, (x, w), along), twice(x, w)


def same(ours, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), ours, expected)


@pytest.mark.slow
@given(
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    channels=FEW,
    stride=FEW,
    dilation=FEW,
    padding=st.one_of(st.sampled_from(["SAME", "SAME_LOWER", "VALID"]), PADS),
    more=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    batch=st.sampled_from([1, 4, 5]),
    forms=st.sampled_from([ALL, PAIRS]),
)
@settings(max_examples=6, deadline=None)
def test_every_form_has_the_derivatives_of_jax(kernel, channels, stride, dilation, padding, more, batch, forms):
    side = [(size - 1) * step + 1 + extra for size, step, extra in zip(kernel, dilation, more, strict=True)]
    convolution = Convolution(stride, padding, dilation, forms)
    with jax.enable_x64(True), mock.patch.multiple(convolving, **SMALL):  # a few examples in a chunk
        x = jax.random.normal(KEY, (batch, *side, channels[0]))
        w = jax.random.normal(KEY, (*kernel, *channels))
        same(derivatives(convolution, x, w), derivatives(plain(convolution), x, w))


@pytest.mark.parametrize(
    ("stride", "padding", "dilation"),
    [((1, 1), "SAME", (1, 1)), ((2, 1), "VALID", (1, 1)), ((1, 2), ((0, 1), (2, 0)), (2, 3))],
)
def test_pairs_of_pixels_are_the_same_convolution(x64, stride, padding, dilation):
    x, w = jax.random.normal(KEY, (2, 8, 9, 2)), jax.random.normal(KEY, (3, 2, 2, 3))
    convolution = Convolution(stride, padding, dilation, PAIRS)
    expected, back = jax.vjp(plain(convolution), x, w)
    ours, our_back = jax.vjp(convolution, x, w)
    same((ours, our_back(jnp.cos(expected))), (expected, back(jnp.cos(expected))))


def test_parts_of_the_batch_add_up_to_the_derivative_by_the_weights(x64):
    x, w = jax.random.normal(KEY, (6, 5, 4, 2)), jax.random.normal(KEY, (3, 2, 2, 3))
    convolution = Convolution((2, 1), "SAME", forms=ALL)
    ours, expected = (
        jax.grad(lambda w, function=function: jnp.sum(function(x, w) ** 2))
        for function in (convolution, plain(convolution))
    )
    with mock.patch.object(convolving, "CHUNK", 2000):  # three examples
        assert "length=2" in str(jax.make_jaxpr(ours)(w))
        same(jax.jit(ours)(w), jax.jit(expected)(w))


def test_a_constant_kernel_costs_no_derivative_of_its_own():
    x, w = jnp.ones((64, 32, 32, 9)), jnp.ones((3, 3, 9, 9))
    convolution = Convolution((1, 1), "SAME")
    assert convolution.chosen(x, w).weights == "chunks"
    program = str(jax.make_jaxpr(jax.grad(lambda x: jnp.sum(convolution(x, w) ** 2)))(x))
    assert program.count("conv_general_dilated[") == 2
    assert "scan" not in program


@pytest.mark.parametrize(
    ("x", "w", "stride", "expected"),
    [
        ((64, 28, 28, 1), (5, 5, 1, 6), 1, ("shifts", "patches", "xla")),
        ((64, 28, 28, 1), (5, 5, 1, 32), 1, ("xla", "patches", "chunks")),
        ((64, 28, 28, 1), (9, 9, 1, 6), 1, ("xla", "xla", "xla")),
        ((64, 32, 32, 16), (3, 3, 16, 32), 1, ("xla", "xla", "chunks")),
        ((64, 32, 32, 32), (3, 3, 32, 32), 2, ("xla", "patches", "xla")),
        ((64, 14, 14, 6), (5, 5, 6, 16), 1, ("pairs", "patches", "xla")),
        ((64, 14, 14, 6), (5, 5, 6, 16), 2, ("xla", "patches", "xla")),
    ],
)
def test_the_automatic_choice_is_the_documented_rule(x, w, stride, expected):
    for dtype, forms in ((jnp.float32, expected), (jnp.bfloat16, ("xla", "xla", "xla"))):
        arrays = jax.ShapeDtypeStruct(x, dtype), jax.ShapeDtypeStruct(w, dtype)
        assert Convolution((stride, stride), "SAME").chosen(*arrays) == ConvForms(*forms)


def test_patches_are_taken_where_the_output_is_much_smaller_than_the_input():
    x, w = jax.ShapeDtypeStruct((64, 12, 12, 12), jnp.float32), jax.ShapeDtypeStruct((5, 5, 12, 32), jnp.float32)
    assert [Convolution((1, 1), padding).chosen(x, w).inputs for padding in ("VALID", "SAME")] == ["patches", "xla"]


def test_forms_that_are_set_are_taken():
    x, w = jax.ShapeDtypeStruct((64, 28, 28, 1), jnp.float32), jax.ShapeDtypeStruct((5, 5, 1, 6), jnp.float32)
    chosen = Convolution((1, 1), "SAME", forms=ConvForms(forward="xla", weights="chunks")).chosen(x, w)
    assert chosen == ConvForms("xla", "patches", "chunks")
    assert conv(6, 5, forms=ALL).linear.forms == ALL


def test_a_form_that_does_not_exist_is_told():
    with pytest.raises(ModelError, match=r"no inputs='shifts'"):
        ConvForms(inputs="shifts")


# ---------------------------------------------------------------------------- with mean pooling behind it


@pytest.mark.slow
@given(
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=FEW,
    window=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.one_of(st.sampled_from(["SAME", "SAME_LOWER", "VALID"]), PADS),
    more=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    channels=st.integers(1, 2),
)
@settings(max_examples=4, deadline=None)
def test_a_convolution_and_its_means_are_one_with_the_derivatives_of_two(
    kernel, stride, window, padding, more, channels
):
    side = [k + s * (w - 1) + extra for k, s, w, extra in zip(kernel, stride, window, more, strict=True)]
    layer, after = conv(2, kernel, stride, padding), avg_pool(window)
    x, b = jax.random.normal(KEY, (2, *side, channels)), jnp.array([0.5, -1.0])
    w = jax.random.normal(jax.random.key(1), (*kernel, channels, 2))
    with jax.enable_x64(True):
        x, w, b = (one.astype(float) for one in (x, w, b))
        one = lambda x, w: mean_pooled(layer, after, {"w": w, "b": b}, x)  # noqa: E731
        two = lambda x, w: after.linear((), layer.linear({"w": w, "b": b}, x))  # noqa: E731
        same(derivatives(one, x, w), derivatives(two, x, w))


def test_which_convolutions_are_joined_with_their_means():
    def joined(layer, after, shape=(8, 8, 1), dtype=jnp.float32):
        return joins(layer, after, layer.init(KEY, (8, 8, 1))[0], jnp.ones((2, *shape), dtype))

    assert joined(conv(4, 5), avg_pool(2)) and joined(conv(4, 3, padding="VALID"), avg_pool(3))
    apart = [
        (conv(4, 5), max_pool(2)),
        (conv(4, 5), avg_pool(2, 1)),
        (conv(4, 5), avg_pool(9)),
        (conv(4, 1), avg_pool(2)),  # no fewer multiplications
        (conv(4, 5, activation="relu"), avg_pool(2)),
        (conv(4, 5, dilation=2), avg_pool(2)),
        (conv(4, 5, forms=ConvForms(forward="xla")), avg_pool(2)),
    ]
    assert not any(joined(*layers) for layers in apart)
    assert not joined(conv(4, 5), avg_pool(2), shape=(8, 8, 3)) and not joined(
        conv(4, 5), avg_pool(2), dtype="bfloat16"
    )
    with mock.patch.object(jax, "default_backend", return_value="gpu"):
        assert not joined(conv(4, 5), avg_pool(2))


@pytest.mark.parametrize(
    ("axes", "settings", "taken"),
    [
        (("NCHW", "OIHW", "NCHW"), {"padding": ((0, 1), (2, 0)), "window_strides": (2, 1)}, True),
        (("NHWC", "HWIO", "NHWC"), {"padding": "SAME", "feature_group_count": 2}, False),
    ],
)
def test_a_convolution_of_a_program_has_its_values_and_derivatives(axes, settings, taken, x64):
    groups = settings.get("feature_group_count", 1)
    sizes = {"N": 3, "H": 6, "W": 5, "C": 4, "I": 4 // groups, "O": 6}
    shape = lambda order, size: [3 if one in "HW" and size == "kernel" else sizes[one] for one in order]  # noqa: E731
    x, w = (jax.random.normal(KEY, shape(*pair), "float64") for pair in ((axes[0], "image"), (axes[1], "kernel")))

    def program(x, w):
        return jax.lax.conv_general_dilated(x, w, **{"window_strides": (1, 1), **settings}, dimension_numbers=axes)

    found = convolution_of(read_program(program, x, w).equations[0])
    assert (found is not None) == taken
    if taken:
        assert (found(x, w) == program(x, w)).all()
        same(derivatives(found, x, w), derivatives(program, x, w))
