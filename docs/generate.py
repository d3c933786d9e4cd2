"""Writes the computed pages of the documentation: tables and classes from the registry, help texts from the commands.

```
python docs/generate.py           write docs/generated/*.md, and the parts of other pages that are between marks
python docs/generate.py --check   show the differences, and exit with 1 if a page is stale
```
Only what the distribution ``neurai`` offers is listed, whatever else is installed. `registry_pages`,
`reference_pages` and `rule_tables` compute the text, line by line.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ.update(NEURAI_DISABLE_PLUGIN_AUTOLOAD="1", NEURAI_BLOCK="", JAX_PLATFORMS="cpu")  # before what reads it

from markdown_lines import Lines
from reference_pages import checks, commands, environment, errors, front_door, offered, scores
from registry_pages import adapters, classes_of, datasets, rules, surrogates
from rule_tables import side_by_side

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
FOLDER = DOCS / "generated"

PAGES: dict[str, tuple[str, Callable[[], Lines]]] = {
    "rules": ("Learning rules", rules),
    "rules-compared": ("All rules side by side", side_by_side),
    "surrogates": ("Surrogates", surrogates),
    "datasets": ("Data sets", datasets),
    "adapters": ("Adapters", adapters),
    "scores": ("Losses, accuracies, activations", scores),
    "commands": ("Commands", commands),
    "neurai_core": ("neurai_core", front_door),
    "environment": ("Environment", environment),
}
# Page that is written by hand -> what computes the part between its marks.
PARTS: dict[str, Callable[[], Lines]] = {
    "writing-a-rule": offered,
    "checks": checks,
    "reference/errors": errors,
    "reference/grads": partial(classes_of, "algorithm"),
    "reference/surrogates": partial(classes_of, "surrogate"),
}
BEGIN, END = "<!-- What follows is written by docs/generate.py; do not edit. -->\n", "<!-- Here it ends. -->\n"


def page(name: str) -> str:
    """The text of a page."""
    title, lines = PAGES[name]
    return f"# {title}\n\n<!-- Written by docs/generate.py; do not edit. -->\n\n" + "\n".join(lines()).strip() + "\n"


def with_part(path: Path, lines: Callable[[], Lines]) -> str:
    """The text of a page that is written by hand, with its computed part as it should be."""
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    return before + begin + "\n" + "\n".join(lines()) + "\n" + end + after


def computed() -> dict[Path, str]:
    """Every page that is computed, in whole or in part."""
    pages = {FOLDER / f"{name}.md": page(name) for name in PAGES}
    return pages | {(path := DOCS / f"{name}.md"): with_part(path, lines) for name, lines in PARTS.items()}


def stale(path: Path, text: str) -> list[str]:
    """The difference between a page as it is and as it should be."""
    now = path.read_text(encoding="utf-8") if path.exists() else ""
    where = path.relative_to(ROOT).as_posix()
    return list(difflib.unified_diff(now.splitlines(), text.splitlines(), where, f"{where} (computed)", lineterm=""))


def main(arguments: list[str]) -> int:
    """Write the pages, or compare them."""
    texts = computed()
    differences = [line for path, text in texts.items() for line in stale(path, text)]
    if arguments == ["--check"]:
        print("\n".join(differences))
        if differences:
            print("The pages are stale: run `python docs/generate.py`.", file=sys.stderr)
        return 1 if differences else 0
    FOLDER.mkdir(exist_ok=True)
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
