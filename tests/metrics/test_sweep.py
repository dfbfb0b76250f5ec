"""Which load comes next, and what may be said of all of them: on servers of known capacity."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.factory import make_exchange, make_record

from leadline.metrics.load_verdict import LoadVerdict, judge_load
from leadline.metrics.sweep import SweepStep, judge_sweep, next_level
from leadline.records import Strain
from leadline.spec import Goals, Levels, Load, RateRange, Sweep, UserRange

CALM = Strain(wall_s=1, cpu_share=0.1, lag_p99_s=0, lag_max_s=0)


def make_step(level: float, good: int, throughput: float = 1.0, of: int = 100) -> SweepStep:
    load = Load(users=max(1, int(level)), goals=Goals(ttft_s=1))
    empty = judge_load([], load, of, CALM)
    found = {"status": "pass", "good": good, "answered": of, "output_tokens_per_s": throughput}
    return SweepStep(level=level, load=LoadVerdict(**{**dict(empty), **found}))


def search(levels: Levels, capacity: float) -> list[SweepStep]:
    """All steps on a server that keeps its goals up to ``capacity``."""
    steps: list[SweepStep] = []
    while (level := next_level(levels, steps)) is not None:
        steps.append(make_step(level, 100 if level <= capacity else 50, min(level, capacity)))
        assert len(steps) < 60
    return steps


@given(st.integers(1, 500), st.integers(1, 2000))
def test_users_are_found_within_a_tenth_of_the_truth(high: int, capacity: int) -> None:
    levels = UserRange(low=1, high=high)
    found = judge_sweep(Sweep(users=levels), search(levels, capacity))
    assert found.largest is not None
    if capacity >= high:
        assert (found.largest, found.next_failing) == (high, None)
    else:
        assert found.next_failing is not None
        assert found.largest <= capacity < found.next_failing
        assert found.next_failing - found.largest <= max(1, 0.1 * found.largest)


@given(st.floats(0.1, 900))
def test_rates_are_found_within_a_tenth_of_the_truth(capacity: float) -> None:
    levels = RateRange(low=0.1, high=1000)
    found = judge_sweep(Sweep(rate=levels), search(levels, capacity))
    assert found.largest is not None
    assert found.next_failing is not None
    assert found.largest <= capacity < found.next_failing <= found.largest * 1.1001


def test_it_doubles_and_then_bisects() -> None:
    assert [step.level for step in search(UserRange(low=1, high=64), 21)] == [
        1, 2, 4, 8, 16, 32, 24, 20, 22
    ]  # fmt: skip


def test_a_list_is_measured_as_it_stands() -> None:
    assert [step.level for step in search((1, 8, 50), 4)] == [1, 8, 50]


def test_nothing_is_claimed_where_the_smallest_load_fails() -> None:
    steps = search(UserRange(low=4, high=64), 2)
    found = judge_sweep(Sweep(users=UserRange(low=4, high=64)), steps)
    assert [step.level for step in steps] == [4]
    assert (found.largest, found.next_failing) == (None, 4)
    assert found.chosen == steps[0].load


def test_a_pass_above_a_failure_is_not_the_largest() -> None:
    steps = [make_step(1, 100), make_step(2, 10), make_step(4, 100)]
    found = judge_sweep(Sweep(users=(1, 2, 4)), steps)
    assert (found.largest, found.next_failing) == (1, 2)


@pytest.mark.parametrize(
    ("throughputs", "saturated_at"),
    [
        ((1.0, 2.0, 4.0), None),  # may still grow
        ((1.0, 2.0, 2.05), 2),
        ((1.0, 2.0, 1.5), 2),
        ((5.0, 2.0, 1.5), 1),
    ],
)
def test_saturation_is_the_first_load_that_no_larger_one_exceeds(
    throughputs: tuple[float, ...], saturated_at: float | None
) -> None:
    steps = [make_step(2**n, 100, rate) for n, rate in enumerate(throughputs)]
    assert judge_sweep(Sweep(users=(1, 2, 4)), steps).saturated_at == saturated_at


def test_without_goals_doubling_ends_at_saturation() -> None:
    steps: list[SweepStep] = []
    while (level := next_level(UserRange(low=1, high=1024), steps)) is not None:
        step = make_step(level, 100, min(level, 6))
        bare = step.load.model_copy(update={"load": Load(users=int(level))})
        steps.append(step.model_copy(update={"load": bare}))
    assert [step.level for step in steps] == [1, 2, 4, 8, 16]


def test_a_step_passes_by_the_share_of_all_that_were_asked_for() -> None:
    assert make_step(1, 99).passes
    assert not make_step(1, 98).passes
    calm = make_step(1, 100)
    busy = calm.load.model_copy(update={"status": "inconclusive"})
    assert not calm.model_copy(update={"load": busy}).passes


# --- what a step is judged by ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("goals", "good"),
    [
        ({}, 1),
        ({"ttft_s": 0.11}, 1),
        ({"ttft_s": 0.09}, 0),
        ({"itl_s": 0.051}, 1),
        ({"itl_s": 0.049}, 0),
        ({"e2e_s": 0.21, "ttft_s": 0.11}, 1),
        ({"e2e_s": 0.19, "ttft_s": 0.11}, 0),
    ],
)
def test_a_request_is_good_within_all_goals(goals: dict[str, float], good: int) -> None:
    """First token after 100 ms, two more 50 ms apart."""
    load = Load(users=1, goals=Goals(**goals))
    record = make_record(make_exchange(), purpose="load", step=1)
    found = judge_load([record], load, 2, CALM)
    assert (found.good, found.good_share) == (good, good / 2)
    assert (found.goodput_per_s is None) == (not goals)


def test_a_growing_queue_shows_in_an_open_loop_only() -> None:
    def sent(number: int) -> object:
        events = [(100 * (number + 1), "a", 1), (100 * (number + 1) + 5, "b", 3)]
        exchange = make_exchange(events=[(int(ms * 1e6), text, n) for ms, text, n in events])
        return make_record(exchange, purpose="load", trial=number)

    records = [sent(number) for number in range(9)]
    found = judge_load(records, Load(rate=1), 9, CALM)  # type: ignore[arg-type]
    assert found.ttft_growth == pytest.approx(8 / 2)
    closed = judge_load(records, Load(users=1), 9, CALM)  # type: ignore[arg-type]
    assert closed.ttft_growth is None
