"""What a network that runs both ways makes: one image per class, reconstructions, and the hidden half filled in.

`generation` draws it, `figures_of` measures it. The rule must offer ``generate(model, params, y)``,
``reconstruct(model, params, x, layer)`` and ``infer(model, params, x, y, mask)``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from neurai_core.arrays import PyTree
from neurai_core.errors import DataError, OutputError
from neurai_core.training.data import Dataset

FILLED = 1000  # test examples of which a half is filled in to be measured
_PANEL, _DPI = 0.62, 150  # inches of one image
HIDDEN = "#d55e00"  # the line above what was hidden


class Row(NamedTuple):
    """One row of images ``(n, ...)`` and what it shows; ``cut`` draws the line above which images were seen."""

    label: str
    images: np.ndarray
    cut: bool = False


def generation(rule: Any, model: Any, params: PyTree, data: Dataset, path: Path, *, title: str = "") -> Path:
    """Draw what a two-way network generates, reconstructs and fills in, for the first test image of every class.

    Args:
        rule: one that generates.
        model: the network, a chain of layers.
        params: its parameters, both ways.
        data: images with classes; the test images are shown.
        path: the PNG file to write.
        title: what stands above.

    Returns:
        The path.

    Raises:
        DataError: the data have no classes, or their examples are no images.
        OutputError: the file cannot be written.
    """
    rows = rows_of(rule, model, params, data)
    figure = _drawn(rows, _image_shape(data))
    figure.suptitle(title, fontsize=9)
    try:
        figure.savefig(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}.", "Is the disk full?") from error
    return path


def rows_of(rule: Any, model: Any, params: PyTree, data: Dataset) -> list[Row]:
    """The rows of the picture: generated, shown, reconstructed from every layer, lower half hidden and filled in.

    Every column is the first test image of a class.

    Raises:
        DataError: the data have no classes, or their examples are no images.
    """
    x, y, half = _test_set(params, data)
    first = np.unique(y, return_index=True)[1]
    x, y = x[first], y[first]
    return [
        Row("generated", _plain(rule.generate(model, params, y))),
        Row("test image", _plain(x)),
        *(Row(f"from layer {k}", _plain(rule.reconstruct(model, params, x, layer=k))) for k in _layers(model)),
        Row("seen", np.where(half, _plain(x), np.nan), cut=True),
        Row("filled in", _plain(rule.infer(model, params, x, None, half).x), cut=True),
        Row("with label", _plain(rule.infer(model, params, x, y, half).x), cut=True),
    ]


def _layers(model: Any) -> range:
    return range(1, len(model.layers) + 1)


def _plain(images: Any) -> np.ndarray:
    return np.asarray(images, np.float32)


def _as_the_model_takes(params: PyTree, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A batch in the shape that the way down gives: images, or vectors."""
    return (shape[0], *params[0]["down"]["b"].shape)


def _image_shape(data: Dataset) -> tuple[int, int, int]:
    """``(H, W, C)`` of one image; vectors of a square number of pixels are square images.

    Raises:
        DataError: the examples are neither.
    """
    shape = tuple(data.x_test.shape[1:])
    side = round(shape[0] ** 0.5) if len(shape) == 1 else 0
    if len(shape) == 1 and side * side == shape[0]:
        return side, side, 1
    if len(shape) == 2 or (len(shape) == 3 and shape[-1] in (1, 3)):
        return shape[0], shape[1], shape[2] if len(shape) == 3 else 1
    raise DataError(
        f"{data.name} has examples of shape {shape}, which are no images.",
        "Images are (H, W), (H, W, 1), (H, W, 3), or vectors of a square number of pixels.",
    )


def _upper_half(shape: tuple[int, int, int]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[: shape[0] // 2] = True
    return mask


# ---------------------------------------------------------------------------- measuring


def figures_of(rule: Any, model: Any, params: PyTree, data: Dataset) -> dict[str, Any]:
    """How good what it makes is, on the test set.

    Returns:
        ``generation_mse``: mean squared error per pixel between the image of a class and the test images of that
        class; ``generation_floor``: that of the class means of the test images; ``recognized``: how many generated
        images the network itself takes for their class, of ``classes``; ``reconstruction_mse``: one number per layer;
        ``lower_half_mse``, ``lower_half_with_label_mse``, ``lower_half_of_mean_image_mse``: of the lower half, filled
        in from the upper one, for the first `FILLED` test examples.

    Raises:
        DataError: the data have no classes, or their examples are no images.
    """
    x, y, half = _test_set(params, data)
    classes = jnp.arange(data.n_classes)
    images = rule.generate(model, params, classes)
    means = jnp.stack([x[y == label].mean(axis=0) for label in classes])
    outputs = rule.predict(model, params, images)
    return {
        "generation_mse": _mse(images[y], x),
        "generation_floor": _mse(means[y], x),
        "recognized": int(jnp.sum(jnp.argmax(outputs, axis=-1) == classes)),
        "classes": int(classes.size),
        "reconstruction_mse": [_mse(rule.reconstruct(model, params, x, layer=k), x) for k in _layers(model)],
        **_filled(rule, model, params, x, y, half),
    }


def _filled(rule: Any, model: Any, params: PyTree, x: jax.Array, y: jax.Array, half: np.ndarray) -> dict[str, float]:
    mean, hidden = x.mean(axis=0), ~half
    x, y = x[:FILLED], y[:FILLED]
    alone, told = (rule.infer(model, params, x, label, half).x for label in (None, y))
    return {
        "lower_half_mse": _mse(alone[:, hidden], x[:, hidden]),
        "lower_half_with_label_mse": _mse(told[:, hidden], x[:, hidden]),
        "lower_half_of_mean_image_mse": _mse(mean[hidden], x[:, hidden]),
    }


def _test_set(params: PyTree, data: Dataset) -> tuple[jax.Array, jax.Array, np.ndarray]:
    """Test inputs as the model takes them, their labels, and which part of one is its upper half."""
    if data.n_classes is None:
        raise DataError(f"{data.name} has no classes to generate from.", "Use a data set with labels.")
    shape = _as_the_model_takes(params, data.x_test.shape)
    half = _upper_half(_image_shape(data)).reshape(shape[1:])
    return jnp.asarray(data.x_test).reshape(shape), jnp.asarray(data.y_test), half


def _mse(a: jax.Array, b: jax.Array) -> float:
    return float(jnp.mean(jnp.square(a - b)))


# ---------------------------------------------------------------------------- drawing


def _drawn(rows: list[Row], shape: tuple[int, int, int]) -> Figure:
    columns = len(rows[0].images)
    size = (_PANEL * columns + 1.1, _PANEL * len(rows) + 0.4)
    figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    low, high = float(np.min(rows[1].images)), float(np.max(rows[1].images))
    for axes, row in zip(figure.subplots(len(rows), columns, squeeze=False), rows, strict=True):
        axes[0].set_ylabel(row.label, rotation=0, ha="right", va="center", fontsize=8)
        for panel, image in zip(axes, row.images, strict=True):
            _panel(panel, (image.reshape(shape) - low) / (high - low or 1.0), row.cut)
    return figure


def _panel(axes: Axes, image: np.ndarray, cut: bool) -> None:
    axes.set(xticks=[], yticks=[])
    axes.set_facecolor("0.85")
    axes.imshow(
        np.squeeze(np.clip(image, 0, 1), axis=-1) if image.shape[-1] == 1 else np.clip(image, 0, 1), cmap="gray"
    )
    if cut:
        axes.axhline(image.shape[0] // 2 - 0.5, color=HIDDEN, linewidth=1)
