"""Comparisons: what the rules share, seeds in one program, folders that continue."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import neurai_core as neurai
from neurai_core.cli import main
from neurai_core.errors import NeurAIError
from neurai_core.report.comparison import LEVEL, analysis
from neurai_core.report.comparison_page import page, summary
from neurai_core.report.statistics import holm, paired_t, t_interval
from neurai_core.stored import StoredArray
from neurai_core.training import seeds as seeds_module
from neurai_core.training.compare import run
from neurai_core.training.compared import Plan, plan
from neurai_core.training.comparison_folder import RULES
from neurai_core.training.host_data import on_device
from neurai_core.training.inspection import cosines
from neurai_core.training.loop import train_task
from neurai_core.training.seeds import train_seeds
from neurai_core.training.settings import choose
from neurai_core.training.step import begin
from neurai_core.training.task import Objects, Task, prepare

pytestmark = pytest.mark.usefixtures("quick_compile")

SMALL: dict[str, Any] = {"model": "mlp:8", "epochs": 2, "batch_size": 200}


def task_of(rule: str, seed: int, **flags: Any) -> Task:
    return prepare(choose({**SMALL, "rule": rule, "seed": seed, **flags}, environ={}))


# ---------------------------------------------------------------------------- seeds


@pytest.mark.parametrize("rule", ["ep", pytest.param("bipc", marks=pytest.mark.slow)])
def test_seeds_in_one_program_give_the_numbers_of_training_alone(rule: str) -> None:
    tasks = [task_of(rule, seed, model="mlp:8,tanh") for seed in (0, 7)]
    together = train_seeds(tasks)
    assert together.together == 2
    alone = train_task(tasks[1])
    for ours, theirs in zip(together.runs[1].rows[1:], alone.rows, strict=True):
        wanted = {name: value for name, value in theirs.values.items() if not name.startswith("aux/")}
        assert {name: ours[name] for name in wanted} == pytest.approx(wanted, rel=1e-5, abs=1e-6)
    assert together.runs[0].rows[-1]["test_loss"] != together.runs[1].rows[-1]["test_loss"]


def test_data_that_stay_in_files_give_the_numbers_of_data_in_memory() -> None:
    digits = neurai.dataset("digits")
    stored = replace(digits, x_train=StoredArray(np.asarray(digits.x_train)))
    assert not on_device(stored)
    in_memory, in_files = (
        train_seeds(
            [prepare(choose({**SMALL, "rule": "bp", "seed": seed}, environ={}), Objects(data=data)) for seed in (0, 7)]
        )
        for data in (digits, stored)
    )
    for one, other in zip(in_memory.runs, in_files.runs, strict=True):
        for ours, theirs in zip(one.rows, other.rows, strict=True):
            assert ours | {"seconds": 0.0} == pytest.approx(theirs | {"seconds": 0.0}, rel=1e-6)


@pytest.mark.slow
def test_seeds_that_do_not_fit_into_memory_go_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = [task_of("bp", seed, epochs=1) for seed in range(3)]
    at_once = train_seeds(tasks)
    monkeypatch.setattr(seeds_module, "free_bytes", lambda: 1.5 * at_once.bytes / seeds_module.SHARE)
    in_turn = train_seeds(tasks)
    assert (at_once.together, in_turn.together) == (3, 1)
    for one, other in zip(at_once.runs, in_turn.runs, strict=True):
        assert one.rows[-1]["test_loss"] == pytest.approx(other.rows[-1]["test_loss"], abs=2e-6)


def test_a_seed_whose_loss_is_not_finite_ends_alone() -> None:
    tasks = [task_of("bp", seed, epochs=2) for seed in (0, 1)]
    broken = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), tasks[1].params)
    object.__setattr__(tasks[1], "params", broken)
    good, bad = train_seeds(tasks).runs
    assert (good.failed, len(good.rows)) == (None, 3)
    assert (bad.failed, bad.rows) == (0, [])


def test_alignment_is_the_cosine_to_back_propagation_on_the_first_batch() -> None:
    task, reference = task_of("ep", 0), neurai.algorithm("bp")
    state, batch = begin(task).state, (task.data.x_train[:200], task.data.y_train[:200])

    look = cosines(task)
    assert look is not None
    ours, theirs = (
        jax.jit(lambda p, rule=rule: gradients_of(rule, task, state, batch, p))(task.params)
        for rule in (task.rule, reference)
    )
    wanted = [cosine(one, other) for one, other in zip(ours, theirs, strict=True)]
    assert look(task.params, state) == pytest.approx({"0": wanted[0], "1": wanted[1]}, abs=1e-5)
    assert max(wanted) < 0.9999  # it is not back-propagation


def gradients_of(rule: Any, task: Task, state: Any, batch: Any, params: Any) -> Any:
    return rule.estimate(task.model, params, state, batch, key=jax.random.key(0))[0].grads


def cosine(one: Any, other: Any) -> float:
    a, b = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in (one, other))
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


# ---------------------------------------------------------------------------- statistics


def test_intervals_and_tests_are_those_of_scipy() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 6))
    low, high = stats.t.interval(0.95, 5, a.mean(), stats.sem(a))
    assert t_interval(list(a)) == pytest.approx((a.mean(), low, high))
    assert paired_t(list(a), list(b)) == pytest.approx(stats.ttest_rel(a, b).pvalue)


def test_holm_multiplies_by_the_tests_left_and_never_sinks() -> None:
    assert holm([0.01, 0.02, 0.04, 0.9]) == pytest.approx([0.04, 0.06, 0.08, 0.9])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


def test_equal_scores_do_not_differ_and_constant_differences_do() -> None:
    assert paired_t([0.5, 0.7], [0.5, 0.7]) == 1.0
    assert paired_t([0.5, 0.75], [0.25, 0.5]) == 0.0


# ---------------------------------------------------------------------------- comparisons


@pytest.fixture(scope="module")
def planned() -> Plan:
    return plan(["bp", "pc"], SMALL, ["pc.n=3"], seeds=2, environ={})


@pytest.fixture(scope="module")
def folder(planned: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("comparison") / "own"
    run(planned, out)
    return out


def results_in(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return found


def test_all_rules_start_from_the_same_parameters(folder: Path) -> None:
    rules = results_in(folder)["rules"]
    starts = [[seed["rows"][0]["test_loss"] for seed in rules[rule]["seeds"]] for rule in ("bp", "pc")]
    assert starts[0] == starts[1]
    assert len(set(starts[0])) == 2


def test_the_command_of_a_rule_gives_its_first_seed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = results_in(folder)["rules"]["pc"]
    words = result["command"].split()[1:]
    assert main([*words, "--json", "--quiet", "--out", str(folder.parent / "alone")]) == 0
    alone = json.loads(capsys.readouterr().out)
    last = result["seeds"][0]["rows"][-1]
    for name in ("train_loss", "test_loss", "test_accuracy"):
        assert last[name] == pytest.approx(alone[name], abs=2e-6)


def test_what_a_comparison_counts_and_sees(folder: Path) -> None:
    rules = results_in(folder)["rules"]
    forward = 2.0 * 200 * (64 * 8 + 8 * 10)
    assert rules["bp"]["forward_flops"] == forward
    assert rules["bp"]["flops"] == 2 * forward + 2.0 * 200 * 8 * 10  # no gradient of the inputs
    assert rules["pc"]["flops"] > rules["bp"]["flops"]
    seed = rules["pc"]["seeds"][1]
    assert [list(epoch) for epoch in seed["cosine"]] == 3 * [["0", "1"]]
    assert np.diff(seed["energy"]["inference"]).max() <= 1e-5
    assert rules["bp"]["seeds"][0]["energy"] == {}


def test_the_report_holds_everything_itself(folder: Path) -> None:
    text = (folder / "report.html").read_text()
    assert text.count("data:image/png;base64,") == len(list(folder.glob("*.png"))) == 8
    assert not re.search(r"""<script|<link|(src|href)=["'](?!data:)|url\(|@import""", text)
    for word in ("bp and pc on digits", "Holm", "@article{rumelhart", "neurai train --rule pc", "n=3"):
        assert word in text


