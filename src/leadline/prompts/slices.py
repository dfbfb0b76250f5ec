"""Exact prompts as slices of a token corpus: no tokenizer reads more than the needles.

A slice starts, ends and takes its needles at cuts, so that its text encodes to the very ids that
it has. Around each joint that is checked; between joints it is what cuts are.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from leadline.prompts.cuts import TokenIds
from leadline.prompts.haystack import Prompt, corpus_too_short, room_for_hay
from leadline.prompts.needles import draw_needles, question
from leadline.prompts.token_corpus import TokenCorpus
from leadline.records import Needle

EncodeNow = Callable[[str], list[int]]

# How far around the random place, in tokens, a start is looked for whose end is a cut too.
_LAST = (1 << 32) - 1
REACH_TOKENS = 1 << 10
_REACHES_TOKENS = (REACH_TOKENS, 1 << 16, _LAST)
# Cuts on each side of a joint that are encoded again.
_WINDOW_CUTS = 32


class Added(NamedTuple):
    """A needle or the question."""

    text: str
    ids: list[int]


@dataclass(frozen=True)
class Slice:
    corpus: TokenCorpus
    bounds: list[int]
    """Tokens of the corpus before the start, before each needle, and before the end."""
    added: list[Added]
    """Stands before each bound but the first; the last is the question."""
    answers: list[str]
    cuts: list[int] | None
    """The bounds as indices of cuts, if they all are cuts."""

    def as_ids(self) -> Prompt:
        parts: list[TokenIds] = []
        for (start, end), added in zip(pairwise(self.bounds), self.added, strict=True):
            parts += [self.corpus.ids[start:end], np.asarray(added.ids, np.uint32)]
        return Prompt(np.concatenate(parts), self._first_char(), self._needles())

    def as_text(self, encode: EncodeNow) -> Prompt | None:
        """``None`` where the text cannot be shown to encode to the ids: find one by counting."""
        if self.cuts is None or not all(self._holds(joint, encode) for joint in self.joints()):
            return None
        prompt = self.as_ids()
        chars = [int(self.corpus.cuts.chars[cut]) for cut in self.cuts]
        parts: list[str] = []
        for (start, end), added in zip(pairwise(chars), self.added, strict=True):
            parts += [self.corpus.text[start:end], added.text]
        return Prompt(prompt.ids, prompt.corpus_start, prompt.needles, "".join(parts))

    def joints(self) -> range:
        return range(len(self.bounds))

    def _holds(self, joint: int, encode: EncodeNow) -> bool:
        """Whether the text around the joint gives the ids that stand there."""
        assert self.cuts is not None  # noqa: S101
        here = self.cuts[joint]
        left = max(here - _WINDOW_CUTS, self.cuts[joint - 1]) if joint else here
        last = joint == len(self.cuts) - 1
        right = here if last else min(here + _WINDOW_CUTS, self.cuts[joint + 1])
        added = self.added[joint - 1] if joint else Added("", [])
        token, char = self.corpus.cuts
        ids, text = self.corpus.ids, self.corpus.text
        before = [*ids[token[left] : token[here]], *added.ids, *ids[token[here] : token[right]]]
        around = text[char[left] : char[here]] + added.text + text[char[here] : char[right]]
        return encode(around) == before

    def _first_char(self) -> int:
        index = np.searchsorted(self.corpus.cuts.tokens, self.bounds[0], side="right") - 1
        return int(self.corpus.cuts.chars[index])

    def _needles(self) -> tuple[Needle, ...]:
        found, before = [], 0
        for answer, bound, added in zip(self.answers, self.bounds[1:], self.added, strict=False):
            depth = bound - self.bounds[0] + before
            found.append(Needle(depth_tokens=depth, answer=answer))
            before += len(added.ids)
        return tuple(found)


def draw_slice(
    corpus: TokenCorpus,
    encode: EncodeNow,
    tokens: int,
    seed: str,
    needles: int = 1,
    near: int | None = None,
) -> Slice:
    """A prompt of exactly ``tokens`` ids; everything random in it follows from ``seed``.

    ``near``: a token of the corpus to start at, or up to ``REACH_TOKENS`` from it if that makes a
    text of it; default: anywhere.

    Raises ``SpecError`` when the needles do not fit or the corpus is too short: text is never
    repeated to fill up.
    """
    rng = random.Random(seed)  # noqa: S311  (reproducible, not secret)
    hidden = draw_needles(rng, needles)
    texts = [*(needle.statement for needle in hidden), question(hidden)]
    added = [Added(text, encode(text) if text else []) for text in texts]
    hay_tokens = room_for_hay(tokens, sum(len(item.ids) for item in added), needles)
    if hay_tokens > len(corpus.ids):
        raise corpus_too_short(corpus.facts["source"], len(corpus.ids), hay_tokens)
    latest = len(corpus.ids) - hay_tokens
    start = rng.randint(0, latest) if near is None else min(near, latest)
    cuts = _choose_cuts(corpus.cuts.tokens, start, hay_tokens, needles, rng)
    if cuts:
        bounds = [int(corpus.cuts.tokens[cut]) for cut in cuts]
    else:
        depths = sorted(rng.sample(range(1, hay_tokens), needles))
        bounds = [start, *(start + depth for depth in depths), start + hay_tokens]
    return Slice(corpus, bounds, added, [needle.answer for needle in hidden], cuts)


def _choose_cuts(
    tokens: TokenIds, near: int, length: int, needles: int, rng: random.Random
) -> list[int] | None:
    """Cuts ``length`` tokens apart and some between them, for the needles; else ``None``."""
    for reach in _REACHES_TOKENS:
        around = np.array([max(near - reach, 0), min(near + reach, _LAST)], np.uint32)
        first, last = np.searchsorted(tokens, around)
        starts = tokens[first:last]
        wanted = starts + np.uint32(length)
        ends = np.searchsorted(tokens, wanted)
        exact = tokens[np.minimum(ends, len(tokens) - 1)] == wanted
        roomy = np.flatnonzero(exact & (ends - np.arange(first, last) > needles))
        if len(roomy):
            best = roomy[np.argmin(np.abs(starts[roomy].astype(np.int64) - near))]
            start, end = int(first + best), int(ends[best])
            return [start, *sorted(rng.sample(range(start + 1, end), needles)), end]
    return None
