"""Comparing, parsing and suggesting names.

Names are compared after folding case and dropping ``-``, ``_`` and ``.``, so ``SuperSpike``, ``super_spike``
and ``super-spike`` are one name. Distributions are compared as in PEP 503.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_DROPPED = str.maketrans("", "", "-_.")
_LONGEST = 64  # number of letters of a wrong name that are compared


def canonical(name: str) -> str:
    """The canonical form of a name, equal for all its spellings.

    >>> canonical("Super-Spike") == canonical("super_spike")
    True
    """
    return name.translate(_DROPPED).casefold().strip()


def normalize_distribution(name: str) -> str:
    """The name of a distribution, normalized as in PEP 503.

    >>> normalize_distribution("My_Plugin.Extra")
    'my-plugin-extra'
    """
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def split_qualified(name: str) -> tuple[str, str | None]:
    """Split a name from the distribution that qualifies it, or None.

    >>> split_qualified("pc@some-dist")
    ('pc', 'some-dist')
    >>> split_qualified("pc")
    ('pc', None)
    """
    bare, _, distribution = name.partition("@")
    return bare.strip(), distribution.strip() or None


def suggest(given: str, known: Iterable[str]) -> str | None:
    """The known name nearest to the given one, or None if none is close.

    >>> suggest("etta", ["n", "eta", "mode"])
    'eta'
    >>> suggest("eat", ["data", "eta", "remat"])
    'eta'
    >>> suggest("Super Spike", ["sigmoid", "superspike"])
    'superspike'
    """
    import difflib  # only needed after a miss

    wanted, by_key = canonical(given).replace(" ", ""), {canonical(name): name for name in known}
    near = [key for key in by_key if len(key) > 1 and _edits(wanted[:_LONGEST], key) <= max(1, len(key) // 4)]
    if near:
        return by_key[min(near, key=lambda key: _edits(wanted, key))]
    nearest = difflib.get_close_matches(wanted[:_LONGEST], by_key, n=1)
    return by_key[nearest[0]] if nearest else None


def _edits(a: str, b: str) -> int:
    """Edit distance: insertions, deletions, substitutions and swaps of neighbors between two words.

    >>> _edits("eat", "eta"), _edits("etta", "eta"), _edits("kitten", "sitting")
    (1, 1, 3)
    """
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, last, row = row, before, [i]
        for j, y in enumerate(b, 1):
            row.append(min(row[-1] + 1, before[j] + 1, before[j - 1] + (x != y)))
            if i > 1 and j > 1 and (x, a[i - 2]) == (b[j - 2], y):
                row[j] = min(row[j], last[j - 2] + 1)
    return row[-1]


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """A sentence to append to a message, with a leading space; empty if nothing is close.

    >>> did_you_mean("cros_entropy", ["mse", "cross_entropy"])
    " Did you mean 'cross_entropy'?"
    >>> did_you_mean("zebra", ["mse", "cross_entropy"])
    ''
    """
    nearest = suggest(given, known)
    return f" Did you mean {nearest!r}?" if nearest else ""


def a(noun: str) -> str:
    """A noun with its article.

    >>> a("adapter"), a("surrogate")
    ('an adapter', 'a surrogate')
    """
    return f"{'an' if noun[0] in 'aeiouAEIOU' else 'a'} {noun}"
