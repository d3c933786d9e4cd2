"""References by key: what is read of BibTeX, and what is refused with the place where it stands."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

import neurai_core
from neurai_core.errors import DataError
from neurai_core.references import bibliography, cited

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
PAPER = r"""@article{doe2020toys,
  title   = {On {Toys}, and
             why  we need them},
  author  = {Doe, Zo{\"e} and N{\o}kland, {\'E}ric and Dvo\v{r}\'{a}k, A.},
  journal = {Toys {\&} Games},
  year    = 2020,
  doi     = {10.1/2},
  note    = {arXiv:2001.00001},
}"""


def test_an_entry_is_read_as_it_is_printed_and_kept_as_it_is_written() -> None:
    (paper,) = bibliography(f"% toys\n\n{PAPER}\n").values()
    assert paper.title == "On Toys, and why we need them"
    assert paper.authors == "Doe, Zoë and Nøkland, Éric and Dvořák, A."
    assert (paper.year, paper.doi, paper.arxiv, paper.url) == (2020, "10.1/2", "2001.00001", "")
    assert paper.bibtex == PAPER


def test_a_title_is_enough() -> None:
    (page,) = bibliography("@misc{toys, title = {Toys}}").values()
    assert page == neurai_core.Reference(title="Toys", bibtex="@misc{toys, title = {Toys}}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("toys", "toys.bib, line 1: expected an entry, as in @article{key, title = {...}}; found 'toys'"),
        ("@misc{a, title = {A}}\n\n}", "toys.bib, line 3: expected an entry"),
        ("@misc{a, title = {A}}\n@misc{a, title = {B}}", "toys.bib has two entries 'a'."),
        ("@misc{a,\n title = {A}\n year = 1}", "toys.bib, entry 'a', line 3: expected a comma after the field 'title'"),
        ('@misc{a,\n title = "A"}', "toys.bib, entry 'a', line 2: expected a field, as in title = {...}"),
        ("@misc{a,\n title = {A{B}\n", "toys.bib, entry 'a', line 2: a brace is opened here and never closed"),
        ("@misc{a, title = {A}, Title = {B}}", "toys.bib, entry 'a', line 1: the field 'title' is there twice"),
        ("@misc{a, year = 1}", "toys.bib, entry 'a' has no title."),
        ("@misc{a, title = {A}, year = {soon}}", "toys.bib, entry 'a' has the year 'soon', expected a whole number."),
        (r"@misc{a, title = {\textit{A}}}", r"toys.bib, entry 'a' has a command that is not read: '\\textit{A}'."),
    ],
)
def test_what_cannot_be_read_is_named_with_its_file_and_entry(text: str, said: str) -> None:
    with pytest.raises(DataError) as caught:
        bibliography(text, "toys.bib")
    assert caught.value.message.startswith(said)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module ``toy_package.inner.spec``, with a file of references in both packages."""
    inner = tmp_path / "toy_package" / "inner"
    inner.mkdir(parents=True)
    for folder in (inner, inner.parent):
        (folder / "__init__.py").touch()
    (inner / "spec.py").touch()
    (inner.parent / "references.bib").write_text("@misc{both, title = {Outer}}\n@misc{outer, title = {Outer}}")
    (inner / "references.bib").write_text("@misc{both, title = {Inner}}")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("toy_package", "toy_package.inner", "toy_package.inner.spec"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    __import__("toy_package.inner.spec")
    return sys.modules["toy_package.inner.spec"]


def test_the_file_beside_a_module_comes_before_those_of_packages_around_it(package: ModuleType) -> None:
    assert [one.title for one in cited(package.__name__, "both", "outer")] == ["Inner", "Outer"]


def test_a_key_that_is_not_there_is_named_with_the_files_and_the_nearest_one(package: ModuleType) -> None:
    with pytest.raises(DataError) as caught:
        cited(package.__name__, "outter")
    assert "toy_package.inner.spec cites 'outter'" in caught.value.message
    assert "toy_package.inner/references.bib or toy_package/references.bib" in caught.value.message
    assert "Did you mean 'outer'?" in caught.value.message
    assert caught.value.hint == "Entries: both, outer."


def test_where_there_is_no_file_it_says_where_to_write_one() -> None:
    with pytest.raises(DataError, match=r"Write it into references.bib beside the module."):
        cited("json.decoder", "toys")


@pytest.mark.parametrize("file", sorted(PLUGINS.glob("**/references.bib")), ids=lambda path: path.parent.name)
def test_every_entry_of_the_built_in_plugins_is_cited(file: Path) -> None:
    entries = bibliography(file.read_text(encoding="utf-8"))
    specs = [
        neurai_core.spec(kind, name)
        for kind in ("algorithm", "surrogate", "dataset", "adapter")
        for name in neurai_core.names(kind)
    ]
    used = {reference.bibtex for spec in specs for reference in spec.references}
    assert entries and [key for key, one in entries.items() if one.bibtex not in used] == []
