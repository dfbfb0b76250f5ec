"""Exact prompts as text, for servers and APIs that take no token ids.

Tokens of joined texts do not simply add up, so the length is found by counting: all but the last
lines is encoded once, the end is moved character by character until the count fits, and the
whole is encoded again to be sure. What a server adds by itself (a first token, a chat template)
is its overhead, measured on a short request and confirmed by its count of every later one.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from leadline.errors import SpecError
from leadline.prompts.corpus import Corpus
from leadline.prompts.haystack import (
    CHARS_PER_TOKEN,
    Prompt,
    corpus_too_short,
    line_start,
    room_for_hay,
)
from leadline.prompts.needles import Hidden, draw_needles, question
from leadline.prompts.tokenizer import Encode
from leadline.records import Needle
from leadline.units import show_tokens

# The end is moved by up to this many characters; the tail always holds them.
_REACH_CHARS = 400
_TAIL_CHARS = 450
_ATTEMPTS = 12


async def build_text_prompt(
    corpus: Corpus,
    encode: Encode,
    tokens: int,
    seed: str,
    needles: int = 1,
    near: int | None = None,
) -> Prompt:
    """A text of exactly ``tokens`` tokens, by ``encode``, without the server's overhead.

    Raises ``SpecError`` when the corpus is too short, the needles do not fit, or, which no
    tokenizer tried so far has shown, no cut gives the count.
    """
    rng = random.Random(seed)  # noqa: S311  (reproducible, not secret)
    hidden = draw_needles(rng, needles)
    added = "".join(needle.statement for needle in hidden) + question(hidden)
    hay_tokens = room_for_hay(tokens, len(await encode(added)) if added else 0, needles)
    for _ in range(_ATTEMPTS):
        start, end = await _rough_cut(corpus, encode, hay_tokens, rng, near)
        near = None  # no cut there gives the count: then anywhere
        middle = max(start, _word_end(corpus.text, end - _TAIL_CHARS))
        fixed, facts = await _with_needles(corpus.text[start:middle], hidden, encode, rng)
        cut = _Cut(corpus.text, middle, end, fixed, question(hidden))
        text = await _fit_end(cut, encode, tokens)
        if text is not None:
            ids = await encode(text)
            return Prompt(ids=ids, corpus_start=start, needles=facts, text=text)
    raise SpecError(
        f"no text of exactly {show_tokens(tokens)} tokens was found",
        where=corpus.source,
        cure="try another length, seed or corpus, or send token ids",
    )


async def _rough_cut(
    corpus: Corpus, encode: Encode, tokens: int, rng: random.Random, near: int | None
) -> tuple[int, int]:
    """(start, end) of corpus text of about that many tokens."""
    text = corpus.text
    chars = tokens * CHARS_PER_TOKEN
    latest = max(0, len(text) - chars - _REACH_CHARS)
    start = line_start(text, rng.randint(0, latest) if near is None else near)
    count = len(await encode(text[start : start + chars]))
    if count == 0:
        raise corpus_too_short(corpus.source, count, tokens)
    needed = round(len(text[start : start + chars]) * tokens / count)
    if start + needed + _REACH_CHARS > len(text):
        start = max(0, len(text) - needed - 2 * _REACH_CHARS)
    if start + needed > len(text):
        raise corpus_too_short(corpus.source, len(await encode(text)), tokens)
    return start, start + needed


async def _with_needles(
    hay: str, hidden: list[Hidden], encode: Encode, rng: random.Random
) -> tuple[str, tuple[Needle, ...]]:
    """The text with each needle between two words; depths counted by ``encode``."""
    cuts = sorted(_word_end(hay, rng.randrange(1, max(2, len(hay)))) for _ in hidden)
    text, previous, facts = "", 0, []
    for cut, needle in zip(cuts, hidden, strict=True):
        text += hay[previous:cut]
        facts.append(Needle(depth_tokens=len(await encode(text)), answer=needle.answer))
        text += needle.statement
        previous = cut
    return text + hay[previous:], tuple(facts)


class _Cut(NamedTuple):
    corpus: str
    middle: int
    """Up to here the text is fixed."""
    end: int
    """About here it should end."""
    fixed: str
    question: str


async def _fit_end(cut: _Cut, encode: Encode, tokens: int) -> str | None:
    """The text whose whole encoding has exactly ``tokens`` ids, or ``None``."""
    base = len(await encode(cut.fixed))
    for distance in range(_REACH_CHARS):
        for end in {cut.end + distance, cut.end - distance}:
            tail = cut.corpus[cut.middle : end] + cut.question
            if end <= cut.middle or base + len(await encode(tail)) != tokens:
                continue
            # Where fixed part and tail meet, tokens may merge: only the whole counts.
            if len(await encode(cut.fixed + tail)) == tokens:
                return cut.fixed + tail
    return None


def _word_end(text: str, position: int) -> int:
    """Before the space before the position: there, every common tokenizer cuts anyway."""
    return max(0, text.rfind(" ", 0, max(0, position)))
