from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadline.metrics.statistics import quantile, spread, wilson

FINITE = st.floats(-1e9, 1e9)


def test_a_spread_is_median_lowest_and_highest() -> None:
    found = spread([3.0, 1.0, 2.0])
    assert found is not None
    assert (found.n, found.median, found.low, found.high) == (3, 2.0, 1.0, 3.0)


def test_missing_values_are_left_out_and_show_in_n() -> None:
    found = spread([None, 4.0, None, 2.0])
    assert found is not None
    assert (found.n, found.median) == (2, 3.0)


def test_without_values_there_is_no_figure() -> None:
    assert spread([]) is None
    assert spread([None, None]) is None
    assert quantile([], 0.5) is None
    assert wilson(0, 0) is None


@given(st.lists(FINITE, min_size=1, max_size=40))
def test_the_median_lies_between_lowest_and_highest(values: list[float]) -> None:
    found = spread(values)
    assert found is not None
    assert found.low == min(values) <= found.median <= max(values) == found.high
    assert found.median == pytest.approx(statistics.median(values))


@given(st.lists(FINITE, min_size=1, max_size=40), st.floats(0, 1), st.floats(0, 1))
def test_quantiles_lie_in_the_range_and_keep_their_order(
    values: list[float], p: float, q: float
) -> None:
    low, high = (quantile(values, x) for x in sorted((p, q)))
    assert low is not None
    assert high is not None
    slack = 1e-6 * max(1.0, *map(abs, values))
    assert min(values) - slack <= low <= high + slack <= max(values) + 2 * slack
    assert quantile(values, 0) == min(values)
    assert quantile(values, 1) == max(values)


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    # Wilson (1927) intervals at 95 %, as tabulated.
    [(3, 3, 0.4385, 1.0), (0, 3, 0.0, 0.5615), (5, 10, 0.2366, 0.7634), (81, 263, 0.2553, 0.3662)],
)
def test_wilson_intervals_are_those_of_the_tables(
    hits: int, n: int, low: float, high: float
) -> None:
    found = wilson(hits, n)
    assert found is not None
    assert found.low == pytest.approx(low, abs=2e-4)
    assert found.high == pytest.approx(high, abs=2e-4)


@given(st.integers(1, 10**6), st.data())
def test_an_interval_holds_the_share_and_is_never_certain(n: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, n))
    found = wilson(hits, n)
    assert found is not None
    assert found.share == hits / n
    assert 0 <= found.low <= found.share + 1e-12
    assert found.share - 1e-12 <= found.high <= 1
    assert found.high - found.low > 0


@given(st.integers(1, 500), st.data())
def test_more_trials_of_the_same_share_make_the_interval_shorter(
    n: int, data: st.DataObject
) -> None:
    hits = data.draw(st.integers(0, n))
    few, many = wilson(hits, n), wilson(hits * 4, n * 4)
    assert few is not None
    assert many is not None
    assert many.high - many.low < few.high - few.low
