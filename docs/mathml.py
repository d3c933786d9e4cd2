"""A Markdown extension: formulas become MathML, which browsers show without a script from another host.

Runs after ``pymdownx.arithmatex``, which finds the formulas.
"""

from __future__ import annotations

import re
from html import unescape
from typing import Any
from xml.etree.ElementTree import Element, tostring

from latex2mathml.converter import convert_to_element
from markdown import Extension, Markdown
from markdown.postprocessors import Postprocessor

_FORMULA = re.compile(r'<(span|div) class="arithmatex">\s*\\[(\[](.*?)\\[)\]]\s*</\1>', re.DOTALL)
_BARS = {"|", "‖", "⌊", "⌋"}
_OPENING = {None, "", "(", "[", "{", ",", "=", "<", ">", "≤", "≥", "←"}
_BIG = "1.2em"
_MINUS = "\N{MINUS SIGN}"


class MathML(Extension):
    """Converts every formula of a page."""

    def extendMarkdown(self, md: Markdown) -> None:
        """Called by Markdown."""
        md.postprocessors.register(_Convert(md), "mathml", 1)  # after raw HTML is put back


class _Convert(Postprocessor):
    def run(self, text: str) -> str:
        return _FORMULA.sub(lambda found: _mathml(found[2], block=found[1] == "div"), text)


def _mathml(latex: str, *, block: bool) -> str:
    """One formula.

    Raises:
        ValueError: the converter left a command or an alignment as it was.
    """
    source = unescape(latex).replace("{aligned}", "{align*}")
    math = convert_to_element(source, display="block" if block else "inline")
    for row in math.iter():
        _tidy(row)
    if left := [one.text for one in math.iter() if one.text and re.match(r"&$|\\[A-Za-z]", unescape(one.text))]:
        raise ValueError(f"Not converted to MathML: {' '.join(left)} in {latex.strip()}")
    return unescape(tostring(math, encoding="unicode"))


def _tidy(row: Element) -> None:
    """What browsers show differently from what the converter means."""
    before = None
    for one in row:
        text = unescape(one.text or "")
        if text in _BARS and one.get("stretchy") != "true":  # stretched, a bar with an exponent is misplaced
            one.tag, one.attrib = "mo", {"stretchy": "false", "lspace": "0", "rspace": "0"}
        if one.get("minsize") == _BIG:  # a bracket that may grow is given the width of the largest one
            one.attrib = {"stretchy": "false"}
        if text == _MINUS and before in _OPENING:
            one.set("form", "prefix")
        if one.tag == "mtd":  # the attribute is not in MathML Core
            one.set("style", f"text-align: {one.get('columnalign', 'center')}")
        before = text if one.tag == "mo" else "operand"


def makeExtension(**settings: Any) -> MathML:
    """Called by Markdown."""
    return MathML(**settings)
