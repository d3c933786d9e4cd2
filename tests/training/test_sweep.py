"""Sweeps: axes and their errors, many values in one program, files that continue and repeat."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import optax
import pytest

import neurai_core as neurai
from neurai_core.cli import main
from neurai_core.data import Dataset
from neurai_core.errors import NeurAIError
from neurai_core.report.sweep import in_order, notes, ranked
from neurai_core.training import seeds as seeds_module
from neurai_core.training import sweep, sweep_programs
from neurai_core.training.loop import train_task
from neurai_core.training.seeds import train_seeds
from neurai_core.training.swept import Configurations, plan
from neurai_core.training.task import Objects, named_data, prepare

pytestmark = pytest.mark.usefixtures("quick_compile")

SMALL: dict[str, Any] = {"model": "mlp:8", "epochs": 1, "batch_size": 200}


def planned(rule: str, *over: str, sets: tuple[str, ...] = (), seeds: int = 1, **flags: Any) -> Configurations:
    return plan(rule, over, {**SMALL, **flags}, sets, seeds=seeds, environ={})


def data_of(made: Configurations) -> Dataset:
    return named_data(made.chosen[0])


# ---------------------------------------------------------------------------- axes


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("eta=log:0.01:1:3", (0.01, 0.1, 1.0)),
        ("eta=lin:0.1:0.3:3", (0.1, 0.2, 0.3)),
        ("eta=1,0.5", (1.0, 0.5)),
        ("lr=0.1,cosine_decay_schedule(0.1, 100)", (0.1, "cosine_decay_schedule(0.1, 100)")),
        ("n=lin:5:15:3", (5, 10, 15)),
        ("run.optimizer=sgd,adam", ("sgd", "adam")),
        ("batch_size=50,100", (50, 100)),
        ("mode=strict,fixed-pred", ("strict", "fixed-pred")),
        ("stable=true,false", (True, False)),
        ("model=mlp:8,4; mlp:8", ("mlp:8,4", "mlp:8")),
        ("corrector='sgd(0.1, momentum=0.5)',none", ("sgd(0.1, momentum=0.5)", None)),
    ],
)
def test_texts_of_axes(text: str, values: tuple[Any, ...]) -> None:
    flags = {"model": None} if text.startswith("model") else {"batch_size": None}
    assert planned("pc", text, **flags).axes[0].values == values


def test_numbers_share_a_program_and_what_chooses_code_spans_a_grid() -> None:
    made = planned("pc", "tol=0,0.1,0.2", "mode=strict,error", "optimizer.momentum=0.5,0.9", optimizer="sgd")
    programs = made.programs()
    assert [len(program.points) for program in programs] == [2, 2, 4, 4]  # at tol=0, the code has no test
    assert [program.numbers for program in programs[1:3]] == [
        ("optimizer.momentum",),
        ("rule.tol", "optimizer.momentum"),
    ]


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ((), "at least one setting to vary, got none"),
        (("eta",), "expected KEY=VALUES"),
        (("eta=",), "has no values"),
        (("eta=0.1,,0.2",), "has an empty value"),
        (("eta=log:1:0.01:4",), "is reversed: it goes down from 1 to 0.01"),
        (("eta=lin:1:1:4",), "is empty: it goes from 1 to 1"),
        (("eta=log:0:1:4",), "a logarithmic axis needs numbers above 0"),
        (("eta=log:0.1:1:1",), "asks for 1 values, expected a whole number from 2"),
        (("eta=lin:a:1:4",), "does not go from a finite number"),
        (("eta=lgo:0.1:1:4",), "has the scale 'lgo', expected lin or log. Did you mean 'log'"),
        (("n=lin:1:2:3",), "gives 1.5, and n is a whole number"),
        (("n=5,5",), "has the value 5 twice"),
        (("eat=0.1",), "'eat', which is neither a setting of the rule 'pc' nor of a run. Did you mean 'eta'"),
        (("rule.eat=0.1",), "has no such setting. Did you mean 'eta'"),
        (("eto=0.1",), "optimizer_for, lr, schedule, loss, epochs, batch_size, dtype."),  # no devices, seed, log
        (("optimzer.b1=0.1",), "no part 'optimzer'. Did you mean 'optimizer'"),
        (("eta=0.1", "rule.eta=0.2"), "rule.eta has two axes"),
        (("n=5,6",), "rule.n is set by --set and swept"),
        (("n=5,6",), "--set got align, which a sweep does not use"),
        (("lr=0.1,0.2",), "lr is set by --lr and swept"),
        (
            ("mode=exact,strict", "eta=0.1"),
            "With rule.mode=exact, rule.eta=0.1: --over got rule.eta, which has no meaning in mode",
        ),
        (("optimizer=sgd,adam",), "could be the setting of the rule 'pc' or that of the run"),
        (("run.optimzer=sgd,adam",), "a run has no such setting. Did you mean 'optimizer'"),
        (("surrogate.alpha=1,2",), "--over surrogate is for spiking networks, and --model mlp:8 is not one"),
        (("eta=0.1,-0.1",), "With rule.eta=-0.1"),
        (("rule=pc,bp",), "cannot vary rule"),
        (("seed=1,2",), "cannot vary seed"),
        (("eta=log:0.01:1",), "rule.eta=log:0.01:1.0 is a range, from which a search draws"),
        (("n=5..20",), "Add --search tpe"),
        (("eta=lin:1:2:200", "beta=lin:1:2:200"), "span 40000 configurations"),
    ],
)
def test_a_wrong_axis_is_one_clear_error(over: tuple[str, ...], words: str) -> None:
    flags = {"lr": 0.1} if "lr is" in words else {}
    sets = ("n=3",) if "by --set" in words else ("align=true",) if "align" in words else ()
    with pytest.raises(NeurAIError) as caught:
        planned("pc", *over, sets=sets, **flags)
    assert words in f"{caught.value}"


# ---------------------------------------------------------------------------- numbers in one program


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("rule", "over", "more"),
    [
        ("pc", ("eta=0.05,0.3", "lr=0.003,0.03"), {}),
        ("bp", ("optimizer.momentum=0.5,0.9",), {"optimizer": "sgd", "lr": 0.05, "dtype": "bfloat16"}),
        ("bp", ("surrogate.alpha=1.0,20.0",), {"model": "snn:8", "steps": 3, "surrogate": "superspike"}),
    ],
)
def test_every_value_gives_the_numbers_of_training_alone(rule: str, over: tuple[str, ...], more: Any) -> None:
    made = planned(rule, *over, seeds=2, **more)
    data = data_of(made)
    (program,) = made.programs()
    found = sweep_programs.train_program(made, program, data)
    assert found.together == 2 * len(made.points)
    for at in (1, len(found.runs) - 1):
        chosen = made.chosen[at // 2]
        settings = chosen.settings.model_copy(update={"seed": at % 2})
        alone = train_task(prepare(replace(chosen, settings=settings), Objects(data=data))).rows[-1].values
        wanted = {name: value for name, value in alone.items() if not name.startswith("aux/")}
        assert {name: found.runs[at].rows[-1][name] for name in wanted} == pytest.approx(wanted, rel=1e-5, abs=1e-6)
    assert len({run.rows[-1]["train_loss"] for run in found.runs}) == len(found.runs)


@pytest.mark.slow
def test_values_that_do_not_fit_into_memory_run_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    made = planned("bp", "lr=0.01,0.02,0.03")
    (program,), data = made.programs(), data_of(made)
    at_once = sweep_programs.train_program(made, program, data)
    monkeypatch.setattr(seeds_module._Programs, "fitting", lambda programs: 2)
    in_parts = sweep_programs.train_program(made, program, data)
    assert (at_once.together, in_parts.together) == (3, 2)
    for one, other in zip(at_once.runs, in_parts.runs, strict=True):
        assert one.rows[-1]["test_loss"] == pytest.approx(other.rows[-1]["test_loss"], abs=2e-6)


def test_one_step_is_compiled_for_all_values(monkeypatch: pytest.MonkeyPatch) -> None:
    made = planned("bp", "lr=log:0.001:0.1:6", seeds=2)
    compiled: list[int] = []
    of = seeds_module._traced

    def counted(task: Any, size: int, *others: Any) -> Any:
        compiled.append(size)
        return of(task, size, *others)

    monkeypatch.setattr(seeds_module, "_traced", counted)
    sweep_programs.train_program(made, *made.programs(), data_of(made))
    assert compiled == [12]


def test_numbers_that_are_needed_to_build_a_program_go_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    sgd = optax.sgd

    def picky(learning_rate: Any) -> optax.GradientTransformation:
        return sgd(learning_rate if learning_rate > 0.02 else 0.02)

    monkeypatch.setattr(optax, "sgd", picky)
    made = planned("bp", "lr=0.01,0.02,0.1", optimizer="sgd", schedule="constant")
    found = sweep_programs.train_program(made, *made.programs(), data_of(made))
    assert found.together == 1
    losses = [run.rows[-1]["train_loss"] for run in found.runs]
    assert losses[0] == losses[1] > losses[2]


# ---------------------------------------------------------------------------- folders


@pytest.fixture(scope="module")
def made() -> Configurations:
    return planned("bp", "optimizer=adam,sgd", "lr=0.001,0.05", seeds=2)


@pytest.fixture(scope="module")
def folder(made: Configurations, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sweep") / "own"
    sweep.run(made, out)
    return out


def results_in(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return found


def test_the_best_file_trains_to_the_same_score(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = results_in(folder)
    best = results["points"][results["best"]]
    assert best["score"] == max(point["score"] for point in results["points"])
    assert best["values"] == {"optimizer": "adam", "lr": 0.05}
    assert (folder / "sweep.png").stat().st_size > 1000
    words = ["train", "--config", str(folder / "best.toml"), "--json", "--quiet", "--out", str(folder.parent / "alone")]
    assert main(words) == 0
    alone = json.loads(capsys.readouterr().out)
    last = best["seeds"][0]["rows"][-1]
    for name in ("train_loss", "test_loss", "test_accuracy"):
        assert last[name] == pytest.approx(alone[name], abs=2e-6)


def test_an_interrupted_sweep_runs_only_the_programs_that_are_missing(
    made: Configurations, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folder, tmp_path / "again")
    (tmp_path / "again" / "programs" / "2.json").write_text("{")
    with pytest.raises(NeurAIError, match=r"2\.json cannot be read"):
        sweep.run(made, tmp_path / "again")
    (tmp_path / "again" / "programs" / "2.json").unlink()
    trained: list[str] = []

    def watched(tasks: Any, *others: Any, **more: Any) -> Any:
        trained.append(tasks[0].rule_name)
        return train_seeds(tasks, *others, **more)

    monkeypatch.setattr(sweep_programs, "train_seeds", watched)
    again = sweep.run(made, tmp_path / "again")
    assert trained == ["bp"]
    assert [point["scores"] for point in again.results["points"]] == [
        point["scores"] for point in results_in(folder)["points"]
    ]


def test_a_folder_of_something_else_is_rejected(made: Configurations, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(NeurAIError, match="not empty, and it holds no sweep"):
        sweep.run(made, tmp_path)
    for over, words in (
        (("optimizer=adam,sgd", "lr=0.001,0.1"), r"lr is \[0\.001, 0\.05\], and now it is \[0\.001, 0\.1\]"),
        (("lr=0.001,0.05",), "with the axes optimizer, lr, and now they are lr"),
    ):
        with pytest.raises(NeurAIError, match=words):
            sweep.run(planned("bp", *over, seeds=2), folder)


def test_a_setting_that_fails_names_its_values(tmp_path: Path) -> None:
    with pytest.raises(NeurAIError, match=r"With optimizer=adam, optimizer\.momentum=0\.5: momentum: not a setting of"):
        sweep.run(planned("bp", "optimizer=sgd,adam", "optimizer.momentum=0.5,0.9"), tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_from_python_nothing_is_written_unless_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given: Any = {"optimizer": "sgd", "settings": {"optimizer.momentum": 0.5}, "data": "digits", **SMALL}
    found = neurai.sweep("bp", {"lr": (0.01, 0.1)}, **given)
    assert found.folder is None and not list(tmp_path.iterdir())
    assert [row["lr"] for row in found.rows] == [0.01, 0.1]
    assert found.best is not None and found.best["score"] == max(row["test_accuracy"] for row in found.rows)
    assert "test accuracy" in str(found)
    written = neurai.sweep("bp", {"lr": "log:0.01:0.1:2"}, out="own", **given)
    assert written.rows == found.rows and (tmp_path / "own" / "best.toml").exists()


@pytest.mark.parametrize(
    ("over", "words"),
    [({}, "at least one setting"), ({"lr": []}, "over lr has no values"), ({"lr": [0.1, 0.1]}, "the value 0.1 twice")],
)
def test_a_wrong_axis_from_python_is_one_clear_error(over: Any, words: str) -> None:
    with pytest.raises(NeurAIError, match=words):
        neurai.sweep("bp", over)


def test_a_single_value_from_python_is_an_axis_of_one() -> None:
    assert plan("bp", {"lr": 0.1}, environ={}).points == plan("bp", {"lr": [0.1]}, environ={}).points


# ---------------------------------------------------------------------------- words


def test_a_configuration_with_a_failed_seed_has_no_score_and_comes_last() -> None:
    def seed(value: float | None) -> dict[str, Any]:
        return {"seed": 0, "failed": 3 if value is None else None, "rows": [{"test_loss": value}]}

    values = (0.3, 0.2, 0.1, None)
    points = [{"values": {"lr": 0.1 * at}, "seeds": [seed(value)]} for at, value in enumerate(values)]
    found = ranked(points, "test_loss")
    assert [point["score"] for point in found["points"]] == list(values)
    assert found["best"] == 2
    axes = [{"name": "lr", "values": [0.0, 0.1, 0.2, 0.30000000000000004], "scale": "lin"}]
    results = {**found, "score": "test_loss", "axes": axes}
    assert in_order(results)[-1]["score"] is None
    assert notes(results) == ["A loss was not finite in 1 of 4 configurations, which have no score."]
    axes[0]["values"] = [0.0, 0.1, 0.2]
    assert notes({**results, "points": found["points"][:3]}) == [
        "The best lr is the largest of its axis; a wider axis may hold a better one."
    ]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sweep", "bp", "--over", "lr=log:0.001:0.1:3", "--model", "mlp:8", "--epochs", "1", "--batch-size", "200"]
    assert main([*words, "--out", str(tmp_path / "one")]) == 0
    shown = capsys.readouterr().out
    assert [line.split()[0] for line in shown.splitlines()[3:6]] == ["0.1", "0.01", "0.001"]
    assert f"neurai train --config {tmp_path / 'one' / 'best.toml'}" in shown
    assert main(["sweep", "bp"]) == 2
    assert "at least one setting to vary" in capsys.readouterr().err
