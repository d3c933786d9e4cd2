"""Searches: what is drawn, several trials in one program, studies that continue and are shared."""

from __future__ import annotations

import gc
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import neurai_core as neurai
from neurai_core.cli import main
from neurai_core.errors import MissingExtra, NeurAIError
from neurai_core.training import sweep_programs
from neurai_core.training.search import run_search
from neurai_core.training.searched import Search, planned_sweep
from neurai_core.training.seeds import SeedRun, Told, TrainedSeeds
from neurai_core.training.sweep import run

pytestmark = pytest.mark.usefixtures("quick_compile")

SMALL: dict[str, Any] = {"model": "mlp:8", "epochs": 1, "batch_size": 200}
WORDS = ["--model", "mlp:8", "--epochs", "1", "--batch-size", "200"]


def planned(*over: str, sampler: str = "tpe", sets: tuple[str, ...] = (), **more: Any) -> Search:
    rule, seeds = more.pop("rule", "pc"), more.pop("seeds", 1)
    given = {name: more.pop(name, None) for name in ("trials", "together", "study", "storage")}
    made = planned_sweep(rule, over, {**SMALL, **more}, sets, search=sampler, seeds=seeds, environ={}, **given)
    assert isinstance(made, Search)
    return made


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[list[dict[str, Any]]]:
    """Training is replaced by a formula: the score is highest at lr = 0.1. Collects the values of every program."""
    groups: list[list[dict[str, Any]]] = []

    def trained(plan: Any, program: Any, data: Any, looks: Any = None) -> TrainedSeeds:
        points = [plan.points[at] for at in program.points]
        groups.append(points)
        scores = [1 - min(abs(point.get("lr", 0.3) - 0.1), 1.0) for point in points]
        rows = [[{"epoch": 1, "step": 1, "test_accuracy": score}] for score in scores for _ in plan.seeds]
        return TrainedSeeds([SeedRun(0, row) for row in rows], len(points), 0)

    monkeypatch.setattr("neurai_core.training.search.train_program", trained)
    return groups


# ---------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("over", "more", "words"),
    [
        (("eta=log:1:0.01",), {}, "is reversed: it goes down from 1 to 0.01"),
        (("eta=0.5..0.5",), {}, "is empty: it goes from 0.5 to 0.5"),
        (("eta=log:0:1",), {}, "a logarithmic axis needs numbers above 0"),
        (("n=0.5..3",), {}, "gives 0.5, and n is a whole number"),
        (("eat=0.1..1",), {}, "Did you mean 'eta'"),
        (("eta=-1..1",), {}, "With rule.eta=-1.0"),
        (("mode=exact,strict", "eta=0.1..1"), {}, "has no meaning in mode"),
        (("eta=0.1..1",), {"sets": ("eta=0.2",)}, "is set by --set and swept"),
        (("mode=strict,error",), {}, "only 2 configurations, which a search of 30 trials would repeat"),
        (("eta=0.1..1",), {"sampler": "tpee"}, "expected random or tpe. Did you mean 'tpe'"),
        (("eta=0.1..1",), {"trials": 0}, "--trials got 0"),
        (("eta=0.1..1",), {"together": 0}, "--together got 0"),
        (("eta=0.1..1",), {"study": " "}, "--study got an empty name"),
        (("eta=0.1..1",), {"storage": "study.db"}, "expected journal:FILE or the URL of a database"),
        ((), {}, "at least one setting to vary"),
    ],
)
def test_a_search_that_is_not_possible_is_one_clear_error(over: tuple[str, ...], more: Any, words: str) -> None:
    with pytest.raises(NeurAIError) as caught:
        planned(*over, **more)
    assert words in f"{caught.value}"


def test_a_setting_of_a_search_is_not_for_a_grid(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "bp", "--over", "lr=0.1,0.2", "--trials", "3"]) == 2
    assert "--trials is only for searches" in capsys.readouterr().err


def test_without_optuna_one_sentence_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtra, match="A search needs 'optuna'"):
        neurai.sweep("bp", {"lr": "log:0.01:1"}, search="tpe")
    assert main(["sweep", "bp", "--over", "lr=0.1..1", "--search", "tpe", "--out", str(tmp_path / "none")]) == 2
    assert "pip install 'neurai[optuna]'" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


# ---------------------------------------------------------------------------- what is drawn


