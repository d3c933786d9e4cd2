"""Characters of English sentences that a small grammar writes, so that the lowest possible loss is known.

    the old dogs watch a door. a bird sees the red box. the child likes

Every choice of a word is drawn with equal chances from a row of `GRAMMAR`, so the probability of every character after
those before it is a ratio of two counts. An example begins where a sentence does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurai_core.data import Dataset, check
from neurai_datasets import CHARACTERS, TextConfig

ADJECTIVES = ("big ", "small ", "red ", "quick ", "young ")
SINGULAR = ("dog ", "cat ", "bird ", "child ", "farmer ")
PLURAL = ("dogs ", "cats ", "birds ", "children ", "farmers ")
VERBS = ("see ", "find ", "watch ", "follow ", "like ")
SEES = ("sees ", "finds ", "watches ", "follows ", "likes ")
THINGS = ("ball. ", "tree. ", "box. ", "house. ", "door. ")
START = " "  # what stands before the first sentence

Array = NDArray[Any]


def _row(**words: Sequence[str]) -> dict[str, str]:
    return {word: state for state, some in words.items() for word in some}


# State -> what may be written there -> the state that follows. Verbs agree with their subjects in number.
GRAMMAR: dict[str, dict[str, str]] = {
    "sentence": _row(subject=["the "], single=["a "]),
    "subject": _row(noun=ADJECTIVES, sees=SINGULAR, see=PLURAL),
    "noun": _row(sees=SINGULAR, see=PLURAL),
    "single": _row(single_noun=ADJECTIVES, sees=SINGULAR),
    "single_noun": _row(sees=SINGULAR),
    "sees": _row(object=SEES),
    "see": _row(object=VERBS),
    "object": _row(thing=["the ", "a "]),
    "thing": _row(described=ADJECTIVES, sentence=THINGS),
    "described": _row(sentence=THINGS),
}


def build(config: TextConfig, **context: Any) -> Dataset:
    """Codes of characters, int32 (N, T), and those of the characters that follow, int32 (N, T)."""
    train, test = (_examples(config, part)[0] for part in ("train", "test"))
    parts = train[:, :-1], train[:, 1:], test[:, :-1], test[:, 1:]
    return check(Dataset("text", *parts, classes=tuple(CHARACTERS)))


def floor(config: TextConfig | None = None) -> float:
    """The cross entropy of the grammar itself on the test set, in nats per character: no model does better for long.

    Args:
        config: settings of the data set; None takes the defaults.

    Example:
        >>> round(floor(), 4)
        0.3496
    """
    return float(_examples(config or TextConfig.model_validate({}), "test")[1].mean())


def read(codes: Array) -> str:
    """The text of some codes.

    >>> read(np.array([0, 2, 0, 3]))
    ' a b'
    """
    return "".join(CHARACTERS[code] for code in codes)


def _examples(config: TextConfig, part: str) -> tuple[Array, Array]:
    """Codes (N, T + 1), and of all but the first how surprising each is after those before it, (N, T)."""
    count, number = (config.train, 0) if part == "train" else (config.test, 1)
    random = np.random.RandomState((config.seed, number))
    codes = np.empty((count, config.length + 1), np.int32)
    surprise = np.empty((count, config.length))
    for row in range(count):
        text, found = _written(random, config.length)
        codes[row] = [CHARACTERS.index(one) for one in START + text]
        surprise[row] = found
    return codes, surprise


def _written(random: np.random.RandomState, length: int) -> tuple[str, list[float]]:
    """Sentences cut to a length, and the surprise of each of their characters."""
    text, surprise, state = "", list[float](), "sentence"
    while len(text) < length:
        row = GRAMMAR[state]
        word = tuple(row)[random.randint(len(row))]
        text, surprise, state = text + word, [*surprise, *_surprise(word, tuple(row))], row[word]
    return text[:length], surprise[:length]


def _surprise(word: str, words: tuple[str, ...]) -> Iterator[float]:
    """Minus the logarithm of the probability of each character of a word, one of those that have equal chances."""
    left = words
    for end in range(1, len(word) + 1):
        kept = tuple(other for other in left if other.startswith(word[:end]))
        yield log(len(left) / len(kept))
        left = kept
