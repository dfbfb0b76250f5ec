"""Prompts of a recorded trace: what had equal prefix hashes there has equal tokens here.

Each hash of the trace gets tokens of its own, so that a cache finds in the replay what it could
find on the recorded day.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from itertools import chain

from leadline.prompts.disjoint import place_staggered
from leadline.prompts.slices import EncodeNow, Slice, Span, write_recipe
from leadline.prompts.token_corpus import TokenCorpus
from leadline.prompts.trace import TraceLine

Share = tuple[Hashable, int]
"""A block, and how many of its tokens a prompt has."""


def draw_replay(
    corpus: TokenCorpus,
    encode: EncodeNow,
    lines: Sequence[TraceLine],
    block_tokens: int,
    seed: str,
) -> tuple[list[Slice], bool]:
    """Prompts in the order of the trace, and whether no text comes twice.

    Where the corpus is too short for that, different blocks start at different places of it and
    share text further on; that is no prefix, so no cache finds it. A request without hashes has
    one block of its own. ``SpecError`` where not even that is possible.
    """
    wanted = [list(_shares(n, line, block_tokens)) for n, line in enumerate(lines)]
    sizes: dict[Hashable, int] = {}
    for block, tokens in chain.from_iterable(wanted):
        sizes[block] = max(tokens, sizes.get(block, 0))
    recipes = [write_recipe(encode, n, f"{seed}/{block}", 0) for block, n in sizes.items()]
    placed, is_disjoint = place_staggered(corpus, recipes, seed)
    blocks = dict(zip(sizes, placed, strict=True))
    prompts = [
        Slice(corpus, tuple(_first(blocks[block], tokens) for block, tokens in shares))
        for shares in wanted
    ]
    return prompts, is_disjoint


def _shares(number: int, line: TraceLine, block_tokens: int) -> Iterator[Share]:
    if not line.hash_ids:
        yield ("request", number), line.input_tokens
    for place, block in enumerate(line.hash_ids):
        tokens = min(block_tokens, line.input_tokens - place * block_tokens)
        if tokens > 0:  # a prompt that makes room for what the server adds may end before its last
            yield block, tokens


def _first(block: Slice, tokens: int) -> Span:
    """Of a block that some prompt has less of; then its end is no cut."""
    (span,) = block.pieces
    assert isinstance(span, Span)  # noqa: S101  (a recipe without needles)
    if tokens == span.end - span.start:
        return span
    return Span(span.start, span.start + tokens, None)
