"""Where a text may be cut so that its parts encode to the parts of its ids.

A cut lies after an ASCII letter or digit and before a space and an ASCII letter. There the
pre-tokenizers of all current models start a new piece whatever stands further left or right,
and also if a needle's line end follows instead; merges never leave a piece. (After a full stop
they would not: Llama 3 takes the line end into the piece.) That is not taken on trust: it is
proven for each tokenizer on its own corpus, by encoding a sample whole and in all its parts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

TokenIds = NDArray[np.uint32]
EncodeBlocks = Callable[[Sequence[str]], list[TokenIds]]
"""Each text to its ids, all independent of each other."""

_CUT = re.compile(r"[0-9A-Za-z](?= [A-Za-z])")
_GPT2_VISIBLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_NEAR_CHARS = 1000
_LETTER = np.array([chr(byte).isalpha() and byte < 0x80 for byte in range(256)])  # noqa: PLR2004
_WORDLY = np.array([chr(byte).isalnum() and byte < 0x80 for byte in range(256)])  # noqa: PLR2004


class Cuts(NamedTuple):
    tokens: TokenIds
    """Tokens before each cut, ascending."""
    chars: TokenIds
    """Characters before each cut."""


def cut_blocks(text: str, size: int) -> list[str]:
    """The text in consecutive blocks of at least ``size`` characters, cut at cuts."""
    blocks = []
    start = 0
    while start < len(text):
        found = _CUT.search(text, start + size)
        end = found.end() if found else len(text)
        blocks.append(text[start:end])
        start = end
    return blocks


def last_cut(text: str, start: int, end: int) -> int | None:
    """The last cut inside that stretch of the text, if one is near its end."""
    near = _CUT.finditer(text, max(start, end - _NEAR_CHARS), end)
    return max((found.end() for found in near), default=None)


def prove_cuts(encode: EncodeBlocks, sample: str) -> bool:
    """Whether the sample, taken apart at every cut, gives the ids of the whole."""
    (whole,) = encode([sample])
    parts = encode(cut_blocks(sample, 0))
    return np.array_equal(whole, np.concatenate(parts)) if parts else True


def find_cuts(block: str, ids: TokenIds, spelling: Sequence[bytes]) -> Cuts:
    """All cuts inside the block; none if the ids do not spell it byte by byte."""
    text = block.encode()
    words = [spelling[number] for number in ids.tolist()]
    if b"".join(words) != text:
        return Cuts(np.empty(0, np.uint32), np.empty(0, np.uint32))
    ends = np.cumsum(np.fromiter(map(len, words), np.int64, len(words)))
    data = np.frombuffer(text, np.uint8)
    inside = ends[:-1][ends[:-1] + 1 < len(data)]
    is_cut = _WORDLY[data[inside - 1]] & (data[inside] == ord(" ")) & _LETTER[data[inside + 1]]
    tokens = np.flatnonzero(is_cut) + 1
    chars = np.cumsum((data & 0xC0) != 0x80)  # noqa: PLR2004  (bytes that begin a character)
    return Cuts(tokens.astype(np.uint32), chars[inside[is_cut] - 1].astype(np.uint32))


def spell_tokens(vocabulary: dict[str, int], sample: str, ids: TokenIds) -> list[bytes]:
    """The bytes of each token by id, in the one of two conventions that spells the sample.

    Empty if neither does: then there are no cuts.
    """
    for spell in (spell_byte_level, _spell_sentencepiece):
        spelling = [b""] * (max(vocabulary.values()) + 1)
        for token, number in vocabulary.items():
            spelling[number] = spell(token)
        if b"".join(spelling[number] for number in ids.tolist()) == sample.encode():
            return spelling
    return []


def _gpt2_bytes() -> dict[str, int]:
    """Which byte each character of a byte-level vocabulary stands for."""
    hidden = [byte for byte in range(256) if byte not in _GPT2_VISIBLE]
    shown = {chr(byte): byte for byte in _GPT2_VISIBLE}
    return shown | {chr(256 + n): byte for n, byte in enumerate(hidden)}


_BYTE_OF = _gpt2_bytes()


def spell_byte_level(token: str) -> bytes:
    if all(char in _BYTE_OF for char in token):
        return bytes(_BYTE_OF[char] for char in token)
    return token.encode()  # an added token


def _spell_sentencepiece(token: str) -> bytes:
    if re.fullmatch("<0x[0-9A-F]{2}>", token):
        return bytes([int(token[3:5], 16)])
    return token.replace("\N{LOWER ONE EIGHTH BLOCK}", " ").encode()
