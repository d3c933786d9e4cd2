"""Writes docs/generated/check-results.md: what `neurai check --all` finds of the plugins that ship with NeurAI.

```
python docs/check_results.py [NAME ...]
```
With names, only what the page says of these plugins is replaced. It takes minutes, so `docs/generate.py` leaves it out.
A test compares only which plugins the page lists. Run `docs/generate.py` afterwards, which takes the numbers of the
rules from the page.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

os.environ.update(NEURAI_DISABLE_PLUGIN_AUTOLOAD="1", NEURAI_BLOCK="", JAX_PLATFORMS="cpu", JAX_NUM_CPU_DEVICES="8")

from neurai_core.registry import REGISTRY  # the environment decides what it lists
from neurai_core.testing import Outcome, check_named
from neurai_core.testing.conformance import KITS

PAGE = Path(__file__).resolve().parent / "generated" / "check-results.md"
HEAD = """# Results of the checks

<!-- Written by docs/check_results.py; do not edit. -->

What `neurai check --all` finds of the plugins that ship with NeurAI. [What the checks mean](../checks.md) describes the
checks.

| what | passed | failed | expected failures | skipped |
| --- | --- | --- | --- | --- |
"""
STATUSES = ("passed", "failed", "expected failure", "skipped")


def page(sections: Sequence[Sequence[str]]) -> str:
    """The text of the page: its rows, expected failures and remarks."""
    table, failures, remarks = ("\n".join(lines) for lines in sections)
    return f"{HEAD}{table}\n\n## Expected failures\n\n{failures}\n\n## Remarks\n\n{remarks}\n"


def found(outcomes: Sequence[Outcome]) -> tuple[list[str], ...]:
    """Its sections, of these outcomes."""
    failures = [f"- {one.subject}, `{one.check}`: {one.reason}" for one in outcomes if one.status == "expected failure"]
    remarks = [f"- {one.subject}, `{one.check}`: {one.reason}" for one in outcomes if one.is_remark]
    return list(rows(outcomes)), failures, remarks


def updated(text: str, sections: Sequence[Sequence[str]]) -> tuple[list[str], ...]:
    """The sections of a page in which these take the place of all that it says of the same plugins."""
    plugins = [f"{kind} {name}" for kind in KITS for name in REGISTRY.names(kind)]
    checked = {plugin_of(line) for line in sections[0]}

    def with_new(old: str, new: Sequence[str]) -> list[str]:
        kept = [line for line in old.splitlines() if line.startswith(("| ", "- ")) and plugin_of(line) not in checked]
        return sorted([*kept, *new], key=lambda line: plugins.index(plugin_of(line)))

    old = text.removeprefix(HEAD).split("\n## ")
    return tuple(with_new(*pair) for pair in zip(old, sections, strict=True))


def plugin_of(line: str) -> str:
    """Kind and name: those of ``| algorithm ep (n_relax=2000) | ...`` are ``algorithm ep``."""
    kind, name = line.split()[1:3]
    return f"{kind} {name.rstrip(',')}"


def rows(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """One row for every subject."""
    for subject in dict.fromkeys(one.subject for one in outcomes):
        counts = Counter(one.status for one in outcomes if one.subject == subject)
        yield f"| {subject} | {' | '.join(str(counts[status]) for status in STATUSES)} |"


if __name__ == "__main__":
    sections = found(list(check_named(sys.argv[1:])))
    PAGE.write_text(page(updated(PAGE.read_text(encoding="utf-8"), sections) if sys.argv[1:] else sections), "utf-8")
