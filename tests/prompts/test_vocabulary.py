from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.prompts.corpora_for_tests import prepared
from tests.prompts.tokenizers_for_tests import KINDS, real_text, save

from leadline.prompts.corpus import find_corpora
from leadline.prompts.encoders import read_plain_bpe
from leadline.prompts.needles import NAMED, draw_needles, question
from leadline.prompts.slices import draw_slice
from leadline.prompts.token_corpus import open_token_corpus
from leadline.prompts.tokenizer import LocalTokenizer
from leadline.prompts.vocabulary import Vocabulary, pack_vocabulary, prove_vocabulary


def fail(text: str) -> list[int]:
    raise AssertionError(f"the tokenizer was asked for {text[:50]!r}")


def make(kind: str) -> tuple[Vocabulary, LocalTokenizer]:
    _, tokenizer = prepared(kind)
    bpe = read_plain_bpe(orjson.loads(tokenizer.huggingface.to_str()), "")
    assert bpe is not None
    return Vocabulary(pack_vocabulary(bpe.ranks), bpe.pattern, fail), tokenizer


@pytest.mark.parametrize("kind", KINDS)
@given(st.integers(0, 2**32), st.integers(0, NAMED))
def test_needles_and_questions_get_the_tokenizers_ids(kind: str, seed: int, count: int) -> None:
    vocabulary, tokenizer = make(kind)
    hidden = draw_needles(random.Random(seed), count)  # noqa: S311
    for text in [*(needle.statement for needle in hidden), question(hidden)]:
        assert vocabulary(text) == tokenizer.encode(text)


@pytest.mark.parametrize("kind", KINDS)
@given(st.integers(0, 299_000), st.integers(0, 500))
def test_words_of_the_text_get_the_tokenizers_ids(kind: str, start: int, chars: int) -> None:
    vocabulary, tokenizer = make(kind)
    text = real_text()[start : start + chars]
    assert vocabulary(text) == tokenizer.encode(text)


@pytest.mark.parametrize("text", ["x" * 33, "a\0b"])
def test_what_it_cannot_do_is_left_to_the_tokenizer(text: str) -> None:
    vocabulary, _ = make("llama3")
    with pytest.raises(AssertionError, match="the tokenizer was asked for"):
        vocabulary(text)


def test_one_wrong_id_disproves_it() -> None:
    _, tokenizer = prepared("llama3")
    bpe = read_plain_bpe(orjson.loads(tokenizer.huggingface.to_str()), "")
    assert bpe is not None
    arrays = pack_vocabulary(bpe.ranks)
    vocabulary = Vocabulary(arrays, bpe.pattern, tokenizer.encode)
    assert prove_vocabulary(vocabulary, tokenizer.encode, real_text()[:50_000])
    words = arrays["words"].tolist()
    arrays["word_ids"][words.index(b"9")] += 1
    wrong = Vocabulary(arrays, bpe.pattern, tokenizer.encode)
    assert not prove_vocabulary(wrong, tokenizer.encode, real_text()[:50_000])


@pytest.mark.parametrize("kind", [*KINDS, "lines"])
def test_prompts_of_a_cached_corpus_need_no_tokenizer(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEADLINE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "text.txt").write_text(real_text(), "utf-8")
    tokenizer = save(kind, tmp_path)
    files = find_corpora(str(tmp_path / "text.txt"))
    first = open_token_corpus(files, tokenizer)
    unread = LocalTokenizer(str(tmp_path))
    corpus = open_token_corpus(files, unread)
    encode = corpus.encoder(unread)
    found = draw_slice(corpus, encode, 3000, "s", 16)
    text = found.as_text(encode)
    assert (text is not None) is (kind != "lines")
    assert ("huggingface" in vars(unread)) is (kind == "lines")
    expected = draw_slice(first, tokenizer.encode, 3000, "s", 16)
    assert np.array_equal(found.as_ids().ids, expected.as_ids().ids)