def test_draws_lie_in_their_ranges_and_only_numbers_share_a_program(scored: Any) -> None:
    pytest.importorskip("optuna")
    over = ("lr=log:0.001:1", "n=3..5", "mode=strict,error", "eta=0.2..0.3")
    results = run_search(planned(*over, trials=12, together=12), Told())
    points = [point["values"] for point in results["points"]]
    assert len(points) == 12
    assert all(0.001 <= point["lr"] <= 1 and 0.2 <= point["rule.eta"] <= 0.3 for point in points)
    assert {point["rule.n"] for point in points} <= {3, 4, 5}
    assert {point["rule.mode"] for point in points} == {"strict", "error"}
    codes = [{(point["rule.n"], point["rule.mode"]) for point in group} for group in scored]
    assert all(len(code) == 1 for code in codes)
    assert len(scored) == len({code for own in codes for code in own}) < 12


def test_tpe_finds_what_random_draws_miss(scored: Any) -> None:
    pytest.importorskip("optuna")
    far = {}
    for sampler in ("random", "tpe"):
        made = planned("lr=log:0.0001:10", sampler=sampler, trials=40, together=4)
        late = [point["values"]["lr"] for point in run_search(made, Told())["points"]][20:]
        far[sampler] = sum(abs(value - 0.1) for value in late) / len(late)
    assert far["tpe"] < 0.3 * far["random"]


def test_random_draws_depend_on_the_seed_and_on_their_number_alone(scored: Any) -> None:
    pytest.importorskip("optuna")

    def drawn(together: int, seed: int) -> list[float]:
        made = planned("lr=log:0.001:1", sampler="random", trials=6, together=together, seed=seed)
        return [point["values"]["lr"] for point in run_search(made, Told())["points"]]

    assert drawn(1, 0) == drawn(4, 0) != drawn(4, 1)


def test_a_trial_whose_loss_was_not_finite_counts_and_is_not_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("optuna")

    def trained(plan: Any, program: Any, data: Any, looks: Any = None) -> TrainedSeeds:
        lrs = [plan.points[at]["lr"] for at in program.points]
        rows = [{"epoch": 1, "step": 1, "test_accuracy": lr} for lr in lrs]
        return TrainedSeeds([SeedRun(0, [row], failed=3 if lr > 0.5 else None) for lr, row in zip(lrs, rows)], 1, 0)  # noqa: B905

    monkeypatch.setattr("neurai_core.training.search.train_program", trained)
    results = run_search(planned("lr=0.1..1", trials=12), Told())
    failed = [point for point in results["points"] if point["score"] is None]
    assert len(results["points"]) == 12 and 0 < len(failed) < 12
    assert all(point["values"]["lr"] > 0.5 for point in failed)
    assert results["points"][results["best"]]["values"]["lr"] <= 0.5


# ---------------------------------------------------------------------------- studies


def numbers_in(folder: Path) -> list[int]:
    return [point["trial"] for point in json.loads((folder / "results.json").read_text())["points"]]


