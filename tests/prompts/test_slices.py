from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.prompts.corpora_for_tests import prepared
from tests.prompts.tokenizers_for_tests import KINDS, real_text

from leadline.errors import SpecError
from leadline.prompts.slices import Added, Span, draw_slice


@pytest.mark.parametrize("kind", KINDS)
@given(
    tokens=st.integers(400, 6000),
    seed=st.text("abc", min_size=1, max_size=8),
    needles=st.integers(0, 5),
)
def test_ids_and_text_are_the_same_prompt_of_exactly_that_length(
    kind: str, tokens: int, seed: str, needles: int
) -> None:
    corpus, tokenizer = prepared(kind)
    drawn = draw_slice(corpus, tokenizer.encode, tokens, seed, needles)
    as_ids, as_text = drawn.as_ids(), drawn.as_text(tokenizer.encode)
    assert as_text is not None
    assert as_text.text is not None
    assert len(as_ids.ids) == tokens
    assert tokenizer.encode(as_text.text) == list(as_ids.ids) == list(as_text.ids)
    assert real_text().startswith(as_text.text[:20].partition("\n")[0], as_ids.corpus_start)
    assert len(as_ids.needles) == needles
    for needle in as_ids.needles:
        after = tokenizer.huggingface.decode(as_ids.ids[needle.depth_tokens :].tolist())
        assert after.startswith("\nOne of the special magic numbers for ")
        assert after.partition(" is: ")[2].startswith(f"{needle.answer}.\n")


def test_every_length_from_one_token_on_is_exact() -> None:
    corpus, tokenizer = prepared("gpt2")
    for tokens in [*range(1, 1000), len(corpus.ids) - 1, len(corpus.ids)]:
        assert len(draw_slice(corpus, tokenizer.encode, tokens, "s", 0).as_ids().ids) == tokens


def test_the_hay_is_consecutive_and_never_repeated() -> None:
    corpus, tokenizer = prepared("gpt2")
    drawn = draw_slice(corpus, tokenizer.encode, 5000, "s", 3)
    spans = [piece for piece in drawn.pieces if isinstance(piece, Span)]
    assert all(span.start < span.end for span in spans)
    assert all(left.end == right.start for left, right in pairwise(spans))
    prompt = drawn.as_text(tokenizer.encode)
    assert prompt is not None
    assert prompt.text is not None
    hay = prompt.text
    for piece in drawn.pieces:
        hay = hay.replace(piece.text, "") if isinstance(piece, Added) else hay
    assert real_text().startswith(hay, prompt.corpus_start)


def test_a_seed_gives_the_same_prompt_and_another_seed_another() -> None:
    corpus, tokenizer = prepared("gpt2")

    def draw(seed: str) -> object:
        return draw_slice(corpus, tokenizer.encode, 900, seed).as_ids()

    random.seed(1)
    first = draw("a")
    random.seed(2)
    assert draw("a") == first
    assert len({draw(seed) for seed in "abcdefgh"}) == 8


def test_starts_and_depths_spread_over_all_there_is() -> None:
    corpus, tokenizer = prepared("gpt2")
    prompts = [draw_slice(corpus, tokenizer.encode, 900, str(n)).as_ids() for n in range(60)]
    starts = [prompt.corpus_start / len(corpus.text) for prompt in prompts]
    depths = [prompt.needles[0].depth_tokens for prompt in prompts]
    assert min(starts) < 0.1
    assert max(starts) > 0.9
    assert min(depths) < 100
    assert max(depths) > 750


def test_a_corpus_that_is_too_short_says_what_it_holds() -> None:
    corpus, tokenizer = prepared("gpt2")
    size = len(corpus.ids)
    with pytest.raises(SpecError, match="text is never repeated") as refusal:
        draw_slice(corpus, tokenizer.encode, size + 1, "s", 0)
    assert refusal.value.what.startswith(f"the corpus holds {size:,} tokens")
    assert "--corpus FILE --corpus FILE" in refusal.value.cure


def test_a_length_without_room_for_the_question_says_how_much_is_needed() -> None:
    corpus, tokenizer = prepared("gpt2")
    with pytest.raises(SpecError, match="leave no room for 2 needle") as refusal:
        draw_slice(corpus, tokenizer.encode, 10, "s", 2)
    needed = int(refusal.value.cure.split()[4])
    prompt = draw_slice(corpus, tokenizer.encode, needed, "s", 2).as_ids()
    assert len(prompt.ids) == needed


def test_a_tokenizer_without_cuts_gives_exact_ids_and_no_text() -> None:
    corpus, tokenizer = prepared("lines")
    for tokens in (100, 999, len(corpus.ids)):
        drawn = draw_slice(corpus, tokenizer.encode, tokens, "s", 1)
        assert len(drawn.as_ids().ids) == tokens
        assert drawn.as_text(tokenizer.encode) is None


def test_a_joint_that_would_merge_gives_no_text() -> None:
    """A tokenizer that swallows the line end before the question breaks the count."""
    corpus, tokenizer = prepared("gpt2")
    drawn = draw_slice(corpus, tokenizer.encode, 500, "s", 1)
    assert drawn.as_text(tokenizer.encode) is not None
    assert drawn.as_text(lambda text: tokenizer.encode(text.replace("\nThe", " The"))) is None
