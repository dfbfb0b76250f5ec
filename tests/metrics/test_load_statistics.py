from __future__ import annotations

import pytest
from tests.factory import MS, make_clock, make_events, make_exchange, make_record

from leadline.metrics.load_statistics import Answer, describe_load, summarise_trials
from leadline.metrics.measures import measure


def answer(number: int, start_ms: float, took_ms: float = 1000, *, sound: bool = True) -> Answer:
    """Three tokens: after a tenth of the time, half way, and at the end."""
    at = [start_ms + took_ms * share for share in (0.1, 0.5, 1.0)]
    clock = make_clock(start_ms + took_ms).model_copy(update={"start_ns": int(start_ms * MS)})
    events = make_events(*((ms, "x", n) for n, ms in enumerate(at, start=1)))
    record = make_record(make_exchange(clock=clock, events=events), trial=number)
    return Answer(record=record, measures=measure(record.exchange) if sound else None, good=sound)


def two_users(each: int) -> list[Answer]:
    return [answer(n, 1000 * (n // 2)) for n in range(2 * each)]


def test_all_measures_are_summarised_by_request() -> None:
    found = describe_load(two_users(20), has_goals=False)
    assert set(found.times) == {"ttft_s", "itl_s", "chunk_gaps_s", "tpot_s", "e2e_s"}
    assert found.times["ttft_s"].p50.value == pytest.approx(0.1)
    assert (found.times["itl_s"].n, found.times["itl_s"].groups) == (80, 40)
    assert found.goodput_per_s is None


def test_an_unanswered_request_is_under_way_but_has_no_times() -> None:
    answers = [*two_users(20)[:-1], answer(39, 19_000, sound=False)]
    found = describe_load(answers, has_goals=True)
    assert found.times["ttft_s"].n == 39
    assert found.goodput_per_s is not None
    assert found.goodput_per_s.value == pytest.approx(39 / 20)
    assert found.steady.in_flight == pytest.approx(2)


def test_rates_of_the_steady_window() -> None:
    found = describe_load(two_users(20), has_goals=False)
    assert found.steady.length_s == pytest.approx(20)
    assert found.steady_requests_per_s == pytest.approx(2)
    assert found.steady_output_tokens_per_s == pytest.approx(6)
    assert found.steady_times["e2e_s"].n == 40


def test_a_short_run_says_that_there_is_no_steady_state() -> None:
    found = describe_load(two_users(2), has_goals=False)
    assert found.steady.absent
    assert found.steady_times == {}
    assert found.steady_requests_per_s is None


def test_an_outlier_is_named_and_still_counted() -> None:
    answers = [answer(n, 1000 * n, 900 + n) for n in range(30)] + [answer(30, 30_000, 9000)]
    found = describe_load(answers, has_goals=False)
    assert {(x.measure, x.request) for x in found.outliers} == {
        ("ttft_s", 30), ("tpot_s", 30), ("e2e_s", 30), ("longest_gap_s", 30)
    }  # fmt: skip
    assert found.times["e2e_s"].high == pytest.approx(9)


def test_nothing_sent_has_no_statistics() -> None:
    found = describe_load([], has_goals=True)
    assert found.times == {}
    assert found.goodput_per_s is None
    assert found.steady.absent == "no request was sent"


def test_over_trials_each_trial_is_one_group() -> None:
    trials = [[answer(n, 0).measures for n in range(5)] for _ in range(7)]
    found = summarise_trials([[m for m in trial if m] for trial in trials])["ttft_s"]
    assert (found.n, found.groups) == (35, 7)
    assert found.p50.low is not None
