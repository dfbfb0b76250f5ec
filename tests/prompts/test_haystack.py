from __future__ import annotations

import asyncio
import hashlib
import itertools
import random
import struct
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from leadline.errors import SpecError
from leadline.prompts.corpus import Corpus
from leadline.prompts.haystack import Prompt, build_prompt
from leadline.prompts.tokenizer import Encode


class WordEncoder:
    """A token per word, a token per line end; ids in the order in which words are met."""

    def __init__(self) -> None:
        self.ids: dict[str, int] = {}
        self.calls = 0

    async def __call__(self, text: str) -> list[int]:
        self.calls += 1
        words = text.replace("\n", " \n ").split(" ")
        return [self.ids.setdefault(word, len(self.ids)) for word in words if word]

    def decode(self, ids: list[int]) -> list[str]:
        words = {number: word for word, number in self.ids.items()}
        return [words[number] for number in ids]


@cache
def real_tokenizer() -> Tokenizer:
    """Byte-level BPE as in every current model, trained here."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([numbered_words(300, 7).text], trainer)
    return tokenizer


async def encode_bpe(text: str) -> list[int]:
    ids: list[int] = real_tokenizer().encode(text, add_special_tokens=False).ids
    return ids


def make_corpus(text: str) -> Corpus:
    return Corpus(name="t", text=text, source="t.txt", licence="none")


def numbered_words(lines: int, words_per_line: int) -> Corpus:
    """Every word is another, so that repeated text cannot hide."""
    numbers = itertools.count()
    text = "".join(
        " ".join(f"w{next(numbers)}" for _ in range(words_per_line)) + "\n" for _ in range(lines)
    )
    return make_corpus(text)


def build(corpus: Corpus, encode: Encode, tokens: int, seed: str = "0", needles: int = 1) -> Prompt:
    return asyncio.run(build_prompt(corpus, encode, tokens, seed, needles))


@pytest.mark.parametrize("needles", [0, 1, 3])
def test_thousands_of_lengths_are_exact(needles: int) -> None:
    corpus = numbered_words(700, 5)
    lengths = range(60, 3060)

    async def build_all() -> list[int]:
        encode = WordEncoder()
        prompts = [await build_prompt(corpus, encode, n, f"{n}", needles) for n in lengths]
        return [len(prompt.ids) for prompt in prompts]

    assert asyncio.run(build_all()) == list(lengths)


@given(st.integers(400, 1500), st.text(max_size=5), st.integers(0, 4), st.sampled_from([3, 11, 40]))
def test_length_and_depth_are_exact_with_a_real_tokenizer(
    tokens: int, seed: str, needles: int, words_per_line: int
) -> None:
    corpus = numbered_words(3000 // words_per_line, words_per_line)
    prompt = build(corpus, encode_bpe, tokens, seed, needles)
    assert len(prompt.ids) == tokens
    assert len(prompt.needles) == needles
    for needle in prompt.needles:
        after = real_tokenizer().decode(prompt.ids[needle.depth_tokens :])
        assert after.startswith("\nOne of the special magic numbers for ")
        assert after.partition(" is: ")[2].startswith(f"{needle.answer}.\n")


@settings(max_examples=40)
@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=20, max_size=400),
    st.integers(1, 60),
)
def test_any_text_gives_the_exact_length_or_says_that_it_is_too_short(
    text: str, tokens: int
) -> None:
    available = len(asyncio.run(encode_bpe(text)))
    asked = min(tokens, available)
    assert len(build(make_corpus(text), encode_bpe, asked, "s", needles=0).ids) == asked
    with pytest.raises(SpecError, match="text is never repeated"):
        build(make_corpus(text), encode_bpe, available + 1, "s", needles=0)


@given(st.integers(60, 2000), st.integers(0, 10**6))
def test_the_hay_is_consecutive_text_that_is_never_repeated(tokens: int, seed: int) -> None:
    encode = WordEncoder()
    corpus = numbered_words(600, 5)
    prompt = build(corpus, encode, tokens, str(seed), needles=0)
    words = [word for word in encode.decode(prompt.ids) if word != "\n"]
    first = int(words[0].removeprefix("w"))
    # The last word may have been cut by the end of the fetched text.
    assert words[:-1] == [f"w{first + n}" for n in range(len(words) - 1)]
    assert corpus.text[prompt.corpus_start :].startswith(words[0])


def test_the_hay_starts_at_the_beginning_of_a_line() -> None:
    corpus = numbered_words(600, 5)
    for seed in range(30):
        start = build(corpus, WordEncoder(), 500, str(seed)).corpus_start
        assert start == 0 or corpus.text[start - 1] == "\n"


def test_the_needle_and_the_question_are_the_documented_words() -> None:
    encode = WordEncoder()
    prompt = build(numbered_words(300, 5), encode, 400)
    words = encode.decode(prompt.ids)
    (needle,) = prompt.needles
    spoken = " ".join(words[needle.depth_tokens : needle.depth_tokens + 12])
    expected = f"\n One of the special magic numbers for leadline is: {needle.answer}. \n"
    assert spoken == expected
    assert " ".join(words[-11:]) == (
        "special magic number for leadline mentioned in the provided text is:"
    )


def test_several_needles_lie_in_order_and_are_asked_for_in_that_order() -> None:
    encode = WordEncoder()
    prompt = build(numbered_words(300, 5), encode, 600, needles=10)
    depths = [needle.depth_tokens for needle in prompt.needles]
    assert depths == sorted(depths)
    question = " ".join(encode.decode(prompt.ids[-30:]))
    assert question.endswith(
        "special magic numbers for leadline, harbour, anchor, lantern, compass, tiller, rudder, "
        "mainsail, leadline8, harbour9 mentioned in the provided text are, in this order:"
    )


def test_answers_have_five_digits_and_depths_lie_inside_the_hay() -> None:
    corpus = numbered_words(300, 5)
    for seed in range(50):
        (needle,) = build(corpus, WordEncoder(), 300, str(seed)).needles
        assert len(needle.answer) == 5
        assert needle.answer.isdigit()
        assert 0 < needle.depth_tokens < 300


def test_depths_spread_over_the_whole_prompt() -> None:
    corpus = numbered_words(300, 5)
    depths = [
        build(corpus, encode_bpe, 900, str(seed)).needles[0].depth_tokens for seed in range(60)
    ]
    assert min(depths) < 150
    assert max(depths) > 650


def test_the_same_seed_gives_the_same_prompt() -> None:
    corpus = numbered_words(300, 5)
    first, second = (build(corpus, encode_bpe, 700, "7/700/200/1", 3) for _ in range(2))
    assert first == second
    assert first.ids_sha256 == second.ids_sha256


def test_another_trial_starts_elsewhere_and_hides_another_number() -> None:
    corpus = numbered_words(3000, 5)
    prompts = [build(corpus, encode_bpe, 500, f"7/500/200/{trial}") for trial in range(1, 6)]
    assert len({prompt.corpus_start for prompt in prompts}) == 5
    assert len({prompt.needles[0].answer for prompt in prompts}) == 5
    assert len({tuple(prompt.ids[:16]) for prompt in prompts}) == 5


def test_a_text_without_line_ends_still_starts_elsewhere_each_time() -> None:
    text = numbered_words(2000, 5).text.replace("\n", " ")
    prompts = [build(make_corpus(text), encode_bpe, 300, str(trial)) for trial in range(6)]
    assert len({prompt.corpus_start for prompt in prompts}) == 6
    assert all(text[prompt.corpus_start - 1] == " " for prompt in prompts if prompt.corpus_start)


def test_the_ids_are_hashed_as_32_bit_integers() -> None:
    prompt = Prompt(ids=[1, 2, 70_000], corpus_start=0, needles=())
    packed = struct.pack("<3I", 1, 2, 70_000)
    assert prompt.ids_sha256 == hashlib.sha256(packed).hexdigest()


def test_a_corpus_that_is_too_short_is_refused_and_never_repeated() -> None:
    with pytest.raises(SpecError) as refusal:
        build(numbered_words(10, 9), WordEncoder(), 5000)
    assert refusal.value.what == (
        "the corpus holds 100 tokens, the prompt needs 4,975; text is never repeated"
    )
    assert refusal.value.where == "t.txt"


def test_a_corpus_of_exactly_enough_is_used_whole() -> None:
    corpus = numbered_words(10, 9)
    for seed in range(10):
        prompt = build(corpus, WordEncoder(), 100, str(seed), needles=0)
        assert prompt.corpus_start == 0
        assert len(prompt.ids) == 100
    with pytest.raises(SpecError, match="the corpus holds 100 tokens"):
        build(corpus, WordEncoder(), 101, needles=0)


def test_a_length_without_room_for_the_question_says_how_much_is_needed() -> None:
    corpus = numbered_words(300, 5)
    with pytest.raises(SpecError) as refusal:
        build(corpus, WordEncoder(), 10)
    assert refusal.value.what == "10 tokens leave no room for 1 needle(s) and the question"
    assert refusal.value.where == "workload.input_tokens"
    needed = int(refusal.value.cure.split()[4])
    assert refusal.value.cure == f"ask for at least {needed} tokens, or fewer needles"
    assert len(build(corpus, WordEncoder(), needed).ids) == needed
    with pytest.raises(SpecError, match="leave no room"):
        build(corpus, WordEncoder(), needed - 1)


def test_a_single_token_is_possible_without_needles() -> None:
    assert len(build(numbered_words(5, 5), WordEncoder(), 1, needles=0).ids) == 1


def test_long_words_make_the_text_fetched_grow_until_it_is_enough() -> None:
    line = " ".join(["incomprehensibilities" * 3] * 4) + "\n"
    encode = WordEncoder()
    prompt = build(make_corpus(line * 400), encode, 1000, needles=0)
    assert len(prompt.ids) == 1000
    assert encode.decode(prompt.ids[:4]) == line.split()


def test_no_state_of_the_global_random_generator_is_used() -> None:
    corpus = numbered_words(300, 5)
    random.seed(1)
    first = build(corpus, encode_bpe, 300)
    random.seed(2)
    assert build(corpus, encode_bpe, 300) == first
