from __future__ import annotations

import asyncio
import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.prompts.tokenizers_for_tests import KINDS, real_text, train
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from leadline.errors import SpecError
from leadline.prompts import tokenizer as module
from leadline.prompts.tokenizer import load_tokenizer, text_blocks


def word_tokenizer() -> Tokenizer:
    """Three words and a start token that it would add if it were let."""
    vocabulary = {"<s>": 0, "deep": 1, "blue": 2, "sea": 3, "[UNK]": 4}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    return tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    word_tokenizer().save(str(tmp_path / "tokenizer.json"))
    return tmp_path


@pytest.mark.parametrize("name", ["", "tokenizer.json"])
def test_a_folder_or_its_file_encodes_without_special_tokens(folder: Path, name: str) -> None:
    encode = load_tokenizer(str(folder / name))
    assert asyncio.run(encode("deep blue sea")) == [1, 2, 3]
    assert asyncio.run(encode("")) == []


def test_a_long_text_is_encoded_in_blocks_to_the_same_ids(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = load_tokenizer(str(folder))
    text = "deep blue sea\n" * 50
    whole = asyncio.run(encode(text))
    sizes: list[int] = []

    def blocks(text: str) -> list[str]:
        found = text_blocks(text, size=100)
        sizes.extend(map(len, found))
        return found

    monkeypatch.setattr(module, "text_blocks", blocks)
    assert asyncio.run(encode(text)) == whole == [1, 2, 3] * 50
    assert len(sizes) == 8


def test_a_missing_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as refusal:
        load_tokenizer(str(tmp_path))
    assert str(refusal.value) == (
        f"{tmp_path}: no tokenizer.json there\n"
        "  cure: give the model's folder or its tokenizer.json"
    )


def test_a_damaged_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(SpecError, match="not a tokenizer: ") as refusal:
        load_tokenizer(str(tmp_path))
    assert refusal.value.where == str(tmp_path / "tokenizer.json")


@given(st.text(alphabet="ab\n ", max_size=300), st.integers(1, 50))
def test_blocks_are_the_text_and_never_longer_than_asked(text: str, size: int) -> None:
    blocks = text_blocks(text, size)
    assert "".join(blocks) == text
    assert all(0 < len(block) <= size for block in blocks)


@given(st.lists(st.sampled_from(["deep", "blue", "sea.", "\n"]), min_size=9), st.integers(40, 60))
def test_blocks_end_before_a_word_where_there_is_one(words: list[str], size: int) -> None:
    blocks = text_blocks(" ".join(words), size)
    for block, after in pairwise(blocks):
        if re.search(r"[a-z] [a-z]", block):
            assert re.match(r"[a-z]", block[-1])
            assert re.match(r" [a-z]", after)


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_of_real_text_give_the_ids_of_the_whole(kind: str) -> None:
    text = real_text()[:30_000].replace("\n", "\n\n")
    parts = [train(kind).encode(block).ids for block in text_blocks(text, 700)]
    assert len(parts) > 40
    assert [number for part in parts for number in part] == train(kind).encode(text).ids
