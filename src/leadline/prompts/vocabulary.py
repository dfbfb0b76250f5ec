"""A tokenizer small enough to be there at once: needles, and the words around joints.

Byte-level BPE whose vocabulary is looked up in a mapped file. It is kept beside the ids of a corpus
only if it was proven there: it gave the Hugging Face tokenizer's ids for every needle's name, the
questions, and words from all over the text.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import regex
from numpy.typing import NDArray

from leadline.prompts.needles import NAMED, draw_needles, question

_WIDEST_BYTES = 32
_SAMPLES = 100
_SAMPLE_CHARS = 400


class Vocabulary:
    """Called, it gives the ids of a text; ``fallback`` does what it cannot."""

    def __init__(
        self,
        arrays: Mapping[str, NDArray[Any]],
        pattern: str,
        fallback: Callable[[str], list[int]],
    ) -> None:
        self._words, self._numbers = arrays["words"], arrays["word_ids"]
        self._widest = self._words.dtype.itemsize
        self._pieces = regex.compile(pattern)
        self._fallback = fallback
        self._known: dict[bytes, int | None] = {}

    def __call__(self, text: str) -> list[int]:
        pieces = [found.group().encode() for found in self._pieces.finditer(text)]
        if any(len(piece) > self._widest or b"\0" in piece for piece in pieces):
            return self._fallback(text)
        return [number for piece in pieces for number in self._merge(piece)]

    def _merge(self, piece: bytes) -> list[int]:
        """By BPE: always the pair whose token is the oldest, until no pair is a token."""
        whole = self._find(piece)
        if whole is not None:
            return [whole]
        parts = [piece[i : i + 1] for i in range(len(piece))]
        while True:
            pairs = [self._find(left + right) for left, right in pairwise(parts)]
            oldest = min((number for number in pairs if number is not None), default=None)
            if oldest is None:
                return [number for part in parts if (number := self._find(part)) is not None]
            place = pairs.index(oldest)
            parts[place : place + 2] = [parts[place] + parts[place + 1]]

    def _find(self, word: bytes) -> int | None:
        if word not in self._known:
            place = bisect_left(self._words, word)
            is_there = place < len(self._words) and self._words[place] == word
            self._known[word] = int(self._numbers[place]) if is_there else None
        return self._known[word]


def pack_vocabulary(ranks: Mapping[bytes, int]) -> dict[str, NDArray[Any]]:
    """Sorted words of at most some bytes, and their ids."""
    words = sorted(w for w in ranks if len(w) <= _WIDEST_BYTES and not w.endswith(b"\0"))
    numbers = np.array([ranks[word] for word in words], np.uint32)
    return {"words": np.array(words, np.bytes_), "word_ids": numbers}


def prove_vocabulary(vocabulary: Vocabulary, truth: Callable[[str], list[int]], text: str) -> bool:
    """Whether it gives the same ids for all that it is there for."""
    rng = random.Random(text[:1000])  # noqa: S311
    hidden = draw_needles(rng, NAMED)
    starts = [rng.randrange(len(text)) for _ in range(_SAMPLES)]
    samples = [text[start : start + _SAMPLE_CHARS] for start in starts]
    samples += [needle.statement for _ in range(2) for needle in draw_needles(rng, NAMED)]
    samples += [question(hidden[:count]) for count in range(1, NAMED + 1)]
    return all(vocabulary(sample) == truth(sample) for sample in samples)
