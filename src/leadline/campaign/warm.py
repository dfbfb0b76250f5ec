"""Prompts of a load that share text on purpose, and what a prefix cache should find of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby, pairwise
from typing import NamedTuple

import numpy as np

from leadline.campaign.draw import Asked
from leadline.campaign.prompting import Drawn, PromptBuilder, Source, Way
from leadline.errors import SpecError
from leadline.prompts.chat import draw_shared_chats
from leadline.prompts.corpus import Corpus
from leadline.prompts.cuts import TokenIds
from leadline.prompts.dialogs import DialogTurn, draw_dialogs, draw_replay_chats
from leadline.prompts.prompt import Prompt
from leadline.prompts.replay import draw_replay
from leadline.prompts.sessions import draw_sessions
from leadline.prompts.shared import (
    SharedPrefix,
    bound_hits,
    draw_shared,
    expect_hits,
    prefix_lengths,
    share_for_rate,
)
from leadline.prompts.trace import TraceLine
from leadline.spec import Load, Workload


class WarmPrompts(NamedTuple):
    first: list[Prompt]
    """To be answered before the load begins: one for each shared prefix."""
    prompts: list[Prompt]
    cached_tokens: list[tuple[int, int]]
    """(least, most) of each prompt; see ``Sent``."""
    replayed_tokens: Sequence[int] = ()
    """Of a replayed trace, of each prompt; see ``Sent``."""
    warning: str = ""
    """What whoever reads the report should know of them."""


@dataclass(frozen=True)
class _Study:
    """What all ways to share need."""

    builder: PromptBuilder
    way: Way
    source: Source
    workload: Workload
    load: Load
    asked: Sequence[Asked]
    seed: str
    block_tokens: int
    """Of the server's cache."""

    def inside(self, asked: Sequence[Asked]) -> list[int]:
        """Tokens of each prompt beside what the server adds."""
        return [self.builder.inside(self.way, one.input_tokens) for one in asked]

    def word(self, drawn: Sequence[Drawn]) -> list[Prompt]:
        return [self._word(item) for item in drawn]

    def _word(self, drawn: Drawn) -> Prompt:
        found = self.source.word(drawn, self.way.form)
        if found is None:
            raise SpecError(
                "no text of this corpus provably has exactly the tokens asked for",
                where="workload.prompt_as",
                cure="send token ids, or take another length, seed or corpus",
            )
        return self.builder.whole(self.way, found)


async def build_warm(
    builder: PromptBuilder,
    workload: Workload,
    load: Load,
    corpus: Corpus,
    asked: Sequence[Asked],
    seed: str,
) -> WarmPrompts:
    """``SpecError`` without a local tokenizer or a known cache block, with the cure."""
    way = Way(workload.prompt_as, workload.api)
    source = await builder.source(way, corpus)
    if source is None or (way.form == "chat" and source.template is None):
        raise SpecError(
            "prompts that share text are exact only with a tokenizer known here"
            + (", and its chat template" if source else ""),
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
    study = _Study(builder, way, source, workload, load, asked, seed, block_tokens)
    if workload.shared_prefix:
        return _draw_shared(study)
    return _draw_replay(study) if asked[0].recorded else _draw_turns(study)


def _draw_shared(study: _Study) -> WarmPrompts:
    """Prompt n is of group n modulo groups; each group's first one holds its longest prefix."""
    lengths = study.inside(study.asked)
    shared = _shared_prefix(study.workload, lengths, study.block_tokens)
    groups = min(shared.groups, len(lengths))
    prompts = study.word(_draw_from(study, [*[max(lengths)] * groups, *lengths], shared))
    ids = [_ids(prompt) for prompt in prompts]
    # What one shares beyond its prefix is chance: a cache of the latest prompt alone forgets it.
    prefixes = enumerate(prefix_lengths(lengths, shared))
    before = [*[None] * groups, *(ids[n % groups][:tokens] for n, tokens in prefixes)]
    bounds = bound_hits(ids, before, study.block_tokens, prompts[0].added_tokens)
    return WarmPrompts(
        first=prompts[:groups],
        prompts=prompts[groups:],
        cached_tokens=bounds[groups:],
    )


def _draw_from(study: _Study, lengths: Sequence[int], shared: SharedPrefix) -> Sequence[Drawn]:
    source, seed = study.source, study.seed
    if source.template is None:
        return draw_shared(source.corpus, source.encode, lengths, shared, seed, needles=0)
    # The tokenizer itself knows the template's special tokens.
    encode = source.tokenizer.encode
    return draw_shared_chats(source.corpus, encode, source.template, lengths, shared, seed)


def _draw_replay(study: _Study) -> WarmPrompts:
    """Nothing is surely sent before: a request may come while the one before it is still read."""
    drawn, is_disjoint = _replay(study, [one.recorded for one in study.asked if one.recorded])
    prompts = study.word(drawn)
    ids, added = [_ids(prompt) for prompt in prompts], prompts[0].added_tokens
    bounds = bound_hits(ids, [None] * len(ids), study.block_tokens, added)
    whole = [np.concatenate((np.zeros(added, np.uint32), one)) for one in ids] if added else ids
    warning = (
        "the corpus is too short for all blocks of the trace without overlap; different blocks "
        "start at different places and share text further on, which no prefix cache can find"
    )
    return WarmPrompts(
        first=[],
        prompts=prompts,
        cached_tokens=[(0, most) for _, most in bounds],
        replayed_tokens=expect_hits(whole, study.block_tokens).cached_tokens,
        warning="" if is_disjoint else warning,
    )


def _replay(study: _Study, lines: Sequence[TraceLine]) -> tuple[Sequence[Drawn], bool]:
    source, seed, block_tokens = study.source, study.seed, study.load.trace_block_tokens
    corpus, encode = source.corpus, source.tokenizer.encode
    if source.template:
        return draw_replay_chats(corpus, encode, source.template, lines, block_tokens, seed)
    return draw_replay(
        *(corpus, source.encode, lines, block_tokens, seed),
        before_tokens=study.builder.added_tokens.get(study.way, 0),
        as_text=study.way.form == "text",
    )


def _draw_turns(study: _Study) -> WarmPrompts:
    """The most of a turn holds what the answer before it may have guessed of the next text."""
    asked, block_tokens = study.asked, study.block_tokens
    sessions = [list(turns) for _, turns in groupby(asked, key=lambda one: one.conversation)]
    prompts = [study.word(session) for session in _converse(study, sessions)]
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


def _converse(study: _Study, sessions: list[list[Asked]]) -> Sequence[Sequence[Drawn]]:
    source = study.source
    corpus, encode = source.corpus, source.tokenizer.encode
    if source.template is None:
        lengths = [study.inside(turns) for turns in sessions]
        return draw_sessions(corpus, source.encode, lengths, study.seed)
    dialogs = [
        [DialogTurn(one.input_tokens, one.output_tokens) for one in turns] for turns in sessions
    ]
    return draw_dialogs(corpus, encode, source.template, dialogs, study.seed)


def _shared_prefix(workload: Workload, lengths: Sequence[int], block_tokens: int) -> SharedPrefix:
    asked = workload.shared_prefix
    assert asked  # noqa: S101  (else there is nothing to share)
    if asked.hit_rate is not None:
        rate = Fraction(str(asked.hit_rate))
        return share_for_rate(lengths, rate, block_tokens, groups=asked.groups, warmed=True)
    share = None if asked.share is None else Fraction(str(asked.share))
    return SharedPrefix(asked.tokens, share, asked.groups)


def _ids(prompt: Prompt) -> TokenIds:
    return np.asarray(prompt.ids, np.uint32)
