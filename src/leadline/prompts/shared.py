"""Prefixes that prompts share, so that a cache is hit as often as asked.

What is expected is counted as the engines count: whole blocks of the longest prefix that an
earlier prompt had too, never the last token of a prompt, which has to be computed. It holds for
prompts that are sent one after another to a cache that keeps everything; a model with sliding or
chunked attention may look up less.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

import numpy as np

from leadline.errors import SpecError
from leadline.prompts.cuts import TokenIds
from leadline.prompts.disjoint import place_disjoint
from leadline.prompts.slices import EncodeNow, Slice, Span, write_recipe
from leadline.prompts.token_corpus import TokenCorpus

_CHUNK_TOKENS = 4096
CHANCE_TOKENS = 8
"""So many first tokens a prompt may have in common with one that we know nothing of; only caches
that count single tokens find them (llama.cpp)."""


@dataclass(frozen=True)
class SharedPrefix:
    """The same first tokens for all prompts of a group; prompt n is of group n modulo groups."""

    tokens: int | None = None
    share: Fraction | float | None = None
    """Of each prompt, instead of ``tokens``."""
    groups: int = 1


@dataclass(frozen=True)
class ExpectedHits:
    """What a cache is expected to find of each prompt, in the order of sending."""

    cached_tokens: tuple[int, ...]
    prompt_tokens: tuple[int, ...]

    @property
    def rate(self) -> Fraction:
        return Fraction(sum(self.cached_tokens), sum(self.prompt_tokens))


def prefix_lengths(lengths: Sequence[int], shared: SharedPrefix) -> list[int]:
    """Shared tokens of each prompt; at least one token of a prompt is its own."""
    if shared.tokens is not None:
        if shared.tokens >= min(lengths):
            raise SpecError(
                f"a shared prefix of {shared.tokens:,} tokens leaves nothing of a prompt of "
                f"{min(lengths):,}",
                where="shared prefix",
                cure="ask for a shorter prefix or longer prompts",
            )
        return [shared.tokens] * len(lengths)
    share = Fraction(shared.share or 0)
    return [min(int(tokens * share), tokens - 1) for tokens in lengths]


def plan_hits(
    lengths: Sequence[int], shared: SharedPrefix, block_tokens: int, *, warmed: bool = False
) -> ExpectedHits:
    """Before anything is drawn; ``warmed``: every group's longest prefix was sent before."""
    prefixes = prefix_lengths(lengths, shared)
    seen = [0] * shared.groups
    if warmed:
        seen = [max(prefixes[group :: shared.groups], default=0) for group in range(shared.groups)]
    cached = []
    for number, (tokens, prefix) in enumerate(zip(lengths, prefixes, strict=True)):
        group = number % shared.groups
        cached.append(_whole_blocks(min(prefix, seen[group]), tokens, block_tokens))
        seen[group] = max(seen[group], prefix)
    return ExpectedHits(tuple(cached), tuple(lengths))


def share_for_rate(
    lengths: Sequence[int],
    rate: Fraction | float,
    block_tokens: int,
    *,
    groups: int = 1,
    warmed: bool = False,
) -> SharedPrefix:
    """The smallest share of each prompt whose expected hit rate is not below ``rate``.

    ``plan_hits`` says what it is then, to the token. ``SpecError`` when even prompts that differ in
    their last token only would be hit less.
    """
    most, steps = SharedPrefix(share=Fraction(1), groups=groups), max(lengths)

    def expect(step: int) -> Fraction:
        shared = replace(most, share=Fraction(step, steps))
        return plan_hits(lengths, shared, block_tokens, warmed=warmed).rate

    if expect(steps) < rate:
        raise SpecError(
            f"a hit rate of {float(rate):.1%} cannot be reached: {float(expect(steps)):.1%} is the "
            f"most of {len(lengths)} prompts in {groups} group(s)",
            where="shared prefix",
            cure="ask for a lower rate, fewer groups or more prompts, or warm the prefixes first",
        )
    low, high = 0, steps
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if expect(middle) >= rate else (middle + 1, high)
    return replace(most, share=Fraction(low, steps))


