"""The checks of data sets catch what they are for: each mutant breaks one property and fails one check."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from pydantic import Field

from neurai_core.data import Dataset
from neurai_core.plugin import Plugin
from neurai_core.specs import Config, DatasetSpec
from neurai_core.testing import check_dataset, failures

SPEC = {
    "name": "mutant",
    "summary": "One that may break one property.",
    "shape": (2,),
    "classes": ("low", "high"),
    "train": 40,
    "test": 10,
    "split": "the first 40 of 50",
    "source": "drawn",
    "license": "CC0-1.0",
    "attribution": "nobody",
}
CALLS = itertools.count()


def arrays():
    x = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int32)
    return {"x_train": x[:40], "y_train": y[:40], "x_test": x[40:], "y_test": y[40:]}


def sound(cls=Dataset, **changes):
    """A build function whose data have other arrays, facts or class."""

    def build(config, **context):
        found = {name: change(arrays()) for name, change in changes.items()}
        return cls("mutant", **{**arrays(), "classes": ("low", "high"), "license": "CC0-1.0", **found})

    return build


class Writeable(Dataset):
    def __post_init__(self):
        """Leave the arrays as they are."""


def last(name, value):
    """The array of that name with another last entry."""

    def change(found):
        array = found[name].copy()
        array.flat[-1] = value
        return array

    return change


MUTANTS = [
    ("loads", sound(y_test=lambda found: found["y_test"][:5]), {}),
    ("loads", sound(x_test=lambda found: found["x_test"][:, :1]), {}),
    ("loads", lambda config, **context: "digits", {}),
    ("shape", sound(), {"shape": (3,)}),
    ("dtype", sound(), {"dtype": "float64"}),
    ("classes", sound(), {"classes": ("high", "low")}),
    ("sizes", sound(), {"train": 41}),
    ("finite", sound(x_train=last("x_train", np.nan)), {}),
    ("finite", sound(x_test=last("x_test", np.inf)), {}),
    ("labels", sound(y_train=last("y_train", 2)), {}),
    ("labels", sound(y_test=last("y_test", -1)), {}),
    ("labels", sound(y_train=lambda found: found["y_train"].astype(bool)), {}),
    ("deterministic", sound(x_train=lambda found: found["x_train"] + next(CALLS)), {}),
    ("read-only", sound(Writeable), {}),
    ("apart", sound(x_test=lambda found: found["x_train"][:10], y_test=lambda found: found["y_train"][:10]), {}),
    ("terms", sound(), {"source": ""}),
    ("terms", sound(), {"split": ""}),
    ("terms", sound(license=lambda found: ""), {"license": ""}),
    ("terms", sound(), {"license": "MIT"}),
    ("terms", sound(), {"known_failures": {"term": "it has none"}}),
]


def plugin(build, spec):
    return Plugin(DatasetSpec(**{**SPEC, **spec}), build)


def test_the_sound_one_passes_every_check():
    assert {one.status for one in check_dataset(plugin(sound(), {}))} == {"passed", "skipped"}  # loaded from no module


@pytest.mark.parametrize(("caught", "build", "spec"), MUTANTS, ids=[name for name, *_ in MUTANTS])
def test_a_mutant_is_caught_by_its_check_and_no_other(caught, build, spec):
    failed = failures(check_dataset(plugin(build, spec)))
    assert [one.check for one in failed] == [caught], [(one.check, one.reason) for one in failed]
    assert failed[0].reason and failed[0].hint


class FilesConfig(Config):
    path: str = Field(description="the file")
    steps: int = Field(2, ge=1, description="numbers per example")


def test_one_that_needs_files_is_skipped_until_it_gets_them():
    built = plugin(sound(), {"config": FilesConfig, "shape": None})
    without = check_dataset(built, only=["loads", "finite"])
    assert {one.status for one in without} == {"skipped"}
    assert without[0].reason == "needs path: check_dataset('mutant', settings={'path': ...})"
    found = check_dataset(built, settings={"path": "here"}, only=["loads", "sizes"])
    assert [(one.subject, one.status) for one in found] == [("dataset mutant (path=here)", "passed")] * 2
    (other,) = check_dataset(built, settings={"path": "here", "steps": 3}, only=["sizes"])
    assert other.reason == "the spec states train for the default settings"


def test_nothing_is_downloaded_for_a_check():
    class Download(Config):
        download: bool = Field(True, description="whether to download")

    def build(config, **context):
        from neurai_core.errors import DataError

        assert not config.download
        raise DataError("The files are not there and download=False.")

    (found,) = check_dataset(plugin(build, {"config": Download}), only=["loads"])
    assert (found.status, found.reason) == ("skipped", "The files are not there and download=False.")


def test_rows_that_repeat_within_a_part_say_nothing_about_the_split():
    build = sound(x_train=lambda found: np.zeros((40, 2), np.float32))
    (found,) = check_dataset(plugin(build, {}), only=["apart"])
    assert found.status == "skipped" and found.reason.startswith("rows repeat within")
