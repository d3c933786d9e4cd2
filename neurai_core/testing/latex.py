r"""Formulas as the documentation prints them, turned into functions that sympy evaluates and differentiates.

Only the part of LaTeX that the formulas of surrogates are written in is understood; anything else is an error.
"""

from __future__ import annotations

import re
from typing import Any

import sympy

DIGITS = 30  # with which numbers are evaluated

FUNCTIONS: dict[str, Any] = {
    "erfc": sympy.erfc,
    "clip": lambda x, low, high: sympy.Min(sympy.Max(x, low), high),
    "sigma": lambda x: 1 / (1 + sympy.exp(-x)),
    "Phi": lambda x: sympy.erfc(-x / sympy.sqrt(2)) / 2,
    "normal": lambda u, m, v: sympy.exp(-((u - m) ** 2) / (2 * v)) / sympy.sqrt(2 * sympy.pi * v),
    "max": sympy.Max,
    "min": sympy.Min,
    "arctan": sympy.atan,
    "tanh": sympy.tanh,
    "ln": sympy.log,
    "cos": sympy.cos,
    "sin": sympy.sin,
    "exp": sympy.exp,
    "sqrt": sympy.sqrt,
    "abs": sympy.Abs,
}  # fmt: skip
COMMANDS = {r"\ge": ">=", r"\le": "<=", r"\mathcal{N}": "normal", r"\left": "", r"\right": "", ";": ","}
CASES = re.compile(r"\\begin{cases}(.*)\\end{cases}")
SUM = re.compile(r"\\sum_{(\w)=(\w+)}\^{(\w+)}(.*)")
TOKEN = re.compile(r"\d+(?:\.\d+)?|[A-Za-z]+|[<>]=?|\*\*|\S")


class Unreadable(ValueError):
    """A formula that is not written in the part of LaTeX that is understood."""


def number(latex: str, u: float, settings: dict[str, Any], letters: dict[str, str]) -> float:
    """The value of a formula at one u.

    Raises:
        Unreadable: it cannot be read.

    >>> number(r"\\frac{1}{(1 + \\alpha |u|)^2}", -0.5, {"alpha": 2.0}, {})
    0.25
    """
    return float(_read(latex, sympy.Float(u, DIGITS), u, settings, letters))


def slope(latex: str, u: float, settings: dict[str, Any], letters: dict[str, str]) -> float:
    """The derivative of a formula at one u.

    Raises:
        Unreadable: it cannot be read.

    >>> slope("u^2 / w", 3.0, {}, {"w": "2"})
    3.0
    """
    symbol = sympy.Symbol("u", real=True)
    found = sympy.diff(_read(latex, symbol, u, settings, letters), symbol)
    return float(found.subs(symbol, sympy.Float(u, DIGITS)).evalf(25))


def _read(latex: str, u: Any, at: float, settings: dict[str, Any], letters: dict[str, str]) -> Any:
    try:
        return evaluate(latex, u, at, settings, letters)
    except Exception as error:
        raise Unreadable(f"{type(error).__name__}: {error}") from error


def evaluate(latex: str, u: Any, at: float, settings: dict[str, Any], letters: dict[str, str]) -> Any:
    """The formula for a u, a number or a symbol.

    Args:
        latex: the formula.
        u: what stands for u.
        at: the number at which conditions are decided.
        settings: of the surrogate.
        letters: what other letters of the formula stand for.
    """
    exact = {
        name: sympy.Float(value, DIGITS) if isinstance(value, float) else value for name, value in settings.items()
    }

    def values(u: Any) -> dict[str, Any]:
        known = {**FUNCTIONS, **exact, "pi": sympy.pi, "u": u, "floor": lambda x: sympy.floor(rounded(x))}
        return known | {letter: eval(meaning, known) for letter, meaning in letters.items()}

    def rounded(x: Any) -> Any:
        return x.subs(dict.fromkeys(getattr(x, "free_symbols", ()), at)) if hasattr(x, "subs") else x

    for expression, condition in branches(latex):
        if condition is None or eval(condition, values(sympy.Float(at, DIGITS))):
            return sympy.sympify(eval(expression, values(u)))
    raise ValueError(f"no case of {latex} holds at u = {at}")


def branches(latex: str) -> list[tuple[str, str | None]]:
    """The cases of a formula as Python, each with its condition; a formula without cases is one that always holds."""
    found = CASES.fullmatch(latex)
    if not found:
        return [(python(latex), None)]
    pairs = [case.split("&") for case in found[1].split(r"\\")]
    return [(python(value), None if "otherwise" in when else python(when)) for value, when in pairs]


def python(latex: str) -> str:
    """One expression as Python."""
    if found := SUM.search(latex):
        index, first, last, body = found.groups()
        terms = f"sum({python(body)} for {index} in range({first}, {last} + 1))"
        return f"{python(latex[: found.start()])}*{terms}"
    text = latex.strip()
    for command, meaning in COMMANDS.items():
        text = re.sub(re.escape(command) + (r"(?![A-Za-z])" if command[-1].isalpha() else ""), meaning, text)
    text = re.sub(r"\\operatorname{(\w+)}", r"\1", text)
    text = re.sub(r"\|([^|]*)\|", r"abs(\1)", text)
    return multiplied(unbraced(text).replace("\\", " "))


def unbraced(text: str) -> str:
    """Fractions, roots, powers and exponentials with parentheses instead of braces."""
    inner = r"{([^{}]*)}"
    rules = (
        (rf"\\frac{inner}{inner}", r"((\1)/(\2))"),
        (rf"\\sqrt{inner}", r"sqrt(\1)"),
        (rf"(?<![A-Za-z\\])e\^{inner}", r"exp(\1)"),
        (rf"\^{inner}", r"**(\1)"),
        (r"\^(\w)", r"**\1"),
    )
    while True:
        before = text
        for pattern, meaning in rules:
            text = re.sub(pattern, meaning, text)
        if text == before:
            return text


def multiplied(text: str) -> str:
    """The products that are written by standing side by side."""
    written, before = [], ""
    for token in TOKEN.findall(text):
        follows = before and (before[-1].isalnum() or before == ")") and before not in FUNCTIONS and before != "normal"
        if follows and (token[0].isalnum() or token == "("):
            written.append("*")
        written.append(token)
        before = token
    return "".join(written)