def test_an_interrupted_comparison_trains_only_what_is_missing(
    planned: Plan, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from neurai_core.training import compare

    shutil.copytree(folder, tmp_path / "again")
    (tmp_path / "again" / RULES / "pc.json").unlink()
    (tmp_path / "again" / RULES / "bp.json").write_text("{")
    with pytest.raises(NeurAIError, match=r"bp\.json cannot be read"):
        run(planned, tmp_path / "again")
    shutil.copy(folder / RULES / "bp.json", tmp_path / "again" / RULES)
    trained: list[str] = []

    def watched(tasks: Any, *others: Any) -> Any:
        trained.append(tasks[0].rule_name)
        return train_seeds(tasks, *others)

    monkeypatch.setattr(compare, "train_seeds", watched)
    again = run(planned, tmp_path / "again")
    assert trained == ["pc"]
    assert again.scores == results_in(folder)["scores"]


def test_a_folder_of_another_comparison_is_rejected(folder: Path) -> None:
    with pytest.raises(NeurAIError, match=r"in which rule\.n of pc is 3, and now it is 4"):
        run(plan(["bp", "pc"], SMALL, ["pc.n=4"], seeds=2, environ={}), folder)
    before = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    jax.config.update("jax_default_matmul_precision", "highest")
    with pytest.raises(NeurAIError, match="in which matmul_precision is default, and now it is highest"):
        run(plan(["bp", "pc"], SMALL, ["pc.n=3"], seeds=2, environ={}), folder)
    jax.config.update("jax_default_matmul_precision", before)
    with pytest.raises(NeurAIError, match="with the seeds 0, 1, and now they are 0, 1, 2"):
        run(plan(["bp", "pc"], SMALL, ["pc.n=3"], seeds=3, environ={}), folder)
    with pytest.raises(NeurAIError, match="with the rules bp, pc, and now they are pc, bp"):
        run(plan(["pc", "bp"], SMALL, ["pc.n=3"], seeds=2, environ={}), folder)


@pytest.mark.slow
def test_a_comparison_from_python_needs_no_folder() -> None:
    found = neurai.compare(["bp", "pc"], seeds=1, settings={"pc": {"n": 3, "lr": 0.01}}, **SMALL)
    assert found.folder is None
    assert found.tests == []
    assert found.scores["bp"]["low"] is None
    assert found.results["rules"]["pc"]["settings"]["n"] == 3
    assert found.results["rules"]["pc"]["run"]["lr"] == 0.01
    assert "test accuracy" in str(found)


# ---------------------------------------------------------------------------- words


def result(*values: float | None, rule: str = "<b>") -> dict[str, Any]:
    """Results as JSON has them, with a seed that failed for every None."""
    seeds = [
        {
            "seed": number,
            "failed": 3 if value is None else None,
            "rows": []
            if value is None
            else [{"epoch": 0, "step": 0, "seconds": 0.0, "test_accuracy": value, "test_loss": 1.0}],
            "cosine": [],
            "energy": {},
        }
        for number, value in enumerate(values)
    ]
    more = {"loss": "mse", "own_loss": "", "step_ms": 1.0, "bytes": 1, "flops": 3.0, "flops_exact": False}
    words = {"forward_flops": 1.0, "no_alignment": "", "rising": False, "together": 1, "versions": {}, "references": []}
    run_settings = {"optimizer": "adam", "lr": 0.1}
    return {"seeds": seeds, **more, **words, "parameters": 1, "settings": {}, "run": run_settings, "command": rule}


def of_rules(rules: dict[str, Any]) -> dict[str, Any]:
    top = {"data": "<i>", "model": "&", "score": "test_accuracy", "epochs": 1, "batch_size": 1, "steps": 1}
    seeds = [run["seed"] for run in next(iter(rules.values()))["seeds"]]
    return {**top, "seeds": seeds, **analysis(rules, "test_accuracy"), "rules": rules}


def test_what_comes_from_outside_is_escaped() -> None:
    text = page(of_rules({"<b>": result(0.1, 0.2), "<u>": result(0.1, 0.3)}), [])
    assert "<b>" not in text and "<i>" not in text and "<u>" not in text
    assert "&lt;b&gt; and &lt;u&gt; on &lt;i&gt;" in text


def test_seeds_that_failed_are_left_out_and_named() -> None:
    results = of_rules({"a": result(0.5, 0.6, None), "b": result(0.1, 0.2, 0.3), "c": result(None, None, None)})
    assert [found["rules"] for found in results["tests"]] == [["a", "b"]]
    assert results["tests"][0]["seeds"] == 2
    assert results["tests"][0]["p_holm"] < LEVEL
    text = page(results, [])
    assert "a, seed 2: a loss was not finite at step 3" in text
    assert "2 of 3" in text and "0 of 3" in text and "&gt;= 3 x forward" in text


def test_the_summary_names_who_is_best_and_what_differs() -> None:
    said = summary(of_rules({"a": result(0.5, 0.6, 0.7), "b": result(0.1, 0.2, 0.31)}))
    assert "the best test accuracy is that of a, 60.00 %" in said
    assert "Different by more than chance explains: a and b" in said
    assert "is that of a and b, 50.00 %." in summary(of_rules({"a": result(0.5), "b": result(0.5)}))


# ---------------------------------------------------------------------------- bad input


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """The error of a command that trains nothing and writes nothing."""
    monkeypatch.chdir(tmp_path)
    for name in ("NEURAI_DATASET", "NEURAI_EPOCHS"):
        monkeypatch.delenv(name, raising=False)

    def run_command(*words: str) -> str:
        before = sorted(tmp_path.rglob("*"))
        assert main(["compare", *words, "--epochs", "1"]) == 2
        assert sorted(tmp_path.rglob("*")) == before
        return " ".join(capsys.readouterr().err.split())

    return run_command


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("bp", "A comparison needs at least two rules, got only 'bp'."),
        ("bp pc bp", "The rule 'bp' is given twice."),
        ("bipc bp bpc", "The rule 'bipc' is given twice, as 'bipc' and 'bpc'."),
        ("bp pcc", "Did you mean 'pc'?"),
        ("bp pc --set ep.beta=0.1", "Settings are given for 'ep', which is not compared."),
        ("bp pc --set pd.n=3", "Settings are given for 'pd', which is not compared. Did you mean 'pc'?"),
        ("bp pc --set n=3", "--set got 'n', a setting of pc, and does not say whose. hint: Write --set pc.n=VALUE."),
        ("bp pc --set epoch=3", "Did you mean 'epochs'?"),
        ("bp pc --set pc.batch_size=3", "batch_size is set for the rule 'pc' alone, and all rules of a comparison"),
        ("bp pc --set pc.etaa=3", "etaa: not a setting of 'pc'; did you mean 'eta'?"),
        ("bp hebbian", "hebbian learns from inputs alone and bp from targets, so they train different networks."),
        ("bp pc --set align=true", "align is not a setting of a comparison: alignment is always measured."),
        ("bp pc --seeds 0", "--seeds got 0, expected at least 1."),
        ("bp eprop --model mlp:8", "eprop cannot take part: E-prop trains a SpikingNetwork"),
        ("bp pc --out taken", "taken is not empty, and it holds no comparison."),
    ],
)
def test_bad_input_is_one_sentence_before_any_work(
    refused: Callable[..., str], tmp_path: Path, words: str, said: str
) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").write_text("")
    assert said in refused(*words.split())
