"""The report of a comparison: one HTML file that holds its pictures, and needs nothing else."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from neurai_core.errors import OutputError
from neurai_core.report.comparison import (
    LEVEL,
    PAIRS,
    Results,
    is_share,
    notes,
    p_text,
    pair_rows,
    score_columns,
    score_rows,
    span,
    text_of,
)
from neurai_core.report.comparison_pictures import Picture, pictures

STYLE = """
:root { color-scheme: light dark; --ink: #1c2126; --soft: #57606a; --line: #d5dae0; --back: #fff; --panel: #f5f7f9; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7ea; --soft: #a3abb4; --line: #3a4148; --back: #15181b; --panel: #1f2428; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1.5rem 1rem 4rem; background: var(--back); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .75rem; padding-top: .75rem; border-top: 1px solid var(--line); }
.soft, figcaption { color: var(--soft); font-size: .9rem; }
.wide { overflow-x: auto; margin: .75rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { padding: .35rem .7rem .35rem 0; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top;
  white-space: nowrap; }
tr > :first-child { position: sticky; left: 0; background: var(--back); }
th { font-weight: 600; color: var(--soft); }
.number { text-align: right; }
.long { white-space: normal; min-width: 20rem; overflow-wrap: anywhere; }
.figures { display: grid; gap: 1.25rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 19rem), 1fr)); }
figure { margin: 0; max-width: 32rem; }
img { max-width: 100%; height: auto; display: block; }
pre { overflow-x: auto; background: var(--panel); padding: .75rem; border-radius: .4rem; font-size: .85rem; }
li { margin: .25rem 0; }
"""

LONG = "settings of the rule"  # the column that may take several lines
METHOD = (
    "For every seed, all rules start from the same parameters and see the same batches in the same order; a rule that "
    "has parameters of its own draws these besides.",
    "Scores are those after the last epoch, on test data. Intervals are 95 % t intervals over the seeds; bands in the "
    "pictures are the same, thin lines are single seeds.",
    "Tests are paired t tests, two-sided: the difference of two rules at the same seed. Holm's method corrects for the "
    f"number of pairs; below {LEVEL} a pair counts as different. A pair that does not may still differ by less than "
    "these seeds can show.",
    "Wall time is that of the steps alone, without compiling and testing. Seeds that ran in one program share its time "
    "and its memory equally. Memory is what XLA plans for the compiled step, training data included.",
    "Matrix products are counted in the program of one estimate: two operations per multiplication and addition, "
    "loops as often as they run, elementwise work not at all.",
    "Alignment is the cosine between the gradients of a rule and those of the loss by back-propagation, on the first "
    "batch of the data, before training and after every epoch. Energies are of the same batch, after training.",
)


def report(results: Results, folder: Path, name: str = "report.html") -> Path:
    """Draw the pictures of a comparison, and write the report that holds them.

    Args:
        results: as ``results.json`` holds them.
        folder: an existing folder.
        name: the file to write there.

    Raises:
        OutputError: a file cannot be written.
    """
    drawn = pictures(results, folder)
    path = folder / name
    try:
        path.write_text(page(results, drawn), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}.") from error
    return path


def page(results: Results, drawn: Sequence[Picture]) -> str:
    """The report as HTML."""
    title = f"{_listed(results['rules'])} on {results['data']}"
    sections = (
        ("Scores", _scores(results)),
        ("Differences", _differences(results)),
        ("Learning curves", _figures("curves", drawn)),
        ("What it costs", _figures("costs", drawn)),
        ("Alignment with back-propagation", _figures("alignment", drawn) + _unaligned(results)),
        ("Energy while relaxing", _figures("energy", drawn)),
        ("Settings", _settings(results)),
        ("How this was measured", _items((*METHOD, *_together(results)))),
        ("Versions", _versions(results)),
        ("Citations", _citations(results)),
    )
    body = "".join(f"<section><h2>{escape(name)}</h2>{content}</section>\n" for name, content in sections if content)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{escape(title)}</h1>\n<p>{escape(summary(results))}</p>\n{body}</main>\n</body>\n</html>\n"
    )


def summary(results: Results) -> str:
    """What came out, in two or three sentences."""
    percent, scores = is_share(results["score"]), results["scores"]
    known = {rule: found["mean"] for rule, found in scores.items() if found["mean"] is not None}
    words, seeds = results["score"].replace("_", " "), len(results["seeds"])
    if not known:
        return "No seed of any rule finished."
    best = (max if percent else min)(known.values())
    first = [rule for rule in known if known[rule] == best]
    interval = span(scores[first[0]], percent) if len(first) == 1 else None
    said = f"After {_count(results['epochs'], 'epoch')} and with {_count(seeds, 'seed')}, the best {words} is that of "
    said += f"{_listed(first)}, {text_of(best, percent)}" + (f" ({interval})" if interval else "") + ". "
    different = [found for found in results["tests"] if found["p_holm"] < LEVEL]
    if not results["tests"]:
        return said + "Too few seeds finished for tests."
    if not different:
        return said + "No pair of rules differs by more than chance explains."
    pairs = "; ".join(f"{' and '.join(found['rules'])} (p = {p_text(found['p_holm'])})" for found in different)
    return said + f"Different by more than chance explains: {pairs}."


# ---------------------------------------------------------------------------- sections


def _scores(results: Results) -> str:
    columns = score_columns(results)
    return _table(columns, score_rows(results), columns[1:]) + _items(notes(results))


def _differences(results: Results) -> str:
    if not results["tests"]:
        return "<p>Too few seeds finished for tests.</p>"
    return _table(PAIRS, pair_rows(results), PAIRS[1:])


def _unaligned(results: Results) -> str:
    return _items(
        f"{rule} has no alignment: {result['no_alignment']}."
        for rule, result in results["rules"].items()
        if result["no_alignment"]
    )


def _settings(results: Results) -> str:
    shared = f"{_count(results['epochs'], 'epoch')} of batches of {results['batch_size']}, {results['steps']} steps"
    said = f"<p>{escape(results['model'])} on {escape(results['data'])}: {escape(shared)}; seeds "
    said += (
        f"{escape(', '.join(map(str, results['seeds'])))}. Each command trains one rule alone, with the first seed, "
    )
    said += "to the same numbers.</p>"
    rows = [
        [
            rule,
            str(one["parameters"]),
            one["loss"],
            one["run"]["optimizer"],
            f"{one['run']['lr']:g}",
            _pairs(one["settings"]),
        ]
        for rule, one in results["rules"].items()
    ]
    columns = ("rule", "parameters", "loss", "optimizer", "learning rate", LONG)
    commands = "\n".join(one["command"] for one in results["rules"].values())
    return said + _table(columns, rows, ("parameters", "learning rate")) + f"<pre>{escape(commands)}</pre>"


def _pairs(settings: Mapping[str, object]) -> str:
    return ", ".join(f"{key}={_value(value)}" for key, value in settings.items()) or "none"


def _value(value: object) -> str:
    """A value as `--set` reads it."""
    return value if isinstance(value, str) else "none" if value is None else json.dumps(value)


def _together(results: Results) -> Iterable[str]:
    sizes = {rule: result["together"] for rule, result in results["rules"].items()}
    for n in dict.fromkeys(sizes.values()):
        rules = _listed(rule for rule, size in sizes.items() if size == n)
        yield f"{rules}: {_count(n, 'seed')} in one program." if n > 1 else f"{rules}: one seed after the other."


def _versions(results: Results) -> str:
    found: dict[str, str] = {}
    for result in results["rules"].values():
        found |= result["versions"]
    return _table(("what", "version"), [[name, version] for name, version in found.items()], ())


def _citations(results: Results) -> str:
    entries = {
        one["bibtex"]: None for result in results["rules"].values() for one in result["references"] if one["bibtex"]
    }
    text = "\n\n".join(entries)
    return f"<pre>{escape(text)}</pre>" if text else ""


# ---------------------------------------------------------------------------- parts of HTML


def _figures(section: str, drawn: Sequence[Picture]) -> str:
    own = [_figure(one) for one in drawn if one.section == section]
    return f'<div class="figures">{"".join(own)}</div>' if own else ""


def _figure(picture: Picture) -> str:
    data = base64.b64encode(picture.path.read_bytes()).decode("ascii")
    caption = escape(picture.caption)
    return (
        f'<figure><img alt="{caption}" src="data:image/png;base64,{data}"><figcaption>{caption}</figcaption></figure>'
    )


def _table(columns: Sequence[str], rows: Iterable[Sequence[str | None]], right: Sequence[str]) -> str:
    kinds = [' class="number"' if column in right else ' class="long"' * (column == LONG) for column in columns]
    head = "".join(f"<th{kind}>{escape(column)}</th>" for column, kind in zip(columns, kinds, strict=True))
    body = "".join(
        "<tr>"
        + "".join(f"<td{kind}>{escape(cell or '-')}</td>" for cell, kind in zip(row, kinds, strict=True))
        + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _items(sentences: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f"<ul>{items}</ul>" if items else ""


def _listed(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _count(n: int, noun: str) -> str:
    """A number with its noun.

    >>> _count(1, "seed"), _count(5, "seed")
    ('1 seed', '5 seeds')
    """
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
