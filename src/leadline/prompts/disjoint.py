"""Many prompts of one corpus that share no token of it, for requests at the same time."""

from __future__ import annotations

from collections.abc import Sequence

from leadline.errors import SpecError
from leadline.prompts.layout import lay_out
from leadline.prompts.slices import EncodeNow, Recipe, Slice, place, write_recipe
from leadline.prompts.token_corpus import TokenCorpus
from leadline.units import show_tokens


def draw_disjoint(
    corpus: TokenCorpus, encode: EncodeNow, lengths: Sequence[int], seed: str, needles: int = 1
) -> list[Slice]:
    """A prompt of each length, in this order; everything random follows from ``seed``.

    Raises ``SpecError`` with the number of tokens missing: text is never repeated.
    """
    recipes = [
        write_recipe(encode, tokens, f"{seed}/{number}", needles)
        for number, tokens in enumerate(lengths)
    ]
    return place_disjoint(corpus, recipes, seed)


def place_disjoint(
    corpus: TokenCorpus,
    recipes: Sequence[Recipe],
    seed: str,
    first: int = 0,
    last: int | None = None,
) -> list[Slice]:
    """Each prompt in a region of its own between two tokens; which comes where is drawn.

    What the prompts leave over is shared out evenly, so that each can move from cut to cut.
    """
    sizes = [recipe.hay_tokens for recipe in recipes]
    room = (len(corpus.ids) if last is None else last) - first
    regions = lay_out(sizes, room, seed)
    if regions is None:
        raise _too_short(corpus, len(recipes), sum(sizes) - room)
    return [
        place(corpus, recipe, first + low, first + high)
        for recipe, (low, high) in zip(recipes, regions, strict=True)
    ]


def place_staggered(
    corpus: TokenCorpus, recipes: Sequence[Recipe], seed: str
) -> tuple[list[Slice], bool]:
    """Without overlap if there is room; else no two start at the same token. Which of them it is.

    ``SpecError`` if the longest is longer than the corpus, or has fewer places than there are
    prompts.
    """
    sizes, held = [recipe.hay_tokens for recipe in recipes], len(corpus.ids)
    if sum(sizes) <= held:
        return place_disjoint(corpus, recipes, seed), True
    starts = lay_out([1] * len(recipes), held - max(sizes), seed)
    if starts is None:
        raise _too_short(corpus, len(recipes), len(recipes) + max(sizes) - held)
    placed = [
        place(corpus, recipe, first, last - 1 + recipe.hay_tokens)
        for recipe, (first, last) in zip(recipes, starts, strict=True)
    ]
    return placed, False


def _too_short(corpus: TokenCorpus, prompts: int, missing: int) -> SpecError:
    held = len(corpus.ids)
    return SpecError(
        f"{prompts} prompts without overlap need {show_tokens(held + missing)} tokens of text, the "
        f"corpus holds {show_tokens(held)}: {show_tokens(missing)} are missing; text is never "
        "repeated",
        where=corpus.facts["source"],
        cure="join more files (--corpus FILE --corpus FILE), or ask for fewer or shorter prompts",
    )
