"""Writes docs/generated/check-results.md: what `neurai check --all` finds of the plugins that ship with NeurAI.

```
python docs/check_results.py
```
It takes minutes, so `docs/generate.py` leaves it out. A test compares only which plugins the page lists. Run
`docs/generate.py` afterwards, which takes the numbers of the rules from the page.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

os.environ.update(NEURAI_DISABLE_PLUGIN_AUTOLOAD="1", NEURAI_BLOCK="", JAX_PLATFORMS="cpu", JAX_NUM_CPU_DEVICES="8")

from neurai_core.testing import Outcome, check_named  # the environment decides what the registry lists

PAGE = Path(__file__).resolve().parent / "generated" / "check-results.md"
HEAD = """# Results of the checks

<!-- Written by docs/check_results.py; do not edit. -->

What `neurai check --all` finds of the plugins that ship with NeurAI. [What the checks mean](../checks.md) describes the
checks.

| what | passed | failed | expected failures | skipped |
| --- | --- | --- | --- | --- |
"""
STATUSES = ("passed", "failed", "expected failure", "skipped")


def page(outcomes: Sequence[Outcome]) -> str:
    """The text of the page."""
    lines = [*rows(outcomes), "\n## Expected failures\n"]
    lines += [f"- {one.subject}, `{one.check}`: {one.reason}" for one in outcomes if one.status == "expected failure"]
    lines += ["\n## Remarks\n"]
    lines += [f"- {one.subject}, `{one.check}`: {one.reason}" for one in outcomes if one.is_remark]
    return HEAD + "\n".join(lines) + "\n"


def rows(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """One row for every subject."""
    for subject in dict.fromkeys(one.subject for one in outcomes):
        counts = Counter(one.status for one in outcomes if one.subject == subject)
        yield f"| {subject} | {' | '.join(str(counts[status]) for status in STATUSES)} |"


if __name__ == "__main__":
    PAGE.write_text(page(list(check_named(()))), encoding="utf-8")
