from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.prompts.tokenizers_for_tests import KINDS, real_text, train

from leadline.prompts.cuts import (
    TokenIds,
    cut_blocks,
    find_cuts,
    prove_cuts,
    spell_tokens,
)

# All that splitters treat alike or not: words, runs of spaces, ends of lines, digits, accents.
SNIPPETS = st.lists(
    st.one_of(
        st.sampled_from(
            [" ", "  ", "\n", "\n\n", "\t", "\r\n", " the", "the", "'s", " don't", "12", " 345",
             ".", ",\n", " (", "é", " Größe", "“quoted” ", "日本語", "\u00a0", "🙂", "A b c "]
        ),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    ),
    max_size=60,
).map("".join)  # fmt: skip


def encode(kind: str, text: str) -> TokenIds:
    return np.asarray(train(kind).encode(text, add_special_tokens=False).ids, np.uint32)


@cache
def spelling(kind: str) -> list[bytes]:
    text = real_text()[:5000]
    return spell_tokens(train(kind).get_vocab(), text, encode(kind, text))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(text=SNIPPETS, size=st.integers(0, 40))
def test_blocks_of_any_text_encode_to_the_parts_of_its_ids(kind: str, text: str, size: int) -> None:
    blocks = cut_blocks(text, size)
    assert "".join(blocks) == text
    assert [number for block in blocks for number in encode(kind, block)] == [*encode(kind, text)]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(text=SNIPPETS)
def test_both_sides_of_every_cut_encode_to_their_share(kind: str, text: str) -> None:
    ids = encode(kind, text)
    cuts = find_cuts(text, ids, spelling(kind))
    for token, char in zip(cuts.tokens, cuts.chars, strict=True):
        assert [*encode(kind, text[:char])] == [*ids[:token]]
        assert [*encode(kind, text[char:])] == [*ids[token:]]


def test_cuts_are_all_word_ends_before_a_word() -> None:
    text = "Größe, two words\nand. Three  4 (x y)."
    cuts = find_cuts(text, encode("gpt2", text), spelling("gpt2"))
    assert [text[char:] for char in cuts.chars] == [
        " words\nand. Three  4 (x y).",
        " y).",
    ]


def test_ids_that_do_not_spell_the_text_have_no_cuts() -> None:
    ids = encode("gpt2", "a b c d")
    assert len(find_cuts("a b c d", ids, spelling("gpt2")).tokens) == 3
    assert len(find_cuts("a b c x", ids, spelling("gpt2")).tokens) == 0


@pytest.mark.parametrize(("kind", "holds"), [*((kind, True) for kind in KINDS), ("lines", False)])
def test_the_proof_tells_tokenizers_that_merge_over_words(kind: str, holds: bool) -> None:
    found = prove_cuts(lambda texts: [encode(kind, text) for text in texts], real_text()[:20_000])
    assert found is holds


def test_a_sentencepiece_vocabulary_is_spelt_by_its_own_convention() -> None:
    vocabulary = {"deep": 0, "▁blue": 1, "<0xC3>": 2, "<0x9F>": 3}
    ids = np.array([0, 1, 2, 3], np.uint32)
    assert spell_tokens(vocabulary, "deep blueß", ids) == [b"deep", b" blue", b"\xc3", b"\x9f"]
    assert spell_tokens(vocabulary, "shallow", ids) == []
