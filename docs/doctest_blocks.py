"""A griffe extension: interactive examples in docstrings become code blocks, wherever they stand."""

from __future__ import annotations

import re
from typing import Any

import griffe

# A run of lines that begins with a prompt and ends before the next blank line.
_EXAMPLE = re.compile(r"^(?P<indent>[ ]*)>>> .*(?:\n(?!\s*$).*)*", re.MULTILINE)


class DoctestBlocks(griffe.Extension):
    """Puts fences around the examples of every docstring before it is read."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called for every module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(text: str) -> str:
    """The text with every interactive example in a fence of its own.

    >>> print(fenced("Adds.\\n\\n>>> 1 + 1\\n2\\n\\nDone."))
    Adds.
    <BLANKLINE>
    ```pycon
    >>> 1 + 1
    2
    ```
    <BLANKLINE>
    Done.
    """
    return _EXAMPLE.sub(lambda run: f"{run['indent']}```pycon\n{run[0]}\n{run['indent']}```", text)
