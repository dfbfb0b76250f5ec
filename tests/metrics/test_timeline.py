from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.factory import MS, make_clock, make_events, make_exchange, make_record

from leadline.metrics.timeline import find_steady, in_flight, output_ticks, rates, spans_s

SPANS = st.lists(
    st.tuples(st.floats(0, 100), st.floats(0.001, 10)).map(lambda pair: (pair[0], sum(pair))),
    min_size=1,
    max_size=60,
)


def closed_loop(users: int, each: int, took_s: float = 1.0) -> list[tuple[float, float]]:
    """Users who begin 0.1 s apart and never pause."""
    return [
        (0.1 * user + took_s * n, 0.1 * user + took_s * (n + 1))
        for user in range(users)
        for n in range(each)
    ]


def test_in_flight_counts_who_is_under_way() -> None:
    flight = in_flight([(0, 3), (1, 2), (3, 4)])
    assert list(zip(flight.at_s, flight.requests, strict=True)) == [
        (0, 1),
        (1, 2),
        (2, 1),
        (3, 0),
        (3, 1),
        (4, 0),
    ]


def test_one_that_ends_when_another_begins_makes_room_first() -> None:
    assert in_flight(closed_loop(3, 5)).requests.max() == 3


def test_the_plateau_of_a_closed_loop_is_from_the_last_user_in_to_the_first_user_out() -> None:
    steady = find_steady(closed_loop(users=4, each=10))
    assert (steady.begin_s, steady.end_s) == (pytest.approx(0.3), pytest.approx(10.0))
    assert steady.in_flight == pytest.approx(4)
    # Three requests of the 40 began before the last user came, three ended after the first left.
    assert steady.requests == 34


def test_a_run_of_few_requests_has_no_steady_state() -> None:
    steady = find_steady(closed_loop(users=4, each=2))
    assert steady.begin_s is None
    assert steady.absent.startswith("too short: ")


def test_as_many_users_as_requests_is_no_steady_state() -> None:
    assert find_steady([(0.0, 1 + n / 100) for n in range(50)]).begin_s is None


def test_a_queue_that_only_grows_is_no_steady_state() -> None:
    spans = [(n * 0.1, (n + 1) * 0.2) for n in range(200)]  # ten a second come, five are served
    assert find_steady(spans).absent.startswith("no plateau: ")


def test_an_open_loop_that_is_kept_up_with_is_steady() -> None:
    draw = np.random.default_rng(5)
    starts = np.cumsum(draw.exponential(0.1, 400))
    steady = find_steady([(float(start), float(start) + 1.0) for start in starts])
    assert steady.in_flight == pytest.approx(10, rel=0.2)
    assert steady.length_s > 0.8 * starts[-1]


def test_requests_that_never_meet_are_steady_one_by_one() -> None:
    steady = find_steady([(2.0 * n, 2.0 * n + 0.5) for n in range(20)])
    assert steady.requests == 20


@given(SPANS)
def test_a_steady_window_lies_within_the_load(spans: list[tuple[float, float]]) -> None:
    steady = find_steady(spans)
    if steady.absent:
        assert steady.begin_s is steady.end_s is None
        return
    assert steady.begin_s is not None
    assert steady.end_s is not None
    assert min(s for s, _ in spans) <= steady.begin_s < steady.end_s <= max(e for _, e in spans)
    assert steady.requests == sum(map(steady.holds, spans))


@given(SPANS)
def test_nobody_is_under_way_before_and_after(spans: list[tuple[float, float]]) -> None:
    flight = in_flight(spans)
    assert flight.requests.min() == 0
    assert flight.requests[-1] == 0


def test_spans_and_ticks_count_from_the_first_request() -> None:
    later = make_clock(1000).model_copy(update={"start_ns": 400 * MS})
    records = [
        make_record(make_exchange(clock=later)),
        make_record(make_exchange(clock=make_clock(300))),
    ]
    assert spans_s(records) == [pytest.approx((0.4, 1.0)), pytest.approx((0.0, 0.3))]


def test_ticks_bring_what_the_running_count_says() -> None:
    events = make_events((100, "a", 1), (200, "bcd", 4), (300, "", 4))
    at_s, tokens = output_ticks([make_record(make_exchange(events=events))])
    assert list(at_s) == pytest.approx([0.1, 0.2])
    assert list(tokens) == [1, 3]


def test_rates_sum_to_all_that_came() -> None:
    middle_s, per_s = rates(np.array([0.1, 0.2, 0.9]), np.array([1.0, 3.0, 2.0]), 1.0, 2)
    assert list(middle_s) == [0.25, 0.75]
    assert list(per_s) == [8.0, 4.0]
