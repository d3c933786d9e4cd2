"""``neurai activities``. JAX and matplotlib are imported inside the command."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurai_core.cli.compilation_cache import programs_kept
from neurai_core.cli.options import (
    ActivitiesFlag,
    ConfigFlag,
    DataFlag,
    JsonFlag,
    ModelFlag,
    SetFlags,
    StepsFlag,
    SurrogateFlag,
)
from neurai_core.cli.output import print_json, stdout
from neurai_core.training.settings import Chosen, RunSettings, choose

if TYPE_CHECKING:
    from neurai_core.network import PredictedFrom
    from neurai_core.report.graph import Box
    from neurai_core.training.activities import ActivityList

INPUT, OUTPUTS = "the input", "the outputs"


def activities(
    model: ModelFlag = None,
    activities: ActivitiesFlag = None,
    data: DataFlag = None,
    surrogate: SurrogateFlag = None,
    steps: StepsFlag = None,
    sets: SetFlags = None,
    config: ConfigFlag = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the graph as well: .png, .svg or .pdf.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """List the activities of a model: the values that relax when a rule for networks trains it.

    In order of computation, with the shape for one batch, what each is predicted from, and the parameters that learn
    from that prediction. Nothing is computed. Outputs are not activities: parameters learn from the loss there.
    """
    network_rule = RunSettings.model_fields["rule"].default  # list what such a rule sees
    given = {"model": model, "activities": activities, "data": data, "surrogate": surrogate, "steps": steps}
    chosen = choose(given | {"rule": network_rule}, sets or (), None if config is None else Path(config), os.environ)

    with programs_kept():
        found, settings = _listed(chosen), chosen.settings
    if picture is not None:
        _draw(found, picture, f"{Path(settings.model).name} on {settings.data}")
    if as_json:
        said = {"model": settings.model, "data": settings.data, "batch_size": settings.batch_size}
        print_json(said | _as_json(found) | ({} if picture is None else {"picture": str(picture)}))
        return
    _print(found, settings.batch_size)
    if picture is not None:
        stdout().print(f"Drawn in {picture}")


def _listed(chosen: Chosen) -> ActivityList:
    """What a run with these settings would relax."""
    from neurai_core.training.activities import listed
    from neurai_core.training.task import prepare

    task = prepare(chosen)
    x, _ = task.problem.batch
    return listed(task.model, task.params, x, model_state=task.model_state)


def _as_json(found: ActivityList) -> dict[str, Any]:
    return {
        "activities": [
            {"name": one.name, "shape": one.shape, "predictions": [each._asdict() for each in one.predictions]}
            for one in found.activities
        ],
        "outputs": {"shapes": found.output_shapes, **found.outputs._asdict()},
    }


def _print(found: ActivityList, batch_size: int) -> None:
    from neurai_core.report.tables import table

    rows = [
        (one.name if i == 0 else f"{one.name}, again", str(one.shape), _sources(each), ", ".join(each.parameters))
        for one in found.activities
        for i, each in enumerate(one.predictions)
    ]
    rows.append((OUTPUTS, _shapes(found), _sources(found.outputs), ", ".join(found.outputs.parameters)))
    console = stdout()
    console.print(table(("activity", "shape", "predicted from", "parameters that learn from it"), rows))
    console.print(f"Shapes are those for a batch of {batch_size}. Outputs are not activities: the loss is above them.")


def _sources(prediction: PredictedFrom) -> str:
    return ", ".join([INPUT] * prediction.inputs + list(prediction.activities))


def _shapes(found: ActivityList) -> str:
    return ", ".join(map(str, found.output_shapes))


def _draw(found: ActivityList, path: Path, title: str) -> None:
    from neurai_core.report.canvas import GREEN, VERMILION
    from neurai_core.report.graph import Box, graph

    # Keys of activities begin with a space, so that no name is mistaken for the input or the outputs.
    predictions = [(f" {one.name}", each) for one in found.activities for each in one.predictions]
    predictions.append((OUTPUTS, found.outputs))
    boxes: dict[str, Box] = {INPUT: Box(INPUT, "", GREEN)} if any(each.inputs for _, each in predictions) else {}
    boxes |= {f" {one.name}": Box(one.name, str(one.shape)) for one in found.activities}
    boxes[OUTPUTS] = Box(OUTPUTS, _shapes(found), VERMILION)
    edges = [
        (source, key)
        for key, each in predictions
        for source in [INPUT] * each.inputs + [f" {name}" for name in each.activities]
    ]
    graph(boxes, edges, path, title=title)
