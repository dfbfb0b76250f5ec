"""A replayed trace is hit by a cache as its hashes say, block for block."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.prompts.corpora_for_tests import prepared

from leadline.errors import SpecError
from leadline.prompts.replay import draw_replay
from leadline.prompts.shared import expect_hits
from leadline.prompts.slices import Slice
from leadline.prompts.trace import TraceLine

BLOCK = 32


@st.composite
def days(draw: st.DrawFn, block: int = BLOCK) -> list[TraceLine]:
    """Requests that go on from the prefix of an earlier one, as conversations do."""
    lines: list[TraceLine] = []
    new = iter(range(1000))
    for _ in range(draw(st.integers(1, 12))):
        before = draw(st.sampled_from(lines)).hash_ids if lines and draw(st.booleans()) else ()
        kept = before[: draw(st.integers(0, len(before)))]
        ids = (*kept, *(next(new) for _ in range(draw(st.integers(1, 4)))))
        tokens = block * len(ids) - draw(st.integers(0, block - 1))
        lines.append(TraceLine(0, tokens, 1, ids))
    return lines


def hits_by_hash(lines: list[TraceLine], block: int = BLOCK) -> list[int]:
    """From the hashes alone: whole blocks that began an earlier request too."""
    found = []
    seen: set[tuple[int, ...]] = set()
    for line in lines:
        whole = (line.input_tokens - 1) // block
        prefixes = [line.hash_ids[: n + 1] for n in range(len(line.hash_ids))]
        cached = next((n for n in range(whole) if prefixes[n] not in seen), whole)
        found.append(cached * block)
        full = line.input_tokens // block
        seen.update(prefixes[:full])
    return found


def ids_of(drawn: list[Slice]) -> list[list[int]]:
    return [np.asarray(item.as_ids().ids).tolist() for item in drawn]


@settings(max_examples=80)
@given(days())
def test_a_cache_finds_what_the_hashes_say(lines: list[TraceLine]) -> None:
    corpus, tokenizer = prepared("llama3")
    drawn, is_disjoint = draw_replay(corpus, tokenizer.encode, lines, BLOCK, "s")
    assert is_disjoint
    prompts = ids_of(drawn)
    assert [len(ids) for ids in prompts] == [line.input_tokens for line in lines]
    assert list(expect_hits(prompts, BLOCK).cached_tokens) == hits_by_hash(lines)


def test_equal_hashes_are_equal_tokens_and_the_text_has_the_very_ids() -> None:
    corpus, tokenizer = prepared("llama3")
    lines = [
        TraceLine(0, 3 * 512 + 100, 1, (0, 1, 2, 3)),
        TraceLine(1, 2 * 512 + 77, 1, (0, 1, 9)),
        TraceLine(2, 700, 1),
    ]
    drawn, _ = draw_replay(corpus, tokenizer.encode, lines, 512, "s")
    first, second, alone = ids_of(drawn)
    assert first[:1024] == second[:1024]
    assert first[1024:1040] != second[1024:1040]
    assert len(alone) == 700
    for item, ids in zip(drawn, (first, second, alone), strict=True):
        prompt = item.as_text(tokenizer.encode)
        assert prompt is not None
        assert prompt.text is not None
        assert tokenizer.huggingface.encode(prompt.text, add_special_tokens=False).ids == ids


@pytest.mark.parametrize("kind", ["llama3", "bytes"])
@settings(max_examples=40)
@given(lines=days(128), before_tokens=st.integers(0, 3))
def test_every_prompt_has_its_text_wherever_it_ends_in_a_block(
    kind: str, lines: list[TraceLine], before_tokens: int
) -> None:
    """Also where another prompt has more of that block, and the server puts tokens before all."""
    corpus, tokenizer = prepared(kind)
    shorter = (line._replace(input_tokens=line.input_tokens - 1) for line in lines)
    lines = [line for line in (*lines, *shorter) if line.input_tokens > 40]
    drawn, _ = draw_replay(
        corpus, tokenizer.encode, lines, 128, "s", before_tokens=before_tokens, as_text=True
    )
    found = []
    for item, line in zip(drawn, lines, strict=True):
        prompt = item.as_text(tokenizer.encode)
        assert prompt is not None
        assert prompt.text is not None
        ids = tokenizer.huggingface.encode(prompt.text, add_special_tokens=False).ids
        assert ids == np.asarray(prompt.ids).tolist()
        found.append([0] * before_tokens + ids)
        assert len(found[-1]) == line.input_tokens
    cached = expect_hits(found, 32).cached_tokens
    for hit, best in zip(cached, hits_by_hash(lines, 128), strict=True):
        # The last 32 to 95 tokens of either may be its own, and a hit is of whole 32.
        assert best - 128 <= hit <= best + 128


def test_another_seed_is_another_replay_and_the_same_one_is_the_same() -> None:
    corpus, tokenizer = prepared("llama3")
    lines = [TraceLine(0, 100, 1, (0, 1, 2, 3))]
    once, again, other = (
        ids_of(draw_replay(corpus, tokenizer.encode, lines, BLOCK, seed)[0]) for seed in "aab"
    )
    assert once == again != other


def test_a_short_corpus_gives_blocks_that_no_prefix_cache_confuses() -> None:
    corpus, tokenizer = prepared("llama3", 30_000)
    held = len(corpus.ids)
    count = 3 * held // 512
    lines = [TraceLine(n, 600, 1, (n, count + n)) for n in range(count)]
    lines += [lines[0], lines[1]]
    drawn, is_disjoint = draw_replay(corpus, tokenizer.encode, lines, 512, "s")
    assert not is_disjoint
    cached = expect_hits(ids_of(drawn), 512).cached_tokens
    assert cached == (*[0] * count, 512, 512)


def test_a_corpus_shorter_than_a_block_says_what_is_missing() -> None:
    corpus, tokenizer = prepared("llama3", 1_000)
    lines = [TraceLine(0, 512 * 3, 1, (0, 1, 2))]
    with pytest.raises(SpecError, match="are missing; text is never repeated"):
        draw_replay(corpus, tokenizer.encode, lines, 512, "s")
