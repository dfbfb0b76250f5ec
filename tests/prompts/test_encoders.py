from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tests.prompts.tokenizers_for_tests import KINDS, real_text, save

from leadline.prompts import encoders
from leadline.prompts.cuts import TokenIds
from leadline.prompts.encoders import choose_encoder, encode_huggingface


@pytest.mark.parametrize("kind", KINDS)
def test_the_fast_encoder_is_chosen_and_gives_the_true_ids(kind: str, tmp_path: Path) -> None:
    tokenizer = save(kind, tmp_path)
    text = real_text()
    encoder = choose_encoder(tokenizer, text, [text[:5000], text[9000:12_000]])
    assert encoder.name == "tiktoken"
    for found, true in zip(
        encoder.encode([text, "", "x"]), encode_huggingface(tokenizer, [text, "", "x"]), strict=True
    ):
        assert found.dtype == np.uint32
        assert np.array_equal(found, true)


def test_one_wrong_id_in_the_sample_and_the_real_tokenizer_does_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = save("gpt2", tmp_path)

    def wrong(texts: Sequence[str]) -> list[TokenIds]:
        found = encode_huggingface(tokenizer, texts)
        found[-1][-1] += 1
        return found

    monkeypatch.setitem(encoders.FAST_ENCODERS, "tiktoken", lambda *_: wrong)
    encoder = choose_encoder(tokenizer, "", ["deep blue", "sea"])
    assert encoder.name == "tokenizers"


def test_a_special_token_in_the_text_needs_the_real_tokenizer(tmp_path: Path) -> None:
    tokenizer = save("llama3", tmp_path)
    text = "deep <|end|> blue"
    encoder = choose_encoder(tokenizer, text, ["deep"])
    assert encoder.name == "tokenizers"
    assert tokenizer.huggingface.token_to_id("<|end|>") in encoder.encode([text])[0]
    assert choose_encoder(tokenizer, "deep <|en blue", ["deep"]).name == "tiktoken"


def test_an_unknown_way_to_split_needs_the_real_tokenizer(tmp_path: Path) -> None:
    assert choose_encoder(save("lines", tmp_path), "x", ["x"]).name == "tokenizers"
