"""A Markdown extension: formulas become MathML, which browsers show without a script from another host.

Runs after ``pymdownx.arithmatex``, which finds the formulas.
"""

from __future__ import annotations

import re
from html import unescape
from typing import Any

from latex2mathml.converter import convert
from markdown import Extension, Markdown
from markdown.postprocessors import Postprocessor

_FORMULA = re.compile(r'<(span|div) class="arithmatex">\s*\\[(\[](.*?)\\[)\]]\s*</\1>', re.DOTALL)


class MathML(Extension):
    """Converts every formula of a page."""

    def extendMarkdown(self, md: Markdown) -> None:
        """Called by Markdown."""
        md.postprocessors.register(_Convert(md), "mathml", 1)  # after raw HTML is put back


class _Convert(Postprocessor):
    def run(self, text: str) -> str:
        return _FORMULA.sub(lambda found: _mathml(found[2], block=found[1] == "div"), text)


def _mathml(latex: str, *, block: bool) -> str:
    """One formula."""
    return convert(unescape(latex), display="block" if block else "inline")


def makeExtension(**settings: Any) -> MathML:
    """Called by Markdown."""
    return MathML(**settings)
