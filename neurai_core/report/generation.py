"""Pictures from a two-way network: one image per class, reconstructions, and images with the hidden half filled in.

`made_by` generates them, `generation` draws them, `figures_of` measures them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neurai_core.arrays import PyTree
from neurai_core.data import Dataset
from neurai_core.errors import DataError
from neurai_core.layered import Layered
from neurai_core.report.canvas import VERMILION, canvas
from neurai_core.rule import GenerativeRule

FILLED = 1000  # number of test examples with one half filled in
_PANEL, _DPI = 0.62, 150  # inches of one image
HIDDEN = VERMILION  # the line above what was hidden


class Made(NamedTuple):
    """The images a network made from a test set; the first test image of every class comes first.

    Attributes:
        x: test inputs, as the model takes them.
        y: their labels.
        half: which part of one example is its upper half.
        shape: ``(H, W, C)`` of one image.
        generated: one image per class.
        taken_for: the class that the network itself assigns to each of them.
        reconstructed: the inputs as predicted by layer 1, 2, ...
        filled: the first examples, at most `FILLED`, with their lower half filled in.
        filled_told: the same with the label known.
        classes: names of the classes.
    """

    x: np.ndarray
    y: np.ndarray
    half: np.ndarray
    shape: tuple[int, int, int]
    generated: np.ndarray
    taken_for: np.ndarray
    reconstructed: list[np.ndarray]
    filled: np.ndarray
    filled_told: np.ndarray
    classes: tuple[str, ...] = ()


def made_by(rule: GenerativeRule, model: Layered, params: PyTree, data: Dataset) -> Made:
    """Make everything that is drawn and measured.

    Args:
        rule: a rule that can generate.
        model: the network.
        params: its parameters.
        data: images with classes; the test images are used.

    Raises:
        DataError: the data have no classes, or their examples are not images.
    """
    if data.n_classes is None:
        raise DataError(f"{data.name} has no classes to generate from.", "Use a data set with labels.")
    shape = _image_shape(data)
    y, first = np.asarray(data.y_test), np.unique(np.asarray(data.y_test), return_index=True)[1]
    order = np.concatenate([first, np.delete(np.arange(len(y)), first)])
    generate, predict, infer = (jax.jit(f, static_argnums=0) for f in (rule.generate, rule.predict, rule.infer))
    reconstruct = jax.jit(rule.reconstruct, static_argnums=(0, 3))
    images = generate(model, params, np.arange(data.n_classes))
    x, y = np.asarray(data.x_test)[order].reshape(len(y), *images.shape[1:]), y[order]
    half = _upper_half(shape).reshape(images.shape[1:])
    layers = range(1, len(model) + 1)
    return Made(
        x=x,
        y=y,
        half=half,
        shape=shape,
        generated=_plain(images),
        taken_for=np.argmax(predict(model, params, images), axis=-1),
        reconstructed=[_plain(reconstruct(model, params, x, layer)) for layer in layers],
        filled=_plain(infer(model, params, x[:FILLED], None, half).x),
        filled_told=_plain(infer(model, params, x[:FILLED], y[:FILLED], half).x),
        classes=data.classes or (),
    )


# ---------------------------------------------------------------------------- measuring


def figures_of(made: Made) -> dict[str, Any]:
    """Measure the quality of the images.

    Returns:
        ``generation_mse``: mean squared error per pixel between the image of a class and the test images of that
        class; ``generation_floor``: that of the class means of the test images; ``recognized``: how many generated
        images the network itself assigns to their class, of ``classes``; ``reconstruction_mse``: one number per layer;
        ``lower_half_mse``, ``lower_half_with_label_mse``, ``lower_half_of_mean_image_mse``: of the lower half, filled
        in from the upper one, for at most `FILLED` test examples.
    """
    x, y, hidden, classes = made.x, made.y, ~made.half, np.arange(len(made.generated))
    means = class_means(made)
    seen = x[: len(made.filled)][:, hidden]
    return {
        "generation_mse": _mse(made.generated[y], x),
        "generation_floor": _mse(means[y], x),
        "recognized": int(np.sum(made.taken_for == classes)),
        "classes": len(classes),
        "reconstruction_mse": [_mse(again, x) for again in made.reconstructed],
        "lower_half_mse": _mse(made.filled[:, hidden], seen),
        "lower_half_with_label_mse": _mse(made.filled_told[:, hidden], seen),
        "lower_half_of_mean_image_mse": _mse(x.mean(axis=0)[hidden], seen),
    }


def class_means(made: Made) -> np.ndarray:
    """The mean of the test images of every class, the best single image for that class."""
    groups = [made.x[made.y == label] for label in range(len(made.generated))]
    return np.stack([group.mean(axis=0) if len(group) else np.full(made.x.shape[1:], np.nan) for group in groups])


def _mse(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.mean(np.square(a - b)))


# ---------------------------------------------------------------------------- drawing


class Row(NamedTuple):
    """One row of images ``(n, ...)`` and its label; ``cut`` draws the line above which images were given."""

    label: str
    images: np.ndarray
    cut: bool = False


def generation(made: Made, path: Path, *, title: str = "") -> Path:
    """Draw the images made from the first test image of every class.

    Args:
        made: from `made_by`.
        path: the picture file to write.
        title: title of the picture.

    Raises:
        OutputError: the file cannot be written.
    """
    rows, labels = rows_of(made), made.y[: len(np.unique(made.y))]
    names = [made.classes[label] if made.classes else str(label) for label in labels]
    with canvas(path, (_PANEL * len(names) + 1.1, _PANEL * len(rows) + 0.7), dpi=_DPI) as figure:
        _draw(figure, rows, names, made.shape)
        figure.suptitle(title, fontsize=9, parse_math=False)
    return path


def rows_of(made: Made) -> list[Row]:
    """The rows of the picture: generated, shown, reconstructed from every layer, lower half hidden and filled in.

    For comparison, they include what needs no network: the mean image of the class, and of all images.
    """
    n = len(np.unique(made.y))
    labels = made.y[:n]
    return [
        Row("generated", made.generated[labels]),
        Row("mean of class", class_means(made)[labels]),
        Row("test image", made.x[:n]),
        *(Row(f"from layer {k}", again[:n]) for k, again in enumerate(made.reconstructed, 1)),
        Row("seen", np.where(made.half, made.x[:n], np.nan), cut=True),
        Row("filled in", made.filled[:n], cut=True),
        Row("with label", made.filled_told[:n], cut=True),
        Row("by mean image", np.where(made.half, made.x[:n], made.x.mean(axis=0)), cut=True),
    ]


def _plain(images: Any) -> np.ndarray:
    return np.asarray(images, np.float32)


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
        f"{data.name} has examples of shape {shape}, which are not images.",
        "Images are (H, W), (H, W, 1), (H, W, 3), or vectors of a square number of pixels.",
    )


def _upper_half(shape: tuple[int, int, int]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[: shape[0] // 2] = True
    return mask


def _draw(figure: Figure, rows: list[Row], names: list[str], shape: tuple[int, int, int]) -> None:
    grid = figure.subplots(len(rows), len(names), squeeze=False)
    shown = np.concatenate([row.images for row in rows if row.label == "test image"])
    low, high = float(np.min(shown)), float(np.max(shown))
    for axes, row in zip(grid, rows, strict=True):
        axes[0].set_ylabel(row.label, rotation=0, ha="right", va="center", fontsize=8)
        for panel, image in zip(axes, row.images, strict=True):
            _panel(panel, (image.reshape(shape) - low) / (high - low or 1.0), row.cut)
    long = max(map(len, names)) > 6
    for panel, name in zip(grid[0], names, strict=True):
        panel.set_title(name, fontsize=6 if long else 8, rotation=30 if long else 0, ha="center", parse_math=False)


def _panel(axes: Axes, image: np.ndarray, cut: bool) -> None:
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set_visible(True)
    axes.set_facecolor((0.5, 0.5, 0.5, 0.25))  # what was hidden
    axes.imshow(
        np.squeeze(np.clip(image, 0, 1), axis=-1) if image.shape[-1] == 1 else np.clip(image, 0, 1), cmap="gray"
    )
    if cut:
        axes.axhline(image.shape[0] // 2 - 0.5, color=HIDDEN, linewidth=1)
