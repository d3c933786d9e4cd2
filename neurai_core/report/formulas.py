r"""Formulas in LaTeX as plain text, for terminals: ``\frac{\alpha}{2}`` reads ``α / 2``.

Supports the LaTeX used in formulas of surrogates; of any other command only the backslash is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

_LETTERS = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho final sigma tau upsilon "
    "phi chi psi omega"
)
_GREEK = {name: chr(code) for code, name in enumerate(_LETTERS.split(), ord("\N{GREEK SMALL LETTER ALPHA}"))}
_GREEK |= {name.capitalize(): sign.upper() for name, sign in _GREEK.items()}
_SIGNS = _GREEK | {"ge": "≥", "le": "≤", "ne": "≠", "cdot": "·", "infty": "∞", "vert": "|", "left": "", "right": ""}
_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_CASES = re.compile(r"\\begin\{cases\}(.*?)\\end\{cases\}", re.DOTALL)
_PIECE = re.compile(r"[\w√]+|√?\([^()]*\)(\^\d)?")
_DOUBLED = re.compile(r"\(\(((?:[^()]|\([^()]*\))*)\)\)")
_INNER = r"\{([^{}]*)\}"  # braces without braces inside


def plain(latex: str, letters: Mapping[str, str] | None = None) -> str:
    r"""A formula on one line of plain text.

    Args:
        latex: the formula.
        letters: letter -> replacement, if that is a single word.

    >>> plain(r"\frac{\alpha}{2 (1 + \alpha |u|)^2}")
    'α / (2 (1 + α |u|)²)'
    >>> plain(r"\begin{cases} c & u < 0 \\ 1 & \text{otherwise} \end{cases}", {"c": "leak"})
    'leak if u < 0, else 1'
    >>> plain(r"\frac{c}{2 \tau} e^{-\frac{|u|}{\tau}}")
    '(c / (2 τ)) exp(-|u| / τ)'
    """
    text = _CASES.sub(lambda found: _cases(found[1], letters or {}), latex)
    return _outermost(_flat(text, letters or {}))


def _cases(rows: str, letters: Mapping[str, str]) -> str:
    parts = []
    for row in rows.split(r"\\"):
        value, _, condition = (_outermost(_flat(side, letters)) for side in row.partition("&"))
        parts.append(f"else {value}" if condition in ("", "otherwise") else f"{value} if {condition}")
    return ", ".join(parts)


def _flat(text: str, letters: Mapping[str, str]) -> str:
    """A formula without cases: braces are resolved from the inside out."""
    named = {letter: name for letter, name in letters.items() if name.isidentifier()}
    text = re.sub(r"\\(text|mathcal|mathrm|operatorname)" + _INNER, r"\2", text)
    text = re.sub(r"\\([A-Za-z]+)", lambda found: _SIGNS.get(found[1], found[0]), text)
    text = re.sub(r"(?<![\\A-Za-z])[A-Za-z](?![A-Za-z])", lambda found: named.get(found[0], found[0]), text)
    before = ""
    while before != text:
        before = text
        for pattern, write in _RULES:
            text = pattern.sub(write, text)
    text = re.sub(r"\^(\d)", lambda found: found[1].translate(_RAISED), text.replace("\\", "").replace(";", ","))
    text = _DOUBLED.sub(r"(\1)", re.sub(r"(?<![A-Za-z])e\^\(", "exp(", text))
    return re.sub(r"\s+", " ", re.sub(r"(?<=\() | (?=[),])", "", text)).strip()


_RULES: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"\\sum_" + _INNER + r"\^" + _INNER), lambda found: f"Σ[{found[1]}..{found[2]}]"),
    (re.compile(r"\\frac" + _INNER + _INNER), lambda found: f"({_term(found[1])} / {_factor(found[2])})"),
    (re.compile(r"\\sqrt" + _INNER), lambda found: f"√{_factor(found[1])}"),
    (re.compile(r"\^" + _INNER), lambda found: _power(found[1].strip())),
)


def _power(exponent: str) -> str:
    if exponent.isdigit():
        return exponent.translate(_RAISED)
    bare = exponent.removeprefix("-")
    return f"^({'-' * (bare != exponent)}{_outermost(bare)})"


def _term(text: str) -> str:
    """A numerator, with sums in parentheses."""
    return f"({text.strip()})" if re.search(r"[+-]", _without_groups(text)) else text.strip()


def _factor(text: str) -> str:
    """A denominator, in parentheses unless it is a single factor."""
    text = text.strip()
    return text if _PIECE.fullmatch(text) or _outermost(text) != text else f"({text})"


def _without_groups(text: str) -> str:
    before = ""
    while before != text:
        before, text = text, re.sub(r"\([^()]*\)|\|[^|]*\|", "", text)
    return text


def _outermost(text: str) -> str:
    """The text without parentheses around all of it."""
    text = text.strip()
    if not (text.startswith("(") and text.endswith(")")):
        return text
    depth = 0
    for at, sign in enumerate(text):
        depth += (sign == "(") - (sign == ")")
        if depth == 0 and at < len(text) - 1:
            return text
    return text[1:-1].strip()
