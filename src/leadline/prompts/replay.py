"""Prompts of a recorded trace: what had equal prefix hashes there has equal tokens here.

Each hash of the trace gets tokens of its own, so that a cache finds in the replay what it could
find on the recorded day.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from itertools import chain, pairwise
from typing import NamedTuple

from leadline.errors import SpecError
from leadline.prompts.disjoint import place_staggered
from leadline.prompts.slices import EncodeNow, Slice, write_recipe
from leadline.prompts.token_corpus import TokenCorpus
from leadline.prompts.trace import TraceLine
from leadline.units import show_tokens

# Of text that a prompt of words ends with, between one word and another.
_END_TOKENS = 32

Share = tuple[Hashable, int]
"""A block, and how many of its tokens a prompt has."""


def draw_replay(
    corpus: TokenCorpus,
    encode: EncodeNow,
    lines: Sequence[TraceLine],
    block_tokens: int,
    seed: str,
    *,
    before_tokens: int = 0,
    after_tokens: int = 0,
    as_text: bool = False,
) -> tuple[list[Slice], bool]:
    """Prompts in the order of the trace, and whether no text comes twice.

    Where the corpus is too short for that, different blocks start at different places of it and
    share text further on; that is no prefix, so no cache finds it. A request without hashes has
    one block of its own. What stands around every prompt takes the place of its first and last
    tokens, so that blocks stay where they were. As text, a prompt's last tokens are its own: a text
    can be cut only between words. ``SpecError`` where there is no room.
    """
    room = _Room(block_tokens, before_tokens, after_tokens, _END_TOKENS if as_text else 0)
    wanted = [list(_shares(n, line, room)) for n, line in enumerate(lines)]
    parts = [part for block, sizes in _sizes(wanted).items() for part in _cut(block, sizes)]
    recipes = [
        write_recipe(encode, end - start, f"{seed}/{block}/{start}", 0)
        for block, start, end in parts
    ]
    placed, is_disjoint = place_staggered(corpus, recipes, seed)
    begun: dict[Share, Slice] = {}
    for (block, start, end), part in zip(parts, placed, strict=True):
        begun[block, end] = begun[block, start] + part if start else part
    prompts = [
        Slice(corpus, tuple(piece for share in shares for piece in begun[share].pieces))
        for shares in wanted
    ]
    return prompts, is_disjoint


class _Room(NamedTuple):
    """In tokens."""

    block: int
    before: int
    after: int
    end: int
    """At least so many, and less than three times as many, that a prompt has for itself."""

    def shared(self, last: int) -> int:
        """Where what a prompt may share ends, if its text ends at ``last``.

        Ends in one block are no less than ``end`` apart, nor is one from the block's own end.
        """
        if not self.end:
            return last
        place, inside = divmod(last - self.end, self.block)
        inside = inside // self.end * self.end
        if inside + self.end > self.block:
            inside -= self.end
        found = place * self.block + max(0, inside)
        return found if found - self.before >= self.end else self.before


def _shares(number: int, line: TraceLine, room: _Room) -> Iterator[Share]:
    first, last = room.before, line.input_tokens - room.after
    if last <= first:
        raise SpecError(
            f"a prompt of {show_tokens(line.input_tokens)} tokens has no room for text: "
            f"{room.before + room.after} are the server's own or its chat template's",
            where="load.trace",
            cure="leave that request out of the trace, or send token ids",
        )
    if not line.hash_ids:
        yield ("request", number), last - first
        return
    shared = room.shared(last)
    for place, block in enumerate(line.hash_ids):
        start, end = place * room.block, (place + 1) * room.block
        if (tokens := min(end, shared) - max(start, first)) > 0:
            yield block, tokens
    if shared < last:
        yield ("end", line.hash_ids, last), last - shared


def _sizes(wanted: Sequence[Sequence[Share]]) -> dict[Hashable, set[int]]:
    found: dict[Hashable, set[int]] = {}
    for block, tokens in chain.from_iterable(wanted):
        found.setdefault(block, set()).add(tokens)
    return found


def _cut(block: Hashable, sizes: set[int]) -> Iterator[tuple[Hashable, int, int]]:
    """Wherever a prompt ends in a block, so that each part of it can go from cut to cut."""
    for start, end in pairwise([0, *sorted(sizes)]):
        yield block, start, end
