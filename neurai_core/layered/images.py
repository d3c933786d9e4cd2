"""Images ``(B, H, W, C)``: checks shared by convolution and pooling."""

from __future__ import annotations

from typing import Any

from neurai_core.arrays import Shape, whole_number
from neurai_core.errors import ModelError


def pixels(given: Any, needs: str, hint: str) -> tuple[int, int]:
    """One number of pixels for both axes, or one for each.

    Raises:
        ModelError: ``needs`` says what the layer needs, and ``hint`` how to write it.

    >>> pixels(3, "A conv layer needs a kernel", "For example conv(16, 3).")
    (3, 3)
    """
    pair = given if isinstance(given, tuple | list) else (given, given)
    numbers = [whole_number(number) or 0 for number in pair]
    if len(numbers) != 2 or min(numbers) < 1:
        raise ModelError(f"{needs} of one or two whole numbers of at least 1, got {given!r}.", hint=hint)
    return numbers[0], numbers[1]


def pixels_text(pair: tuple[int, int]) -> str:
    """A pair of pixels in the name of a layer: one number if both are equal.

    >>> pixels_text((3, 3)), pixels_text((3, 5))
    ('3', '(3, 5)')
    """
    return str(pair[0] if pair[0] == pair[1] else pair)


def check_image(layer: str, input_shape: Shape) -> None:
    """Raise ModelError, naming the layer, if an example is not an image ``(H, W, C)``."""
    if len(input_shape) != 3:
        raise ModelError(
            f"{layer} takes examples of shape (H, W, C), got {tuple(input_shape)}.",
            hint="Images are (B, H, W, C); add the channel axis with x[..., None].",
        )
