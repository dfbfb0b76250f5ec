from __future__ import annotations

from pathlib import Path
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadline.errors import SpecError
from leadline.prompts.lengths import (
    LognormalLengths,
    UniformLengths,
    draw_lengths,
    parse_lengths,
)


def test_a_list_is_taken_in_turn() -> None:
    assert draw_lengths(parse_lengths("10k, 2M,7"), 5, "s") == [
        10_000,
        2_097_152,
        7,
        10_000,
        2_097_152,
    ]
    assert draw_lengths(parse_lengths("4096"), 2, "s") == [4096, 4096]


@given(st.integers(1, 5000), st.integers(0, 5000), st.text("abc"), st.floats(0.01, 5))
def test_no_length_leaves_the_limits(low: int, more: int, seed: str, sigma: float) -> None:
    for lengths in (
        UniformLengths(low, low + more),
        LognormalLengths(2500, sigma, low, low + more),
    ):
        drawn = draw_lengths(lengths, 50, seed)
        assert all(low <= tokens <= low + more for tokens in drawn)
        assert draw_lengths(lengths, 20, seed) == drawn[:20]


def test_a_uniform_distribution_reaches_both_ends_alike() -> None:
    drawn = draw_lengths(parse_lengths("uniform:3..6"), 4000, "s")
    assert all(900 < drawn.count(tokens) < 1100 for tokens in (3, 4, 5, 6))


def test_a_lognormal_distribution_has_its_median_and_is_not_clipped() -> None:
    drawn = draw_lengths(parse_lengths("lognormal:100k,0.8:10k..2M"), 4000, "s")
    assert 95_000 < median(drawn) < 105_000
    above = sum(tokens > 100_000 * 2.2255 for tokens in drawn)  # one sigma
    assert 0.14 < above / 4000 < 0.18
    narrow = draw_lengths(LognormalLengths(100, 1, 90, 110), 4000, "s")
    assert narrow.count(90) < 300
    assert narrow.count(110) < 300


def test_limits_far_out_in_a_tail_still_hold() -> None:
    assert set(draw_lengths(LognormalLengths(10, 0.01, 10**6, 10**6 + 5), 50, "s")) <= set(
        range(10**6, 10**6 + 6)
    )


def test_a_trace_gives_its_own_lengths(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text('{"input_length": 7}\n\n{"ContextTokens": 5}\n{"input_tokens": 9}\n', "utf-8")
    assert draw_lengths(parse_lengths(f"trace:{path}"), 4, "s") == [7, 5, 9, 7]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "not a token count"),
        ("10k,x", "not a token count"),
        ("normal:1..2", "'normal' is no distribution"),
        ("uniform:10k", "the limits are missing"),
        ("uniform:10k..9k", "10,000 is above 9,000"),
        ("lognormal:10k:1..2", "could not convert"),
        ("lognormal:10k,0:1..2", "sigma must be above 0"),
        ("lognormal:10k,nan:1..2", "sigma must be above 0"),
    ],
)
def test_what_cannot_be_meant_says_what_can(text: str, what: str) -> None:
    with pytest.raises(SpecError, match=what) as refusal:
        parse_lengths(text)
    assert "uniform:10k..2M" in refusal.value.cure


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("", "the trace is empty"),
        ("{", "line 1 is not a request"),
        ("[1]", "no length of a prompt"),
        ('{"input_length": 0}', "no length of a prompt"),
        ('{"input_length": [3]}', "no length of a prompt"),
        ('{"output_length": 3}', "no length of a prompt"),
    ],
)
def test_a_trace_without_lengths_says_where(content: str, what: str, tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text(content, "utf-8")
    with pytest.raises(SpecError, match=what) as refusal:
        parse_lengths(f"trace:{path}")
    assert str(path) in refusal.value.where


def test_a_trace_that_is_not_there_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read"):
        parse_lengths(f"trace:{tmp_path / 'none'}")
