from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.prompts.corpora_for_tests import prepared

from leadline.errors import SpecError
from leadline.prompts import shared as module
from leadline.prompts.disjoint import draw_disjoint
from leadline.prompts.shared import (
    CHANCE_TOKENS,
    SharedPrefix,
    bound_hits,
    draw_shared,
    expect_hits,
    plan_hits,
    share_for_rate,
)


def count_naively(prompts: list[list[int]], block: int) -> list[int]:
    """Block by block against all prompts before."""
    found = []
    for number, prompt in enumerate(prompts):
        cached = 0
        while cached + block < len(prompt) and any(
            earlier[: cached + block] == prompt[: cached + block] for earlier in prompts[:number]
        ):
            cached += block
        found.append(cached)
    return found


@given(
    st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=30), min_size=1, max_size=12),
    st.integers(1, 5),
    st.integers(1, 7),
)
def test_hits_are_whole_blocks_of_the_longest_prefix_seen_but_never_the_last_token(
    prompts: list[list[int]], block: int, chunk: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK_TOKENS", chunk)
        found = expect_hits(prompts, block)
    assert list(found.cached_tokens) == count_naively(prompts, block)
    total = Fraction(sum(found.cached_tokens), sum(map(len, prompts)))
    assert found.rate == total


@given(
    st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=12), min_size=2, max_size=8),
    st.integers(1, 4),
    st.integers(0, 2),
)
def test_the_order_of_sending_moves_hits_only_between_their_bounds(
    prompts: list[list[int]], block: int, added: int
) -> None:
    first, *others = [np.array(prompt, np.uint32) for prompt in prompts]
    _, *bounds = bound_hits([first, *others], [None, *[first] * len(others)], block, added)
    front = [9] * added
    whole = [[*front, *prompt] for prompt in prompts]
    for order in (range(1, len(whole)), range(len(whole) - 1, 0, -1)):
        found = count_naively([whole[0], *(whole[n] for n in order)], block)[1:]
        for number, cached in zip(order, found, strict=True):
            least, most = bounds[number - 1]
            assert least <= cached <= most
    for prompt, (least, _) in zip(whole[1:], bounds, strict=True):
        assert least == count_naively([whole[0], prompt], block)[1]


@given(
    st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=12), min_size=2, max_size=8),
    st.integers(1, 8),
    st.integers(1, 4),
    st.integers(0, 2),
)
def test_a_cache_of_the_prompt_before_alone_finds_what_is_shared_on_purpose(
    own: list[list[int]], shared: int, block: int, added: int
) -> None:
    """As a slot of llama.cpp: what two prompts share by chance was forgotten in between."""
    first, *others = [np.array([9] * shared + tokens, np.uint32) for tokens in own]
    before = [None, *[first[:shared]] * len(others)]
    _, *bounds = bound_hits([first, *others], before, block, added)
    whole = [[8] * added + list(prompt) for prompt in (first, *others)]
    for (earlier, prompt), (least, most) in zip(pairwise(whole), bounds, strict=True):
        assert least <= count_naively([earlier, prompt], block)[1] <= most
    assert [least for least, _ in bounds] == [
        min(shared + added, len(prompt) - 1) // block * block for prompt in whole[1:]
    ]


@pytest.mark.parametrize(("block", "most"), [(1, CHANCE_TOKENS), (16, 0)])
def test_a_prompt_may_begin_like_one_that_nobody_here_knows(block: int, most: int) -> None:
    alone = np.arange(100, dtype=np.uint32)
    assert bound_hits([alone], [None], block) == [(0, most)]


@pytest.mark.parametrize(("tokens", "share"), [(600, None), (None, Fraction(1, 3)), (None, 0.0)])
@pytest.mark.parametrize("block", [1, 16, 128])
def test_what_is_drawn_is_hit_as_planned(
    tokens: int | None, share: Fraction | None, block: int
) -> None:
    corpus, tokenizer = prepared("llama3")
    lengths = [900, 2000, 1500, 3000, 1200, 1000, 850, 2500]
    prefix = SharedPrefix(tokens, share, groups=3)
    drawn = draw_shared(corpus, tokenizer.encode, lengths, prefix, "s", needles=2)
    prompts = [item.as_ids() for item in drawn]
    assert [len(prompt.ids) for prompt in prompts] == lengths
    found = expect_hits([prompt.ids for prompt in prompts], block)
    planned = plan_hits(lengths, prefix, block)
    assert found.cached_tokens[:3] == planned.cached_tokens[:3] == (0, 0, 0)
    # A prefix that is a share ends at a cut, a few tokens before; by chance one more is the same.
    slack = block + 12
    for actual, expected in zip(found.cached_tokens, planned.cached_tokens, strict=True):
        assert abs(actual - expected) <= (slack if share else block)
    for item in drawn:
        prompt = item.as_text(tokenizer.encode)
        assert prompt is not None
        assert prompt.text is not None
        assert tokenizer.encode(prompt.text) == np.asarray(prompt.ids).tolist()
        assert len(prompt.needles) == 2


def test_a_prefix_in_tokens_is_hit_exactly() -> None:
    corpus, tokenizer = prepared("gpt2")
    prefix = SharedPrefix(tokens=1024, groups=2)
    drawn = draw_shared(corpus, tokenizer.encode, [1500] * 10, prefix, "s")
    found = expect_hits([item.as_ids().ids for item in drawn], 16)
    assert found == plan_hits([1500] * 10, prefix, 16)
    assert found.rate == Fraction(8 * 1024, 10 * 1500)


def test_prompts_without_overlap_are_cold() -> None:
    corpus, tokenizer = prepared("gpt2")
    drawn = draw_disjoint(corpus, tokenizer.encode, [400] * 60, "s")
    assert set(expect_hits([item.as_ids().ids for item in drawn], 16).cached_tokens) == {0}


@settings(max_examples=60)
@given(
    st.lists(st.integers(100, 5000), min_size=6, max_size=30),
    st.fractions(0, Fraction(6, 10), max_denominator=100),
    st.sampled_from([1, 16, 64]),
    st.integers(1, 2),
)
def test_a_rate_is_reached_by_the_smallest_share(
    lengths: list[int], rate: Fraction, block: int, groups: int
) -> None:
    try:
        found = share_for_rate(lengths, rate, block, groups=groups)
    except SpecError as refusal:
        assert "cannot be reached" in refusal.what  # noqa: PT017
        most = SharedPrefix(share=Fraction(1), groups=groups)
        assert plan_hits(lengths, most, block).rate < rate
        return
    assert plan_hits(lengths, found, block).rate >= rate
    assert found.share is not None
    if found.share:
        less = SharedPrefix(share=found.share - Fraction(1, max(lengths)), groups=groups)
        assert plan_hits(lengths, less, block).rate < rate


def test_prefixes_sent_before_are_hit_from_the_first_prompt_on() -> None:
    found = plan_hits([1000, 1000], SharedPrefix(tokens=500, groups=2), 16, warmed=True)
    assert found.cached_tokens == (496, 496)
    assert plan_hits([1000], SharedPrefix(share=1.0), 16, warmed=True).cached_tokens == (992,)


def test_a_prefix_as_long_as_a_prompt_is_refused() -> None:
    with pytest.raises(SpecError, match="leaves nothing of a prompt of 300"):
        plan_hits([900, 300], SharedPrefix(tokens=300), 16)
