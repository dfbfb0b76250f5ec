"""Exact prompts as text: the whole text encodes to exactly the tokens asked for."""

from __future__ import annotations

import asyncio
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from leadline.errors import SpecError
from leadline.prompts.corpus import Corpus, load_corpus
from leadline.prompts.haystack import Prompt
from leadline.prompts.text import build_text_prompt


@cache
def real_text() -> Corpus:
    return load_corpus("kjv")


@cache
def tokenizer() -> Tokenizer:
    """Byte-level BPE trained on the text itself, so that merges cross every kind of joint."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([real_text().text[:200_000]], trainer)
    return bpe


async def encode(text: str) -> list[int]:
    ids: list[int] = tokenizer().encode(text, add_special_tokens=False).ids
    return ids


def build(tokens: int, seed: str = "0", needles: int = 1, corpus: Corpus | None = None) -> Prompt:
    return asyncio.run(build_text_prompt(corpus or real_text(), encode, tokens, seed, needles))


@given(
    tokens=st.integers(min_value=200, max_value=4000),
    seed=st.text("abc", min_size=1, max_size=8),
    needles=st.integers(min_value=0, max_value=3),
)
def test_any_length_is_exact_and_every_needle_is_where_it_says(
    tokens: int, seed: str, needles: int
) -> None:
    prompt = build(tokens, seed, needles)
    assert prompt.text is not None
    assert len(asyncio.run(encode(prompt.text))) == tokens == len(prompt.ids)
    for needle in prompt.needles:
        position = prompt.text.index(f"is: {needle.answer}.")
        before = prompt.text[: prompt.text.rindex("\nOne of the special", 0, position)]
        assert len(asyncio.run(encode(before))) == needle.depth_tokens


def test_the_text_is_the_corpus_from_its_start_but_for_the_needles() -> None:
    prompt = build(800, needles=0)
    assert prompt.text is not None
    assert real_text().text.startswith(prompt.text, prompt.corpus_start)


def test_a_seed_gives_the_same_prompt_and_another_seed_another_start() -> None:
    assert build(500, "a") == build(500, "a")
    assert build(500, "a").corpus_start != build(500, "b").corpus_start


def test_a_corpus_that_is_too_short_says_what_it_holds() -> None:
    text = real_text().text[:2000]
    short = Corpus(name="s", text=text, source="s.txt", licence="")
    with pytest.raises(SpecError, match="tokens, the prompt needs"):
        build(5000, corpus=short)


def test_no_room_for_a_needle_says_how_much_is_needed() -> None:
    with pytest.raises(SpecError, match="leave no room for 1 needle") as caught:
        build(10)
    assert "ask for at least" in caught.value.cure