def draw_shared(
    corpus: TokenCorpus,
    encode: EncodeNow,
    lengths: Sequence[int],
    shared: SharedPrefix,
    seed: str,
    needles: int = 1,
    *,
    before_tokens: int = 0,
    tail: str = "",
) -> list[Slice]:
    """Prompts of these lengths; needles lie in what is a prompt's own. Else no text comes twice.

    A prefix ends at a cut, so one that is a share of a prompt may be some tokens shorter.
    ``before_tokens``, which every prompt begins with, are left out of what is drawn; ``tail`` ends
    each.
    """
    whole, lengths = lengths, [tokens - before_tokens for tokens in lengths]
    prefixes = [max(0, tokens - before_tokens) for tokens in prefix_lengths(whole, shared)]
    groups = range(min(shared.groups, len(lengths)))
    longest = [max(1, *prefixes[group :: shared.groups]) for group in groups]
    common = [write_recipe(encode, n, f"{seed}/prefix/{k}", 0) for k, n in enumerate(longest)]
    spare = max(0, len(corpus.ids) - sum(longest) - sum(lengths) + sum(prefixes))
    border = min(sum(longest) + spare * len(common) // (len(common) + len(lengths)),
                 len(corpus.ids))  # fmt: skip
    starts = place_disjoint(corpus, common, f"{seed}/prefix", 0, border)
    heads = [_shorten(starts[n % shared.groups], tokens) for n, tokens in enumerate(prefixes)]
    recipes = [
        write_recipe(encode, tokens - len(head), f"{seed}/{n}", needles, tail=tail)
        for n, (tokens, head) in enumerate(zip(lengths, heads, strict=True))
    ]
    own = place_disjoint(corpus, recipes, seed, border)
    return [head + rest for head, rest in zip(heads, own, strict=True)]


def expect_hits(prompts: Iterable[Sequence[int] | TokenIds], block_tokens: int) -> ExpectedHits:
    """From the very ids, sent in this order to an empty cache; 0 everywhere: all are cold."""
    seen = _Prefixes()
    cached, counts = [], []
    for prompt in prompts:
        ids = np.ascontiguousarray(prompt, np.uint32)
        cached.append(_whole_blocks(seen.add(ids), len(ids), block_tokens))
        counts.append(len(ids))
    return ExpectedHits(tuple(cached), tuple(counts))


def bound_hits(
    prompts: Sequence[TokenIds],
    before: Sequence[TokenIds | None],
    block_tokens: int,
    added_tokens: int = 0,
) -> list[tuple[int, int]]:
    """(least, most) tokens of each prompt that a cache finds, in whatever order they are sent.

    The least is what its own ``before`` has too: what of another one, answered before it, is surely
    remembered. The most is what any other of these has, if by chance it came first, or else
    ``CHANCE_TOKENS``. ``added_tokens`` are what the server puts before every prompt.
    """
    everything = [ids.astype(">u4").tobytes() for ids in prompts]
    ranked = sorted(range(len(everything)), key=everything.__getitem__)
    nearest = [CHANCE_TOKENS] * len(everything)
    for one, other in pairwise(ranked):
        same = _common_tokens(everything[one], everything[other])
        nearest[one], nearest[other] = max(nearest[one], same), max(nearest[other], same)
    found = []
    for ids, earlier, most in zip(prompts, before, nearest, strict=True):
        least = 0 if earlier is None else _common_tokens(ids.tobytes(), earlier.tobytes())
        whole = len(ids) + added_tokens
        bounds = (least + added_tokens * (earlier is not None), most + added_tokens)
        found.append(tuple(_whole_blocks(shared, whole, block_tokens) for shared in bounds))
    return [(least, most) for least, most in found]


class _Prefixes:
    """A tree of chunks: prompts are compared only where all before was equal."""

    def __init__(self) -> None:
        self.children: dict[bytes, _Prefixes] = {}

    def add(self, ids: TokenIds) -> int:
        """Tokens of the longest prefix that an earlier one had too."""
        node, same, is_new = self, 0, False
        for start in range(0, len(ids), _CHUNK_TOKENS):
            chunk = ids[start : start + _CHUNK_TOKENS].tobytes()
            if not is_new and chunk not in node.children:
                is_new = True
                same = start + max(
                    (_common_tokens(chunk, near) for near in node.children), default=0
                )
            node = node.children.setdefault(chunk, _Prefixes())
        return same if is_new else len(ids)


def _common_tokens(one: bytes, other: bytes) -> int:
    count = min(len(one), len(other)) // 4
    left, right = (np.frombuffer(data, np.uint32, count) for data in (one, other))
    differing = np.flatnonzero(left != right)
    return int(differing[0]) if len(differing) else count


def _whole_blocks(shared_tokens: int, prompt_tokens: int, block_tokens: int) -> int:
    return min(shared_tokens, prompt_tokens - 1) // block_tokens * block_tokens


def _shorten(prefix: Slice, tokens: int) -> Slice:
    """Its first tokens, up to the last cut among them."""
    (span,) = prefix.pieces
    assert isinstance(span, Span)  # noqa: S101
    end, cuts = min(span.start + tokens, span.end), None
    if span.cuts:
        places = prefix.corpus.cuts.tokens
        last = int(np.searchsorted(places, np.uint32(end), side="right")) - 1
        end, cuts = int(places[last]), (span.cuts[0], last)
    return Slice(prefix.corpus, (Span(span.start, end, cuts),) if end > span.start else ())
