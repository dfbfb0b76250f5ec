"""Prompt lengths: fixed, listed, drawn from a distribution, or those of a trace.

Lengths are drawn one by one from one seed, so the first of many are those of few.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from math import exp, isfinite, log
from pathlib import Path
from statistics import NormalDist
from typing import Protocol

from leadline.errors import SpecError
from leadline.prompts.trace import read_trace_lengths
from leadline.units import parse_tokens, show_tokens

_FORMS = (
    "write 100k, a list 10k,100k,1M, uniform:10k..2M, "
    "lognormal:MEDIAN,SIGMA:10k..2M or trace:FILE.jsonl"
)


class Lengths(Protocol):
    def draw(self, rng: random.Random) -> Iterator[int]:
        """Lengths in tokens, without end."""


@dataclass(frozen=True)
class ListedLengths:
    """Taken in turn, over and over."""

    tokens: tuple[int, ...]

    def draw(self, rng: random.Random) -> Iterator[int]:  # noqa: ARG002
        return cycle(self.tokens)


@dataclass(frozen=True)
class UniformLengths:
    low: int
    high: int
    """Included."""

    def draw(self, rng: random.Random) -> Iterator[int]:
        while True:
            yield rng.randint(self.low, self.high)


@dataclass(frozen=True)
class LognormalLengths:
    """Truncated, not clipped: no length piles up at the limits."""

    median: int
    """Of the distribution before it is truncated."""
    sigma: float
    """Standard deviation of the logarithm."""
    low: int
    high: int

    def draw(self, rng: random.Random) -> Iterator[int]:
        normal = NormalDist(log(self.median), self.sigma)
        # Half a token more on both sides, so that the limits are as likely as their neighbours.
        below, above = (normal.cdf(log(end)) for end in (self.low - 0.5, self.high + 0.5))
        while True:
            share = below + (above - below) * rng.random()
            # Far out in a tail the shares coincide; there the nearer limit is the answer.
            drawn = exp(normal.inv_cdf(share)) if 0 < share < 1 else self.low
            yield min(max(round(drawn), self.low), self.high)


def draw_lengths(lengths: Lengths, count: int, seed: str) -> list[int]:
    return list(islice(lengths.draw(random.Random(seed)), count))  # noqa: S311


def parse_lengths(text: str) -> Lengths:
    """``100k``, ``10k,100k``, ``uniform:10k..2M``, ``lognormal:100k,0.8:10k..2M``, ``trace:FILE``.

    Raises ``SpecError`` with these forms.
    """
    try:
        return _parse(text)
    except ValueError as error:
        raise SpecError(f"{text!r}: {error}", where="lengths", cure=_FORMS) from None


def _parse(text: str) -> Lengths:
    kind, colon, rest = text.partition(":")
    match kind.strip() if colon else "":
        case "uniform":
            return UniformLengths(*_parse_range(rest))
        case "lognormal":
            shape, _, limits = rest.partition(":")
            median, _, sigma = shape.partition(",")
            return _lognormal(parse_tokens(median), float(sigma), *_parse_range(limits))
        case "trace":
            return ListedLengths(read_trace_lengths(Path(rest)))
        case "":
            return ListedLengths(tuple(map(parse_tokens, text.split(","))))
    raise ValueError(f"{kind!r} is no distribution")


def _parse_range(text: str) -> tuple[int, int]:
    low, dots, high = text.partition("..")
    if not dots:
        raise ValueError("the limits are missing")
    found = parse_tokens(low), parse_tokens(high)
    if found[0] > found[1]:
        raise ValueError(f"{show_tokens(found[0])} is above {show_tokens(found[1])}")
    return found


def _lognormal(median: int, sigma: float, low: int, high: int) -> LognormalLengths:
    if not (isfinite(sigma) and sigma > 0):
        raise ValueError("sigma must be above 0")
    return LognormalLengths(median, sigma, low, high)