def test_a_study_goes_on_where_it_was_interrupted(scored: list[Any], tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    made = planned("lr=log:0.001:1", trials=6, together=3)

    def stopped(what: str, *others: Any) -> None:
        raise KeyboardInterrupt

    folder = tmp_path / "own"
    run(planned("lr=log:0.001:1", trials=3, together=3), folder)
    import neurai_core.training.search as search

    before, search.train_program = search.train_program, stopped  # type: ignore[assignment]
    try:
        with pytest.raises(KeyboardInterrupt):
            run(made, folder)
    finally:
        search.train_program = before
    assert numbers_in(folder) == [0, 1, 2]
    run(made, folder)
    assert numbers_in(folder) == [0, 1, 2, 6, 7, 8]  # those that were being trained are given up
    assert [len(group) for group in scored] == [3, 3]
    run(made, folder)
    assert len(scored) == 2
    with pytest.raises(NeurAIError, match=r"in which lr is log:0\.001:1\.0, and now it is log:0\.001:2\.0"):
        run(planned("lr=log:0.001:2"), folder)


@pytest.mark.few(1)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Optuna leaves databases open
@pytest.mark.parametrize("storage", ["journal:{}/shared/study.log", "sqlite:///{}/study.db"])
def test_folders_may_share_a_study(scored: Any, storage: str, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    given: dict[str, Any] = {"study": "ours", "storage": storage.format(tmp_path), "together": 2}
    run(planned("lr=log:0.001:1", trials=4, **given), tmp_path / "first")
    run(planned("lr=log:0.001:1", trials=6, **given), tmp_path / "second")
    assert (numbers_in(tmp_path / "first"), numbers_in(tmp_path / "second")) == ([0, 1, 2, 3], [0, 1, 2, 3, 4, 5])
    with pytest.raises(NeurAIError, match=r"The study 'ours' in .* is one in which epochs is 1, and now it is 2"):
        run(planned("lr=log:0.001:1", epochs=2, **given), tmp_path / "third")
    assert not (tmp_path / "third").exists()
    gc.collect()  # what is left open is complained about here


def test_trials_of_a_process_that_is_gone_are_drawn_again(scored: Any, tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna")
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    given: dict[str, Any] = {"storage": f"journal:{tmp_path}/study.log", "together": 1}
    run(planned("lr=log:0.001:1", trials=1, **given), tmp_path / "one")
    backend = optuna.storages.journal.JournalFileBackend(f"{tmp_path}/study.log")
    study = optuna.load_study(study_name="pc-digits", storage=optuna.storages.JournalStorage(backend))
    owners = (f"process {dead.pid} on {socket.gethostname()}", f"process {os.getpid()} on elsewhere")
    for owner in owners:
        study.ask().set_user_attr("owner", owner)
    said: list[str] = []
    run(planned("lr=log:0.001:1", trials=4, **given), tmp_path / "one", Told(note=said.append))
    assert numbers_in(tmp_path / "one") == [0, 3, 4]  # 1 was given up, 2 is still trained elsewhere
    assert said == [f"The last trials are still trained by {owners[1]}; --trials N draws more meanwhile."]


@pytest.mark.parametrize("storage", ["nothing://here", "sqlite:////nowhere/at/all/study.db", "journal:/dev/null/study"])
def test_a_storage_that_cannot_be_used_is_one_clear_error(storage: str, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    with pytest.raises(NeurAIError, match=r"The study 'pc-digits' in .* cannot be used: .*\."):
        run(planned("lr=log:0.001:1", storage=storage), tmp_path / "none")
    assert not (tmp_path / "none").exists()


# ---------------------------------------------------------------------------- for real


def test_trials_in_one_program_give_the_numbers_of_training_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna")
    sizes: list[int] = []
    train: Callable[..., TrainedSeeds] = sweep_programs.train_seeds

    def watched(tasks: Any, *others: Any, **more: Any) -> TrainedSeeds:
        sizes.append(len(tasks))
        return train(tasks, *others, **more)

    monkeypatch.setattr(sweep_programs, "train_seeds", watched)
    out = tmp_path / "own"
    words = ["sweep", "bp", "--over", "lr=log:0.001:0.1", "--search", "random", "--trials", "4", "--together", "3"]
    assert main([*words, *WORDS, "--out", str(out), "--json", "--quiet"]) == 0
    assert sizes == [3, 1]
    results = json.loads(capsys.readouterr().out)
    assert len(results["points"]) == 4 and (out / "sweep.png").stat().st_size > 1000
    best = results["points"][results["best"]]
    words = ["train", "--config", str(out / "best.toml"), "--json", "--quiet", "--out", str(tmp_path / "alone")]
    assert main(words) == 0
    alone = json.loads(capsys.readouterr().out)
    for name in ("train_loss", "test_loss", "test_accuracy"):
        assert best["seeds"][0]["rows"][-1][name] == pytest.approx(alone[name], abs=2e-6)


@pytest.mark.slow
def test_processes_share_one_folder(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    words = ["sweep", "bp", "--over", "lr=log:0.001:0.1", "--search", "random", "--trials", "6", "--together", "1"]
    command = [sys.executable, "-m", "neurai_core", *words, *WORDS, "--out", str(tmp_path / "own"), "--quiet"]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in running:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
    results = json.loads((tmp_path / "own" / "results.json").read_text())
    assert len(results["points"]) == 6
    alone = run_search(planned("lr=log:0.001:0.1", rule="bp", sampler="random", trials=6), Told())
    values = {point["trial"]: point["values"]["lr"] for point in alone["points"]}
    shared = {point["trial"]: point["values"]["lr"] for point in results["points"]}
    assert {at: shared[at] for at in shared if at in values} == {at: values[at] for at in shared if at in values}
