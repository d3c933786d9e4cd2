"""How names are compared, taken apart and suggested.

A name is compared after folding case and dropping ``-``, ``_`` and ``.``, so ``SuperSpike``, ``super_spike``
and ``super-spike`` are one name. Distributions are compared as PEP 503 says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_DROPPED = str.maketrans("", "", "-_.")


def canonical(name: str) -> str:
    """The form in which two spellings of one name are equal.

    >>> canonical("Super-Spike") == canonical("super_spike")
    True
    """
    return name.translate(_DROPPED).casefold().strip()


def normalize_distribution(name: str) -> str:
    """The name of a distribution as PEP 503 compares it.

    >>> normalize_distribution("My_Plugin.Extra")
    'my-plugin-extra'
    """
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def split_qualified(name: str) -> tuple[str, str | None]:
    """A name and the distribution it is qualified with, or None.

    >>> split_qualified("pc@some-dist")
    ('pc', 'some-dist')
    >>> split_qualified("pc")
    ('pc', None)
    """
    bare, _, distribution = name.partition("@")
    return bare.strip(), distribution.strip() or None


def suggest(given: str, known: Iterable[str]) -> str | None:
    """The known name nearest to the given one, or None when none is near.

    >>> suggest("etta", ["n", "eta", "mode"])
    'eta'
    >>> suggest("Super Spike", ["sigmoid", "superspike"])
    'superspike'
    """
    import difflib  # only a miss pays for it

    by_key = {canonical(name): name for name in known}
    nearest = difflib.get_close_matches(canonical(given).replace(" ", ""), by_key, n=1)
    return by_key[nearest[0]] if nearest else None


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """A sentence to append to a message, with a space in front; empty when nothing is near.

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
