"""Prompts of a load that share text on purpose, and what a prefix cache should find of each."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import groupby, pairwise
from typing import NamedTuple

import numpy as np

from leadline.campaign.draw import Asked
from leadline.campaign.prompting import PromptBuilder, Source, Way
from leadline.errors import SpecError
from leadline.prompts.corpus import Corpus
from leadline.prompts.cuts import TokenIds
from leadline.prompts.prompt import Prompt
from leadline.prompts.sessions import draw_sessions
from leadline.prompts.shared import SharedPrefix, bound_hits, draw_shared, share_for_rate
from leadline.prompts.slices import Slice
from leadline.spec import Workload


class WarmPrompts(NamedTuple):
    first: list[Prompt]
    """To be answered before the load begins: one for each shared prefix."""
    prompts: list[Prompt]
    cached_tokens: list[tuple[int, int]]
    """(least, most) of each prompt; see ``Sent``."""


async def build_warm(
    builder: PromptBuilder, workload: Workload, corpus: Corpus, asked: Sequence[Asked], seed: str
) -> WarmPrompts:
    """``SpecError`` without a local tokenizer or a known cache block, with the cure."""
    way = Way(workload.prompt_as, workload.api)
    source = await builder.source(way, corpus)
    if source is None:
        raise SpecError(
            "prompts that share text are exact only with a tokenizer known here",
            where="target.tokenizer",
            cure="give the model's tokenizer with --tokenizer DIR (campaign: target.tokenizer)",
        )
    block_tokens = workload.cache_block_tokens or builder.served.block_tokens
    if block_tokens is None:
        raise SpecError(
            "the server does not tell the block size of its prefix cache",
            where="workload.cache_block_tokens",
            cure="give it with --block-tokens N (campaign: workload.cache_block_tokens)",
        )
    draw = _draw_shared if workload.shared_prefix else _draw_turns
    return draw(builder, way, source, workload, asked, seed, block_tokens)


def _draw_shared(
    builder: PromptBuilder,
    way: Way,
    source: Source,
    workload: Workload,
    asked: Sequence[Asked],
    seed: str,
    block_tokens: int,
) -> WarmPrompts:
    """Prompt n is of group n modulo groups; each group's first one holds its longest prefix."""
    lengths = [builder.inside(way, one.input_tokens) for one in asked]
    shared = _shared_prefix(workload, lengths, block_tokens)
    groups = min(shared.groups, len(lengths))
    whole = [*[max(lengths)] * groups, *lengths]
    drawn = draw_shared(source.corpus, source.encode, whole, shared, seed, needles=0)
    prompts = [_word(builder, way, source, item) for item in drawn]
    ids = [_ids(prompt) for prompt in prompts]
    before = [ids[number % groups] for number in range(len(lengths))]
    added = prompts[0].added_tokens
    return WarmPrompts(
        first=prompts[:groups],
        prompts=prompts[groups:],
        cached_tokens=bound_hits(ids[groups:], before, block_tokens, added),
    )


def _draw_turns(
    builder: PromptBuilder,
    way: Way,
    source: Source,
    workload: Workload,  # noqa: ARG001
    asked: Sequence[Asked],
    seed: str,
    block_tokens: int,
) -> WarmPrompts:
    """The most of a turn holds what the answer before it may have guessed of the next text."""
    sessions = [list(turns) for _, turns in groupby(asked, key=lambda one: one.conversation)]
    lengths = [[builder.inside(way, one.input_tokens) for one in turns] for turns in sessions]
    drawn = draw_sessions(source.corpus, source.encode, lengths, seed)
    prompts = [[_word(builder, way, source, turn) for turn in session] for session in drawn]
    flat = [prompt for session in prompts for prompt in session]
    ids = [[_ids(prompt) for prompt in session] for session in prompts]
    before = [earlier for session in ids for earlier in (None, *session[:-1])]
    turns, added = [turn for session in ids for turn in session], flat[0].added_tokens
    least = [found for found, _ in bound_hits(turns, before, block_tokens, added)]
    whole = [session[-1] for session in ids]
    apart = bound_hits(whole, [None] * len(whole), block_tokens, added)
    by_chance = [most for session, (_, most) in zip(ids, apart, strict=True) for _ in session]
    guessed = [0, *(one.output_tokens * one.more for one, _ in pairwise(asked))]
    return WarmPrompts(
        first=[],
        prompts=flat,
        cached_tokens=[
            (found, max(found + answer, chance))
            for found, answer, chance in zip(least, guessed, by_chance, strict=True)
        ],
    )


def _shared_prefix(workload: Workload, lengths: Sequence[int], block_tokens: int) -> SharedPrefix:
    asked = workload.shared_prefix
    assert asked  # noqa: S101  (else there is nothing to share)
    if asked.hit_rate is not None:
        rate = Fraction(str(asked.hit_rate))
        return share_for_rate(lengths, rate, block_tokens, groups=asked.groups, warmed=True)
    share = None if asked.share is None else Fraction(str(asked.share))
    return SharedPrefix(asked.tokens, share, asked.groups)


def _word(builder: PromptBuilder, way: Way, source: Source, drawn: Slice) -> Prompt:
    found = source.word(drawn, way.form)
    if found is None:
        raise SpecError(
            "no text of this corpus provably has exactly the tokens asked for",
            where="workload.prompt_as",
            cure="send token ids, or take another length, seed or corpus",
        )
    return builder.whole(way, found)


def _ids(prompt: Prompt) -> TokenIds:
    return np.asarray(prompt.ids, np.uint32)
