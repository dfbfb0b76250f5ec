from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.prompts.corpora_for_tests import prepared

from leadline.errors import SpecError
from leadline.prompts.disjoint import draw_disjoint
from leadline.prompts.slices import Slice, Span


def spans(drawn: list[Slice]) -> list[Span]:
    return sorted(piece for item in drawn for piece in item.pieces if isinstance(piece, Span))


@settings(max_examples=40)
@given(st.lists(st.integers(200, 3000), min_size=1, max_size=20), st.text("ab"), st.integers(0, 3))
def test_no_token_of_the_corpus_is_in_two_prompts(
    lengths: list[int], seed: str, needles: int
) -> None:
    corpus, tokenizer = prepared("gpt2")
    drawn = draw_disjoint(corpus, tokenizer.encode, lengths, seed, needles)
    assert [len(item) for item in drawn] == lengths
    assert [len(item.as_ids().ids) for item in drawn] == lengths
    taken = spans(drawn)
    assert all(left.end <= right.start for left, right in itertools.pairwise(taken))
    for item in drawn:
        prompt = item.as_text(tokenizer.encode)
        assert prompt is not None
        assert prompt.text is not None
        assert tokenizer.encode(prompt.text) == prompt.ids.tolist()  # type: ignore[union-attr]
        assert len(prompt.needles) == needles


def test_a_corpus_can_be_used_up_to_the_last_token() -> None:
    corpus, tokenizer = prepared("gpt2")
    part = len(corpus.ids) // 3
    lengths = [part, part, len(corpus.ids) - 2 * part]
    drawn = draw_disjoint(corpus, tokenizer.encode, lengths, "s", needles=0)
    assert sum(map(len, drawn)) == len(corpus.ids)
    assert len({span.start for span in spans(drawn)}) == 3


def test_a_corpus_that_is_too_short_says_how_much_is_missing_and_how_to_join() -> None:
    corpus, tokenizer = prepared("gpt2")
    half = len(corpus.ids) // 2
    with pytest.raises(SpecError, match="text is never repeated") as refusal:
        draw_disjoint(corpus, tokenizer.encode, [half, half, 1000], "s", needles=0)
    missing = 2 * half + 1000 - len(corpus.ids)
    assert f": {missing:,} are missing" in refusal.value.what
    assert "--corpus FILE --corpus FILE" in refusal.value.cure


def test_a_seed_gives_the_same_prompts_and_another_seed_others() -> None:
    corpus, tokenizer = prepared("gpt2")

    def draw(seed: str) -> tuple[str, ...]:
        drawn = draw_disjoint(corpus, tokenizer.encode, [500] * 5, seed)
        return tuple(item.as_ids().ids_sha256 for item in drawn)

    assert draw("a") == draw("a")
    assert len({*draw("a"), *draw("b"), *draw("c")}) == 15
