from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadline.plan.neuron_buckets import (
    Buckets,
    count_tiles,
    double_buckets,
    list_buckets,
    prune_buckets,
)
from leadline.plan.neuron_settings import read_buckets

LENGTHS = st.integers(128, 2**20)


@pytest.mark.parametrize(
    ("least", "most", "expected"),
    [
        (128, 1024, (128, 256, 512, 1024)),
        (128, 128, (128,)),
        (128, 513, (128, 256, 513)),
        (128, 510, (128, 256, 510)),
        (512, 600, (600,)),
        (128, 98_304, (128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 98_304)),
        (512, 256, (256,)),
    ],
)
def test_lists_are_nxdis(least: int, most: int, expected: tuple[int, ...]) -> None:
    assert list_buckets(least, most) == expected


@pytest.mark.parametrize(
    ("tokens", "plain", "cached"),
    [(8192, 14, 36), (16384, 16, 49), (32768, 18, 64), (65536, 20, 81), (131_072, 22, 100)],
)
def test_graph_counts(tokens: int, plain: int, cached: int) -> None:
    assert read_buckets({}, tokens, tokens, caching=False).graphs == plain
    assert read_buckets({}, tokens, tokens, caching=True).graphs == cached


def test_the_tutorials_lists_make_25_graphs() -> None:
    override = {
        "context_encoding_buckets": [512, 1024, 2048, 4096, 8192],
        "prefix_buckets": [512, 1024, 2048],
        "token_generation_buckets": [512, 1024, 2048, 4096, 8192],
    }
    assert read_buckets(override, 8192, 8192, caching=True).graphs == 25


def test_prefix_buckets_alone_are_not_read() -> None:
    alone = read_buckets({"prefix_buckets": [512]}, 8192, 8192, caching=True)
    assert alone == read_buckets({}, 8192, 8192, caching=True)


def test_no_bucketing_is_one_length_each() -> None:
    override = {"enable_bucketing": False}
    assert read_buckets(override, 4096, 8192, caching=False).graphs == 2
    assert read_buckets(override, 4096, 8192, caching=True) == Buckets((4096,), (0, 4096), (8192,))


@given(least=LENGTHS, most=LENGTHS)
def test_lists_ascend_to_the_longest(*, least: int, most: int) -> None:
    buckets = list_buckets(least, most)
    assert buckets[-1] == most
    assert list(buckets) == sorted(set(buckets))
    doubled = double_buckets(least, most)
    assert doubled[-1] == most
    assert list(doubled) == sorted(set(doubled))


@given(most=LENGTHS, allowed=st.integers(1, 120), caching=st.booleans())
def test_pruned_lists_fit_and_keep_the_longest(*, most: int, allowed: int, caching: bool) -> None:
    buckets = read_buckets({}, most, most, caching=caching)
    pruned = prune_buckets(buckets, allowed)
    if pruned is None:
        assert allowed < 3
        return
    assert pruned.graphs <= min(allowed, buckets.graphs)
    assert pruned.context[-1] == pruned.decode[-1] == most
    assert pruned.cached[:1] == buckets.cached[:1]
    assert set(pruned.context) <= set(buckets.context)


@given(new=st.integers(9, 17), cached=st.integers(9, 17))
def test_tiles_grow_with_both_lengths(*, new: int, cached: int) -> None:
    tiles = count_tiles(2**new, 2**cached, 128, 512)
    assert tiles <= count_tiles(2 ** (new + 1), 2**cached, 128, 512)
    assert tiles <= count_tiles(2**new, 2 ** (cached + 1), 128, 512)
