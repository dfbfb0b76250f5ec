"""Conversations of several turns: each prompt is the one before it and fresh text."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from leadline.errors import SpecError
from leadline.prompts.disjoint import place_disjoint
from leadline.prompts.slices import EncodeNow, Slice, write_recipe
from leadline.prompts.token_corpus import TokenCorpus
from leadline.units import show_tokens


def draw_sessions(
    corpus: TokenCorpus,
    encode: EncodeNow,
    sessions: Sequence[Sequence[int]],
    seed: str,
    needles: int = 0,
) -> list[list[Slice]]:
    """For each session the tokens of its prompts, turn by turn, in rising order.

    What a turn adds stands for the answer before it too: the real one is not known when prompts
    are drawn. Every turn hides its own needles, under new names, and ends in its own question.
    Raises ``SpecError`` with the number of tokens missing: text is never repeated.
    """
    fresh = [fresh_tokens(turns) for turns in sessions]
    recipes = [
        write_recipe(encode, tokens, f"{seed}/{session}/{turn}", needles, turn * needles)
        for session, turns in enumerate(fresh)
        for turn, tokens in enumerate(turns)
    ]
    drawn = iter(place_disjoint(corpus, recipes, seed))
    return [list(accumulate(next(drawn) for _ in turns)) for turns in fresh]


def fresh_tokens(turns: Sequence[int]) -> list[int]:
    """What each turn adds."""
    added = [after - before for before, after in zip([0, *turns], turns, strict=False)]
    if any(tokens < 1 for tokens in added):
        shown = ", ".join(map(show_tokens, turns))
        raise SpecError(
            f"a turn is no longer than the one before it: {shown} tokens",
            where="session",
            cure="give the whole length of each turn's prompt, in rising order",
        )
    return added
