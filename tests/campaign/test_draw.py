from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadline.campaign.draw import Asked, draw_lengths, draw_requests, require_load
from leadline.errors import SpecError
from leadline.spec import Campaign, Load, Lognormal, Uniform, Workload


def lognormal(median: int, sigma: float, low: int, high: int) -> Lognormal:
    shape = {"median": median, "sigma": sigma, "low": low, "high": high}
    return Lognormal.model_validate({"lognormal": shape})


def test_a_list_is_taken_in_turn() -> None:
    assert draw_lengths((1, 5, 9), 7, "s") == [1, 5, 9, 1, 5, 9, 1]
    assert draw_lengths(4, 3, "s") == [4, 4, 4]


@given(st.integers(1, 10**7), st.integers(0, 10**6), st.text(max_size=5))
def test_uniform_lengths_are_within_their_limits(low: int, width: int, seed: str) -> None:
    drawn = draw_lengths(Uniform(uniform=(low, low + width)), 20, seed)
    assert all(low <= length <= low + width for length in drawn)
    assert drawn == draw_lengths(Uniform(uniform=(low, low + width)), 20, seed)


def test_uniform_lengths_cover_all_of_it() -> None:
    drawn = draw_lengths(Uniform(uniform=(1, 4)), 200, "7")
    assert set(drawn) == {1, 2, 3, 4}


def test_lognormal_lengths_have_their_median_and_their_spread() -> None:
    drawn = draw_lengths(lognormal(50_000, 0.5, 1, 10**7), 4000, "7")
    logs = sorted(math.log(length) for length in drawn)
    # The median's standard error is about 1.25 sigma / sqrt(n), that is 1 %.
    assert logs[2000] == pytest.approx(math.log(50_000), abs=0.05)
    within = sum(abs(value - math.log(50_000)) < 0.5 for value in logs) / 4000
    assert within == pytest.approx(0.683, abs=0.03)


def test_a_lognormal_tail_is_cut_and_not_heaped_up() -> None:
    drawn = draw_lengths(lognormal(100, 2.0, 50, 200), 1000, "7")
    assert all(50 <= length <= 200 for length in drawn)
    assert drawn.count(200) < 30
    assert drawn.count(50) < 60


def test_a_trace_gives_lengths_and_times(tmp_path: Path) -> None:
    path = tmp_path / "day.jsonl"
    lines = [{"timestamp": 1000 * n, "input_length": 9 + n, "output_length": n} for n in (1, 2, 4)]
    path.write_text("\n".join(map(json.dumps, lines)))
    load = Load(trace=str(path), requests=2)
    drawn = draw_requests(Workload(load=load), load, 0, "7")
    assert drawn == [Asked(10, 1, 0.0), Asked(11, 2, 1.0)]


def test_max_is_the_longest_that_the_server_takes() -> None:
    load = Load(users=1, requests=2)
    drawn = draw_requests(Workload(load=load), load, 4000, "7")
    assert [request.input_tokens for request in drawn] == [4000, 4000]


@pytest.mark.parametrize(
    "more", [{"shared_prefix": {"tokens": 9}}, {"turns": 3}, {"load": {"trace": "none.jsonl"}}]
)
def test_what_cannot_be_sent_is_refused_before_anything_starts(more: dict[str, object]) -> None:
    spec = {"name": "a", "deployments": {"x": {"target": "http://h:1"}}}
    campaign = Campaign.model_validate(spec | {"workload": {"load": {"users": 1}, **more}})
    with pytest.raises(SpecError) as refusal:
        require_load(next(campaign.cells()))
    assert refusal.value.cure
