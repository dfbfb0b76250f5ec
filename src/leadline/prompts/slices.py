"""Exact prompts as slices of a token corpus: no tokenizer reads more than the needles.

A slice starts, ends and takes its needles at cuts, so that its text encodes to the very ids that
it has. Around each joint that is checked; between joints it is what cuts are.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from leadline.prompts.cuts import TokenIds
from leadline.prompts.haystack import Prompt, corpus_too_short, room_for_hay
from leadline.prompts.needles import Hidden, draw_needles, question
from leadline.prompts.token_corpus import TokenCorpus
from leadline.records import Needle

EncodeNow = Callable[[str], list[int]]

# How far around the random place, in tokens, a start is looked for whose end is a cut too.
_LAST = (1 << 32) - 1
_REACHES_TOKENS = (1 << 10, 1 << 16, _LAST)
# Cuts on each side of a joint that are encoded again.
_WINDOW_CUTS = 32


class Span(NamedTuple):
    """Consecutive tokens of the corpus."""

    start: int
    end: int
    cuts: tuple[int, int] | None
    """The bounds as indices of cuts, if both are cuts."""


class Added(NamedTuple):
    """A needle, a question, or words around the text."""

    text: str
    ids: list[int]
    answer: str | None = None
    """What a needle hides."""
    asks: bool = False
    """A question, for all needles since the one before it."""


@dataclass(frozen=True)
class Slice:
    """Text of the corpus and what was put in between; slices of one corpus can be added up."""

    corpus: TokenCorpus
    pieces: tuple[Span | Added, ...]

    def __len__(self) -> int:
        """Tokens."""
        return sum(map(_count, self.pieces))

    def __add__(self, later: Slice) -> Slice:
        return Slice(self.corpus, self.pieces + later.pieces)

    def as_ids(self) -> Prompt:
        parts = [self._ids(piece) for piece in self.pieces]
        return Prompt(np.concatenate(parts), self._first_char(), self._needles())

    def as_text(self, encode: EncodeNow) -> Prompt | None:
        """``None`` where the text cannot be shown to encode to the ids: find one by counting."""
        if any(isinstance(piece, Span) and piece.cuts is None for piece in self.pieces):
            return None
        if any(encode(text) != ids for text, ids in self._joints()):
            return None
        prompt = self.as_ids()
        text = "".join(map(self._text, self.pieces))
        return Prompt(prompt.ids, prompt.corpus_start, prompt.needles, text)

    def _ids(self, piece: Span | Added) -> TokenIds:
        if isinstance(piece, Added):
            return np.asarray(piece.ids, np.uint32)
        return self.corpus.ids[piece.start : piece.end]

    def _text(self, piece: Span | Added) -> str:
        if isinstance(piece, Added):
            return piece.text
        assert piece.cuts is not None  # noqa: S101
        start, end = self.corpus.cuts.chars[list(piece.cuts)]
        return self.corpus.text[start:end]

    def _joints(self) -> Iterator[tuple[str, list[int]]]:
        """The text around whatever stands before, between and after the spans, and its ids."""
        around: list[Span | Added] = []
        for piece in self.pieces:
            if isinstance(piece, Added):
                around.append(piece)
            else:
                yield self._joined([*around, self._near(piece, at_start=True)])
                around = [self._near(piece, at_start=False)]
        yield self._joined(around)

    def _near(self, span: Span, *, at_start: bool) -> Span:
        """A few words of the span."""
        assert span.cuts is not None  # noqa: S101
        start, end = span.cuts
        if at_start:
            end = min(end, start + _WINDOW_CUTS)
        else:
            start = max(start, end - _WINDOW_CUTS)
        tokens = self.corpus.cuts.tokens
        return Span(int(tokens[start]), int(tokens[end]), (start, end))

    def _joined(self, pieces: Sequence[Span | Added]) -> tuple[str, list[int]]:
        ids = [number for piece in pieces for number in self._ids(piece).tolist()]
        return "".join(map(self._text, pieces)), ids

    def _first_char(self) -> int:
        first = next(piece.start for piece in self.pieces if isinstance(piece, Span))
        index = np.searchsorted(self.corpus.cuts.tokens, first, side="right") - 1
        return int(self.corpus.cuts.chars[index])

    def _needles(self) -> tuple[Needle, ...]:
        """Those that the last question is for."""
        found: list[Needle] = []
        before, is_asked = 0, False
        for piece in self.pieces:
            if isinstance(piece, Added) and piece.answer is not None:
                if is_asked:
                    found, is_asked = [], False
                found.append(Needle(depth_tokens=before, answer=piece.answer))
            is_asked |= isinstance(piece, Added) and piece.asks
            before += _count(piece)
        return tuple(found)


def draw_slice(
    corpus: TokenCorpus,
    encode: EncodeNow,
    tokens: int,
    seed: str,
    needles: int = 1,
) -> Slice:
    """A prompt of exactly ``tokens`` ids; everything random in it follows from ``seed``.

    Raises ``SpecError`` when the needles do not fit or the corpus is too short: text is never
    repeated to fill up.
    """
    recipe = write_recipe(encode, tokens, seed, needles)
    if recipe.hay_tokens > len(corpus.ids):
        raise corpus_too_short(corpus.facts["source"], len(corpus.ids), recipe.hay_tokens)
    return place(corpus, recipe, 0, len(corpus.ids))


class Recipe(NamedTuple):
    """All of a prompt but the place in the corpus."""

    hay_tokens: int
    hidden: list[Hidden]
    added: list[Added]
    """The needles and, where there are any, the question."""
    rng: random.Random


def write_recipe(
    encode: EncodeNow, tokens: int, seed: str, needles: int, first_name: int = 0, tail: str = ""
) -> Recipe:
    """Equal seed, equal needles; ``tail`` ends the prompt. ``SpecError`` when there is no room."""
    rng = random.Random(seed)  # noqa: S311  (reproducible, not secret)
    hidden = draw_needles(rng, needles, first_name)
    added = [Added(item.statement, encode(item.statement), item.answer) for item in hidden]
    if asked := question(hidden) + tail:
        added.append(Added(asked, encode(asked), asks=bool(hidden)))
    hay_tokens = room_for_hay(tokens, sum(map(_count, added)), needles)
    return Recipe(hay_tokens, hidden, added, rng)


def place(corpus: TokenCorpus, recipe: Recipe, low: int, high: int) -> Slice:
    """The prompt at a random place between two tokens of the corpus, from cut to cut if possible.

    The stretch must hold ``hay_tokens``.
    """
    length, rng, needles = recipe.hay_tokens, recipe.rng, len(recipe.hidden)
    start = rng.randint(low, high - length)
    cuts = _choose_cuts(corpus.cuts.tokens, start, (low, high - length), length, needles, rng)
    if cuts:
        tokens = corpus.cuts.tokens
        spans = [Span(int(tokens[a]), int(tokens[b]), (a, b)) for a, b in pairwise(cuts)]
    else:
        depths = sorted(rng.sample(range(1, length), needles))
        bounds = [start, *(start + depth for depth in depths), start + length]
        spans = [Span(a, b, None) for a, b in pairwise(bounds)]
    pieces: list[Span | Added] = [spans[0]]
    for added, span in zip(recipe.added, spans[1:], strict=False):
        pieces += [added, span]
    return Slice(corpus, (*pieces, *recipe.added[needles:]))


def _choose_cuts(
    tokens: TokenIds,
    near: int,
    starts_within: tuple[int, int],
    length: int,
    needles: int,
    rng: random.Random,
) -> list[int] | None:
    """Cuts ``length`` tokens apart and some between them, for the needles; else ``None``."""
    low, high = starts_within
    for reach in _REACHES_TOKENS:
        first = int(np.searchsorted(tokens, np.uint32(max(near - reach, low))))
        last = int(np.searchsorted(tokens, np.uint32(min(near + reach, high)), side="right"))
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


def _count(piece: Span | Added) -> int:
    return len(piece.ids) if isinstance(piece, Added) else piece.end - piece.start
