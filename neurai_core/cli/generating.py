"""``neurai generate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from neurai_core.cli.compilation_cache import programs_kept
from neurai_core.cli.options import JsonFlag, TrustFlag
from neurai_core.cli.output import note, print_json, stdout
from neurai_core.errors import PluginError, UsageError

if TYPE_CHECKING:
    from neurai_core.data import Dataset
    from neurai_core.rule import GenerativeRule

PICTURE = "generated.png"
CLAIM = "generative"


def generate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The picture to write.", show_default=f"RUN/{PICTURE}")
    ] = None,
    trust: TrustFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Draw what a two-way network generates, reconstructs and fills in.

    One image per class; reconstructions from every layer next to the originals; the lower half of an image filled
    in from the upper one, without and with its label. For runs of rules that claim to be generative.
    """
    from neurai_core.report.generation import figures_of, generation, made_by  # imports JAX from here on
    from neurai_core.training.callbacks import Callbacks
    from neurai_core.training.run import finished

    with programs_kept():
        task, kept = finished(run, Callbacks(note=note), trust=trust)
        made = made_by(_generative(task.rule), task.model, kept.params, cast("Dataset", task.data))
    title = f"{task.rule.origin.name} on {task.data.name}"
    picture = generation(made, run / PICTURE if out is None else out, title=title)
    figures = figures_of(made)
    if as_json:
        print_json({**figures, "picture": str(picture)})
        return
    _print_table(figures)
    stdout().print(f"drawn in {picture}")


def _generative(rule: Any) -> GenerativeRule:
    """The rule of a run, which must claim to be generative and have the functions for it.

    Raises:
        UsageError: it makes no such claim.
        PluginError: it makes the claim but lacks a function.
    """
    from neurai_core.registry import REGISTRY
    from neurai_core.rule import GenerativeRule
    from neurai_core.specs import AlgorithmSpec

    origin = rule.origin
    if CLAIM not in cast(AlgorithmSpec, REGISTRY.spec("algorithm", origin.name)).claims:
        names = ", ".join(REGISTRY.names("algorithm", CLAIM)) or "none is installed"
        raise UsageError(
            f"The run was trained by {origin.name!r}, which generates nothing.", f"Rules that do: {names}."
        )
    if not isinstance(rule, GenerativeRule):
        lacking = ", ".join(name for name in ("generate", "reconstruct", "infer") if not hasattr(rule, name))
        raise PluginError(
            f"Rule {origin.name!r} ({origin.distribution} {origin.version}) claims to be {CLAIM} but lacks {lacking}.",
            "'Writing a rule', docs/writing-a-rule.md, says what the claim means.",
            distribution=origin.distribution,
            step="call",
        )
    return rule


def _print_table(figures: dict[str, Any]) -> None:
    from neurai_core.report.tables import table

    rows = [
        ("generated images, to the test images of their class", f"{figures['generation_mse']:.4f}"),
        ("... the means of these, the lowest possible", f"{figures['generation_floor']:.4f}"),
        *(
            (f"reconstruction from layer {layer}", f"{value:.4f}")
            for layer, value in enumerate(figures["reconstruction_mse"], 1)
        ),
        ("lower half filled in", f"{figures['lower_half_mse']:.4f}"),
        ("... with the label", f"{figures['lower_half_with_label_mse']:.4f}"),
        ("... by the mean image", f"{figures['lower_half_of_mean_image_mse']:.4f}"),
    ]
    stdout().print(table(("mean squared error per pixel", "test set"), rows))
    stdout().print(f"{figures['recognized']} of {figures['classes']} generated images are recognized as their class")
