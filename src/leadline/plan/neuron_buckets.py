"""Lengths that Neuron compiles a graph for, how many graphs that makes, and how to make fewer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt, log2


@dataclass(frozen=True)
class Buckets:
    """Token counts, ascending. ``cached`` is empty without prefix caching, else it starts at 0."""

    context: tuple[int, ...]
    cached: tuple[int, ...]
    decode: tuple[int, ...]

    @property
    def graphs(self) -> int:
        """A graph for each pair of new and cached tokens, and one for each decode length."""
        return len(self.context) * max(1, len(self.cached)) + len(self.decode)

    @property
    def largest_cell(self) -> tuple[int, int]:
        """New and cached tokens of the largest prefill graph."""
        return self.context[-1], self.cached[-1] if self.cached else 0


def list_buckets(least: int, most: int) -> tuple[int, ...]:
    """Powers of two from ``least`` on, and ``most``; a power close below ``most`` is left out.

    Source: NxDI ``modules/autobucketing.py``, which rounds the logarithm of the largest.
    """
    if least == most:
        return (most,)
    return (*(2**power for power in range(int(log2(least)), round(log2(most)))), most)


def double_buckets(least: int, most: int) -> tuple[int, ...]:
    """Every doubling of ``least`` below ``most``, and ``most``. Source: vllm-neuron, native."""
    powers = []
    while least < most:
        powers.append(least)
        least *= 2
    return (*powers, most)


def pick_buckets(buckets: Sequence[int], count: int) -> tuple[int, ...]:
    """At most ``count`` of the buckets, evenly spaced, the largest always among them."""
    step = max(1, len(buckets) // count)
    return tuple(sorted(buckets[::-1][::step][:count]))


def prune_buckets(buckets: Buckets, most_graphs: int) -> Buckets | None:
    """The same longest lengths with at most that many graphs; None where even one each is too many.

    With prefix caching k lengths on every axis make k (k + 1) + k graphs.
    """
    kept = isqrt(most_graphs + 1) - 1 if buckets.cached else most_graphs // 2
    if kept < 1:
        return None
    cached = (0, *pick_buckets(buckets.cached[1:], kept)) if buckets.cached else ()
    return Buckets(pick_buckets(buckets.context, kept), cached, pick_buckets(buckets.decode, kept))


def count_tiles(new_tokens: int, cached_tokens: int, rows: int, columns: int) -> int:
    """Attention tiles of one prefill graph: half a square of the new, all of the cached tokens."""
    return new_tokens // rows * (new_tokens // 2 + cached_tokens) // columns
