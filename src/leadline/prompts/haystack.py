"""Exact prompts: a slice of real text by token ids, a needle at an exact depth, a question.

A prompt of token ids has the length asked for by construction; the server's own count has to
agree afterwards, or the trial is not a pass.
"""

from __future__ import annotations

import random

from leadline.errors import SpecError
from leadline.prompts.corpus import Corpus
from leadline.prompts.needles import draw_needles, question
from leadline.prompts.prompt import Prompt
from leadline.prompts.tokenizer import Encode
from leadline.records import Needle
from leadline.units import show_tokens

__all__ = ["CHARS_PER_TOKEN", "Prompt", "build_prompt"]

# Characters fetched per missing token; English text has 3.5 to 5 in every common vocabulary.
CHARS_PER_TOKEN = 5

# The start of a line is looked for this far back.
LONGEST_LINE_CHARS = 2000


async def build_prompt(
    corpus: Corpus,
    encode: Encode,
    tokens: int,
    seed: str,
    needles: int = 1,
    near: int | None = None,
) -> Prompt:
    """A prompt of exactly ``tokens`` ids; everything random in it follows from ``seed``.

    ``near``: a character of the corpus in whose line to start; default: anywhere.

    Raises ``SpecError`` when the needles do not fit or the corpus is too short: text is never
    repeated to fill up.
    """
    rng = random.Random(seed)  # noqa: S311  (reproducible, not secret)
    hidden = draw_needles(rng, needles)
    needle_ids = [await encode(needle.statement) for needle in hidden]
    question_ids = await encode(question(hidden)) if hidden else []
    added_tokens = len(question_ids) + sum(map(len, needle_ids))
    hay_tokens = room_for_hay(tokens, added_tokens, needles)
    start, hay = await _cut_haystack(corpus, encode, hay_tokens, rng, near)
    depths = sorted(rng.randrange(1, hay_tokens) for _ in hidden)
    ids, positions = _insert(hay, needle_ids, depths)
    facts = tuple(
        Needle(depth_tokens=position, answer=needle.answer)
        for position, needle in zip(positions, hidden, strict=True)
    )
    return Prompt(ids=ids + question_ids, corpus_start=start, needles=facts)


async def _cut_haystack(
    corpus: Corpus, encode: Encode, tokens: int, rng: random.Random, near: int | None
) -> tuple[int, list[int]]:
    """``tokens`` ids of consecutive corpus text from a random line on; (first character, ids)."""
    text = corpus.text
    latest = max(0, len(text) - tokens * CHARS_PER_TOKEN)
    start = line_start(text, rng.randint(0, latest) if near is None else near)
    ids = await encode(text[start : start + tokens * CHARS_PER_TOKEN])
    end = start + tokens * CHARS_PER_TOKEN
    while len(ids) < tokens and end < len(text):
        # Encode from the start again: joining two encodings could cut a word in two.
        end += (tokens - len(ids)) * 2 * CHARS_PER_TOKEN
        ids = await encode(text[start:end])
    if len(ids) < tokens and start > 0:
        start, ids = 0, await encode(text)
    if len(ids) < tokens:
        raise corpus_too_short(corpus.source, len(ids), tokens)
    return start, ids[:tokens]


def room_for_hay(tokens: int, added_tokens: int, needles: int) -> int:
    """Tokens left for text; ``SpecError`` when there is none between the needles."""
    if tokens - added_tokens < needles + 1:
        raise SpecError(
            f"{show_tokens(tokens)} tokens leave no room for {needles} needle(s) and the question",
            where="workload.input_tokens",
            cure=f"ask for at least {added_tokens + needles + 1} tokens, or fewer needles",
        )
    return tokens - added_tokens


def corpus_too_short(source: str, found_tokens: int, tokens: int) -> SpecError:
    return SpecError(
        f"the corpus holds {show_tokens(found_tokens)} tokens, the prompt needs "
        f"{show_tokens(tokens)}; text is never repeated",
        where=source,
        cure="give a longer corpus, or several that are joined: --corpus FILE --corpus FILE",
    )


def line_start(text: str, position: int) -> int:
    """Start of the line around the position; where lines are endless, of the word around it."""
    earliest = max(0, position - LONGEST_LINE_CHARS)
    for separator in ("\n", " "):
        end = text.rfind(separator, earliest, position)
        if end >= 0:
            return end + 1
    return position if earliest else 0


def _insert(
    hay: list[int], needles: list[list[int]], depths: list[int]
) -> tuple[list[int], list[int]]:
    """The haystack with each needle before its depth; (ids, position of each needle)."""
    ids: list[int] = []
    positions = []
    previous = 0
    for needle, depth in zip(needles, depths, strict=True):
        ids += hay[previous:depth]
        positions.append(len(ids))
        ids += needle
        previous = depth
    return ids + hay[previous:], positions
