"""Convolutions in the form that is fastest where they run, each derivative in a form of its own.

On a CPU, XLA's own convolution is slow where a kernel sees few channels, and where its derivative by the weights sums
over more pixels than fit into the cache. ``"auto"``, the default, takes other forms there, in float32 and float64:

    forward    shifts    one channel in and fewer than 32 out: a sum of shifted images, times one weight per channel
               pairs     two to eight channels in, no stride or dilation along rows: XLA's convolution of images in
                         which two pixels side by side are one with twice the channels
    inputs     patches   channels in, times pixels out per pixel in, at most 8, or a stride above 1: one matrix product
                         of the gradients with the kernel, added up where the kernel was, in pairs too where they have
                         no stride or dilation, for parts of the batch if its result takes more than 6 MiB
    weights    chunks    a stride of 1, images and gradients of more than 2 MiB, and a single device: a sum over parts
                         of the batch of 1 MiB

Everything else takes XLA's. All forms are linear operations of JAX and can be differentiated in every mode, as often as
needed. ``benchmarks/convolution_forms.py`` measures them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from neurai_core.errors import ModelError

FORMS = {"forward": ("shifts", "pairs"), "inputs": ("patches",), "weights": ("chunks",)}
ONE_BY_ONE = 49  # the most entries of a kernel that are handled one by one
FEW_IN, FEW_OUT = 8, 32  # channels
LARGE, CHUNK, SEVERAL = 2 * 2**20, 2**20, 2**18  # bytes
MANY, FEWER = 6 * 2**20, 4 * 2**20  # bytes of patches

Pair = tuple[int, int]


@dataclass(frozen=True)
class ConvForms:
    """How a convolution and its derivatives are computed; the page on performance says when which form is fast.

    Attributes:
        forward: ``"auto"``, ``"xla"``, ``"shifts"`` or ``"pairs"``.
        inputs: the derivative by the inputs, ``"auto"``, ``"xla"`` or ``"patches"``.
        weights: the derivative by the weights, ``"auto"``, ``"xla"`` or ``"chunks"``.

    Raises:
        ModelError: a form that does not exist.

    Example:
        >>> from neurai_core.layered import conv
        >>> layer = conv(16, 3, forms=ConvForms(weights="xla"))
    """

    forward: str = "auto"
    inputs: str = "auto"
    weights: str = "auto"

    def __post_init__(self) -> None:
        for what, others in FORMS.items():
            given, known = getattr(self, what), ("auto", "xla", *others)
            if given not in known:
                names = [f'"{form}"' for form in known]
                hint = f"Use {', '.join(names[:-1])} or {names[-1]}."
                raise ModelError(f"ConvForms has no {what}={given!r}.", hint=hint)


AUTO = ConvForms()


@dataclass(frozen=True)
class Convolution:
    """Cross-correlation, ``(B, H, W, C_in), (height, width, C_in, C_out) -> (B, H', W', C_out)``.

    Attributes:
        stride: step, (down, right).
        padding: ``"SAME"``, ``"SAME_LOWER"``, ``"VALID"`` or ((top, bottom), (left, right)).
        dilation: distance between the pixels that the kernel sees, (down, right).
        forms: how it is computed.

    Example:
        >>> convolution = Convolution((1, 1), "SAME")
        >>> convolution(jnp.ones((2, 5, 5, 3)), jnp.ones((3, 3, 3, 4))).shape
        (2, 5, 5, 4)
    """

    stride: Pair
    padding: Any
    dilation: Pair = (1, 1)
    forms: ConvForms = AUTO

    def __call__(self, x: jax.Array, w: jax.Array) -> jax.Array:
        """``x`` and ``w`` have one type."""
        return _convolved(replace(self, forms=self.chosen(x, w)), x, w)

    def chosen(self, x: Any, w: Any) -> ConvForms:
        """The forms for arrays of these shapes and types.

        >>> Convolution((1, 1), "SAME").chosen(jnp.ones((2, 5, 5, 9)), jnp.ones((3, 3, 9, 4)))
        ConvForms(forward='xla', inputs='xla', weights='xla')
        """
        height, width, channels, outputs = w.shape
        usual = jax.default_backend() != "cpu" or x.dtype not in (jnp.float32, jnp.float64)
        small = height * width <= ONE_BY_ONE and not usual
        large = len(x) * self._bytes(x, w) > LARGE and not usual
        shifts, pairs = channels == 1 and outputs < FEW_OUT, 1 < channels <= FEW_IN and self._pairs(x, w)
        patches = small and (self._multiplied(x, w) <= FEW_IN or max(self.stride) > 1)
        chunks = large and max(self.stride) == 1 and jax.device_count() == 1
        auto = {
            "forward": "shifts" if small and shifts else "pairs" if small and pairs else "xla",
            "inputs": "patches" if patches else "xla",
            "weights": "chunks" if chunks else "xla",
        }
        given = {what: getattr(self.forms, what) for what in FORMS}
        return ConvForms(**{what: auto[what] if form == "auto" else form for what, form in given.items()})

    # ---- three forms of one map: for itself, and for the sake of its transposes

    def value(self, x: jax.Array, w: jax.Array) -> jax.Array:
        """The convolution."""
        if self.forms.forward == "xla":
            return self._xla(x, w, ("NHWC", "HWIO", "NHWC"))
        if self.forms.forward == "pairs":
            return self._by_pairs(lambda pairs, x, w: pairs._xla(x, w, ("NHWC", "HWIO", "NHWC")), x, w)
        if len(x) * self._bytes(x, w) < SEVERAL or jax.device_count() > 1:
            return self._sum_of_shifts(x, w)
        # Without a loop, XLA would compute the sum again for everyone who reads it, such as each part of max pooling.
        return _in_chunks(partial(self._sum_of_shifts, w=w), x, _chunk(len(x) // 2, len(x), self._bytes(x, w), CHUNK))

    def _sum_of_shifts(self, x: jax.Array, w: jax.Array) -> jax.Array:
        weights = w.reshape(-1, *w.shape[2:])
        return reduce(jnp.add, (image @ weight for image, weight in zip(self._seen(x, w), weights, strict=True)))

    def along_inputs(self, dx: jax.Array, w: jax.Array) -> jax.Array:
        """The convolution as a function of images whose transpose is fast."""
        if self.forms.inputs == "xla":
            return self._xla(dx, w.swapaxes(2, 3), ("NHWC", "HWOI", "NHWC"))
        return self._by_pairs(Convolution._patches, dx, w) if self._pairs(dx, w) else self._patches(dx, w)

    def _patches(self, dx: jax.Array, w: jax.Array) -> jax.Array:
        along = partial(self._product_of_patches, w=w)
        each = dx.dtype.itemsize * math.prod((*self._output(dx, w), *w.shape[:3]))
        if len(dx) * each <= MANY or jax.device_count() > 1:
            return along(dx)
        return _in_chunks(along, dx, _chunk(len(dx), len(dx), each, FEWER))

    def _product_of_patches(self, dx: jax.Array, w: jax.Array) -> jax.Array:
        return jnp.concatenate(self._seen(dx, w), -1) @ w.reshape(-1, w.shape[-1])

    def along_weights(self, x: jax.Array, dw: jax.Array) -> jax.Array:
        """The convolution as a function of a kernel whose transpose is fast."""
        along = partial(self._all_along_weights, dw=dw)
        if self.forms.weights == "xla":
            return along(x)
        return _in_chunks(along, x, _chunk(len(x), len(x), self._bytes(x, dw), CHUNK))

    def _all_along_weights(self, x: jax.Array, dw: jax.Array) -> jax.Array:
        y = self._xla(x.transpose(3, 1, 2, 0), dw.transpose(2, 0, 1, 3), ("CHWN", "IHWO", "HWNC"))
        return y.transpose(2, 0, 1, 3)

    def _xla(self, x: jax.Array, w: jax.Array, axes: tuple[str, str, str]) -> jax.Array:
        """By XLA. Axes are ordered so that the transpose is an NHWC convolution again.

        In loops (a relaxation, a scan over time) XLA runs other layouts up to 20 times slower on a CPU.
        """
        return jax.lax.conv_general_dilated(
            x, w, self.stride, self.padding, rhs_dilation=self.dilation, dimension_numbers=axes
        )

    def _by_pairs(self, form: Callable[[Convolution, jax.Array, jax.Array], jax.Array], x: Any, w: Any) -> jax.Array:
        """By a form of the convolution in which the pixels of two outputs side by side are one with their channels.

        Its kernel has the entries of w twice, those for the second output a stride further.
        """
        across, extent, step = self._output(x, w)[1], self._extent(w)[1], self.stride[1]
        tile, zero, none = 2 * step, jnp.zeros((), x.dtype), (0, 0, 0)
        tiles = -(-(extent + step) // tile)
        width, (top, (left, _)) = tile * (tiles - 1 + -(-across // 2)), self._pads(x, w)
        x = jax.lax.pad(x, zero, [none, (*top, 0), (left, width - x.shape[2] - left, 0), none])
        ends = ((shift, tile * tiles - extent - shift, self.dilation[1] - 1) for shift in (0, step))
        both = jnp.stack([jax.lax.pad(w, zero, [none, end, none, none]) for end in ends], 3)
        x = x.reshape(*x.shape[:2], width // tile, tile * x.shape[3])
        kernel = both.reshape(len(w), tiles, x.shape[3], 2 * w.shape[3])
        y = form(Convolution((self.stride[0], 1), "VALID", (self.dilation[0], 1), self.forms), x, kernel)
        return y.reshape(*y.shape[:2], -1, w.shape[3])[:, :, :across]

    # ---- sizes

    def _pairs(self, x: Any, w: Any) -> bool:
        """Whether pairs of pixels are worth it: neighbors share what they see, and one is not alone."""
        return self.stride[1] == self.dilation[1] == 1 and w.shape[1] > 1 and self._output(x, w)[1] > 1

    def _seen(self, x: jax.Array, w: jax.Array) -> list[jax.Array]:
        """What every entry of the kernel sees of the images, ``(B, H', W', C_in)`` each."""
        (height, width), (down, right), (steps, across) = w.shape[:2], self.stride, self._output(x, w)
        last = (steps - 1) * down + 1, (across - 1) * right + 1
        zero = jnp.zeros((), x.dtype)
        x = jax.lax.pad(x, zero, [(0, 0, 0), *((low, high, 0) for low, high in self._pads(x, w)), (0, 0, 0)])
        tops, lefts = (range(0, n * step, step) for n, step in zip((height, width), self.dilation, strict=True))
        rows = [x[:, i : i + last[0] : down] for i in tops]  # first, so that the transpose adds up columns within rows
        return [row[:, :, j : j + last[1] : right] for row in rows for j in lefts]

    def _multiplied(self, x: Any, w: Any) -> float:
        """Channels in, times pixels out per pixel in: XLA multiplies at every pixel in, patches at every pixel out."""
        return w.shape[2] * math.prod(self._output(x, w)) / max(1, math.prod(x.shape[1:3]))

    def _output(self, x: Any, w: Any) -> Pair:
        """Height and width of the output, at least 0."""
        sizes = zip(x.shape[1:3], self._pads(x, w), self._extent(w), self.stride, strict=True)
        height, width = (max(0, (size + sum(pads) - extent) // step + 1) for size, pads, extent, step in sizes)
        return height, width

    def _pads(self, x: Any, w: Any) -> list[Pair]:
        if not isinstance(self.padding, str):
            return list(self.padding)
        return jax.lax.padtype_to_pads(x.shape[1:3], self._extent(w), self.stride, self.padding)

    def _extent(self, w: Any) -> Pair:
        """Height and width under the kernel."""
        height, width = ((size - 1) * step + 1 for size, step in zip(w.shape[:2], self.dilation, strict=True))
        return height, width

    def _bytes(self, x: Any, w: Any) -> int:
        """Size of one image before and after."""
        return int(x.dtype.itemsize * (math.prod(x.shape[1:]) + math.prod(self._output(x, w)) * w.shape[-1]))


def _chunk(most: int, batch: int, each: int, limit: int) -> int:
    """The most examples, of so many bytes each, that make equal chunks below a limit."""
    fitting = min(most, limit // max(1, each))
    return next((size for size in range(fitting, 0, -1) if batch % size == 0), 1)


def _in_chunks(function: Callable[[jax.Array], jax.Array], x: jax.Array, size: int) -> jax.Array:
    """A function of every example, computed for so many of them at a time."""
    if size >= len(x):
        return function(x)
    y = jax.lax.map(function, x.reshape(-1, size, *x.shape[1:]))
    return y.reshape(-1, *y.shape[2:])


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _convolved(convolution: Convolution, x: jax.Array, w: jax.Array) -> jax.Array:
    return convolution.value(x, w)


def _convolved_jvp(convolution: Convolution, primals: Any, tangents: Any) -> tuple[jax.Array, Any]:
    (x, w), (dx, dw) = primals, tangents
    along = [] if isinstance(dx, SymbolicZero) else [convolution.along_inputs(dx, w)]
    along += [] if isinstance(dw, SymbolicZero) else [convolution.along_weights(x, dw)]
    y = _convolved(convolution, x, w)
    return y, reduce(jnp.add, along) if along else jnp.zeros_like(y)


_convolved.defjvp(_convolved_jvp, symbolic_zeros=True)
