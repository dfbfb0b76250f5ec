"""
Exact prompts: a slice of real text by token ids, a needle at an exact depth, a question.

A prompt of token ids has the length asked for by construction; the server's own count has to
agree afterwards, or the trial is not a pass.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass

import numpy as np

from leadline.errors import SpecError
from leadline.prompts.corpus import Corpus
from leadline.prompts.tokenizer import Encode
from leadline.records import Needle
from leadline.units import show_tokens

# Wording after RULER's niah_single_1 (number needle, completion-style answer prefix): base
# models and small instruct models answer it alike.
_NEEDLE = "\nOne of the special magic numbers for {name} is: {answer}.\n"
_QUESTION = "\nThe special magic number for {name} mentioned in the provided text is:"
_NAMES = ("leadline", "harbour", "anchor", "lantern", "compass", "tiller", "rudder", "mainsail")

# Characters fetched per missing token; English text has 3.5 to 5 in every common vocabulary.
_CHARS_PER_TOKEN = 5


@dataclass(frozen=True)
class Prompt:
    ids: list[int]
    corpus_start: int
    needles: tuple[Needle, ...]

    @property
    def ids_sha256(self) -> str:
        """Hash of the ids as 32-bit little-endian integers."""
        return hashlib.sha256(np.asarray(self.ids, dtype="<u4").tobytes()).hexdigest()


async def build_prompt(
    corpus: Corpus, encode: Encode, tokens: int, seed: str, needles: int = 1
) -> Prompt:
    """
    A prompt of exactly ``tokens`` ids; everything random in it follows from ``seed``.

    Raises ``SpecError`` when the needles do not fit or the corpus is too short: text is never
    repeated to fill up.
    """
    rng = random.Random(seed)  # noqa: S311  (reproducible, not secret)
    hidden = [_draw_needle(rng, index) for index in range(needles)]
    needle_ids = [await encode(_NEEDLE.format(name=name, answer=answer)) for name, answer in hidden]
    question_ids = await encode(_ask(hidden)) if hidden else []
    hay_tokens = tokens - len(question_ids) - sum(map(len, needle_ids))
    if hay_tokens < needles + 1:
        raise SpecError(
            f"{show_tokens(tokens)} tokens leave no room for {needles} needle(s) and the question",
            where="workload.input_tokens",
            cure=f"ask for at least {tokens - hay_tokens + needles + 1} tokens, or fewer needles",
        )
    start, hay = await _cut_haystack(corpus, encode, hay_tokens, rng)
    depths = sorted(rng.randrange(1, hay_tokens) for _ in hidden)
    ids, positions = _insert(hay, needle_ids, depths)
    facts = tuple(
        Needle(depth_tokens=position, answer=answer)
        for position, (_, answer) in zip(positions, hidden, strict=True)
    )
    return Prompt(ids=ids + question_ids, corpus_start=start, needles=facts)


def _draw_needle(rng: random.Random, index: int) -> tuple[str, str]:
    name = _NAMES[index % len(_NAMES)] + ("" if index < len(_NAMES) else str(index))
    return name, str(rng.randrange(10_000, 100_000))


def _ask(hidden: list[tuple[str, str]]) -> str:
    if len(hidden) == 1:
        return _QUESTION.format(name=hidden[0][0])
    names = ", ".join(name for name, _ in hidden)
    return (
        f"\nThe special magic numbers for {names} mentioned in the provided text are, "
        f"in this order:"
    )


async def _cut_haystack(
    corpus: Corpus, encode: Encode, tokens: int, rng: random.Random
) -> tuple[int, list[int]]:
    """``tokens`` ids of consecutive corpus text from a random line on; (first character, ids)."""
    text = corpus.text
    latest = max(0, len(text) - tokens * _CHARS_PER_TOKEN)
    start = _line_start(text, rng.randint(0, latest))
    ids = await encode(text[start : start + tokens * _CHARS_PER_TOKEN])
    end = start + tokens * _CHARS_PER_TOKEN
    while len(ids) < tokens and end < len(text):
        # Encode from the start again: joining two encodings could cut a word in two.
        end += (tokens - len(ids)) * 2 * _CHARS_PER_TOKEN
        ids = await encode(text[start:end])
    if len(ids) < tokens and start > 0:
        start, ids = 0, await encode(text)
    if len(ids) < tokens:
        raise SpecError(
            f"the corpus holds {show_tokens(len(ids))} tokens, the prompt needs "
            f"{show_tokens(tokens)}; text is never repeated",
            where=corpus.source,
            cure="give a longer corpus with --corpus FILE (join several files if need be)",
        )
    return start, ids[:tokens]


def _line_start(text: str, position: int) -> int:
    line_end = text.rfind("\n", 0, position)
    return line_end + 1


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
