r"""References by key: every paper is entered once, in BibTeX, and specs refer to it by key.

The parser reads a strict subset of BibTeX, in UTF-8:

    % a comment between entries
    @article{rumelhart1986learning,
      title  = {Learning representations by back-propagating errors},
      author = {Rumelhart, David E. and Hinton, Geoffrey E. and Williams, Ronald J.},
      year   = 1986,
      doi    = {10.1038/323533a0}
    }

A value is an integer or in braces. Accented letters may be commands, such as ``{\'e}`` and ``{\o}``; titles and names
may not contain other commands. ``doi``, ``url``, and ``eprint`` or a ``note`` of the form ``arXiv:...`` become links.
Anything else is an error that gives its location.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterator
from functools import cache

from neurai_core.errors import DataError
from neurai_core.naming import did_you_mean
from neurai_core.specs import Reference

FILE = "references.bib"

_BETWEEN = re.compile(r"(?:\s+|%[^\n]*)*")
_HEAD = re.compile(r"@(\w+)\s*\{\s*([^\s,{}]+)\s*,")
_FIELD = re.compile(r"\s*(\w+)\s*=\s*(?=\{|(\d+))")
_COMMA = re.compile(r"\s*(?:,|(?=\}))")
_END = re.compile(r"\s*\}")
_ACCENTED = re.compile(r"\\(?:(['`^\"~])\s*\{?([A-Za-z])\}?|([cv])\{([A-Za-z])\})")
_BRACE = re.compile(r"[{}]")
_LETTER = re.compile(r"\{\\(ss|ae|AE|aa|AA|o|O|l|L)\}")
_LETTERS = dict(zip(["ss", "ae", "AE", "aa", "AA", "o", "O", "l", "L"], "ßæÆåÅøØłŁ", strict=True))
_ACCENTS = {"'": "\u0301", "`": "\u0300", "^": "\u0302", '"': "\u0308", "~": "\u0303", "c": "\u0327", "v": "\u030c"}


def cited(module: str, *keys: str) -> tuple[Reference, ...]:
    """Look up references by key in the ``references.bib`` next to a module, or else in a package around it.

    Args:
        module: ``__name__`` of the calling module.
        *keys: keys of entries.

    Raises:
        DataError: there is no such file or entry, or the file cannot be read.
    """
    packages = list(_packages(sys.modules[module].__package__ or ""))
    known = {key: reference for package in reversed(packages) for key, reference in _read(package).items()}
    for key in keys:
        if key not in known:
            where = " or ".join(f"{package}/{FILE}" for package in packages) or f"{FILE}, if it were in a package"
            raise DataError(
                f"{module} cites {key!r}, which is not an entry of {where}.{did_you_mean(key, known)}",
                f"Entries: {', '.join(known)}." if known else f"Write it into {FILE} beside the module.",
            )
    return tuple(known[key] for key in keys)


def bibliography(text: str, where: str = FILE) -> dict[str, Reference]:
    """Parse the entries of a file, by key.

    Args:
        text: content of the file.
        where: name of the file, for errors.

    Raises:
        DataError: an entry cannot be read; names the file and the line.

    >>> bibliography("@misc{toys, title = {{Toys}}, author = {A. Child}, year = 2001}")["toys"].title
    'Toys'
    """
    found: dict[str, Reference] = {}
    at = _after(_BETWEEN, text, 0)
    while at < len(text):
        key, reference, at = _entry(text, at, where)
        if key in found:
            raise DataError(f"{where} has two entries {key!r}.", "Remove one of them, or rename it.")
        found[key] = reference
        at = _after(_BETWEEN, text, at)
    return found


def _packages(package: str) -> Iterator[str]:
    """A package and those around it, from the innermost outward."""
    while package:
        yield package
        package = package.rpartition(".")[0]


@cache
def _read(package: str) -> dict[str, Reference]:
    """The entries of a package's file; none if it has no file."""
    from importlib.resources import files

    file = files(package) / FILE
    if not file.is_file():
        return {}
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{package}/{FILE} cannot be read: {error}.") from error
    return bibliography(text, f"{package}/{FILE}")


def _entry(text: str, start: int, where: str) -> tuple[str, Reference, int]:
    """The entry that begins at a position, and the position after it."""
    head = _HEAD.match(text, start)
    if head is None:
        raise _unread(text, start, where, "expected an entry, as in @article{key, title = {...}}")
    key, at = head[2], head.end()
    where = f"{where}, entry {key!r}"
    fields: dict[str, str] = {}
    while not (end := _END.match(text, at)):
        name, value, at = _field(text, at, where)
        if name in fields:
            raise _unread(text, at, where, f"the field {name!r} is there twice")
        fields[name] = value
    raw = text[start : end.end()]
    return key, _reference(fields, raw, where), end.end()


def _field(text: str, start: int, where: str) -> tuple[str, str, int]:
    field = _FIELD.match(text, start)
    if field is None:
        raise _unread(text, start, where, "expected a field, as in title = {...}")
    number, at = field[2], field.end()
    end = at + len(number) if number else _closing(text, at, where) + 1
    comma = _COMMA.match(text, end)
    if comma is None:
        raise _unread(text, end, where, f"expected a comma after the field {field[1]!r}")
    return field[1].lower(), number or text[at + 1 : end - 1], comma.end()


def _closing(text: str, start: int, where: str) -> int:
    """The position of the closing brace for the one that opens at a position."""
    depth = 0
    for brace in _BRACE.finditer(text, start):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return brace.start()
    raise _unread(text, start, where, "a brace is opened here and never closed")


def _reference(fields: dict[str, str], raw: str, where: str) -> Reference:
    if not fields.get("title"):
        raise DataError(f"{where} has no title.")
    year = fields.get("year", "")
    if year and not year.isdecimal():
        raise DataError(f"{where} has the year {year!r}, expected a whole number.")
    note = re.search(r"arXiv:(\S+)", fields.get("note", ""))
    return Reference(
        title=_plain(fields["title"], where),
        authors=_plain(fields.get("author", ""), where),
        year=int(year) if year else None,
        doi=fields.get("doi", ""),
        arxiv=fields.get("eprint", note[1] if note else ""),
        url=fields.get("url", ""),
        bibtex=raw,
    )


def _plain(text: str, where: str) -> str:
    """LaTeX as plain text."""
    text = _LETTER.sub(lambda found: _LETTERS[found[1]], text)
    text = _ACCENTED.sub(lambda found: (found[2] or found[4]) + _ACCENTS[found[1] or found[3]], text)
    if "\\" in text:
        command = text[text.index("\\") :][:12]
        raise DataError(f"{where} has a command that is not read: {command!r}.", "Write the letter itself, in UTF-8.")
    return unicodedata.normalize("NFC", " ".join(_BRACE.sub("", text).split()))


def _unread(text: str, at: int, where: str, what: str) -> DataError:
    at = _after(re.compile(r"\s*"), text, at)
    return DataError(f"{where}, line {text.count(chr(10), 0, at) + 1}: {what}; found {text[at : at + 20]!r}.")


def _after(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at
