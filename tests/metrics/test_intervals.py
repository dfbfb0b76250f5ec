from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadline.metrics.intervals import (
    Estimate,
    estimate_median,
    fewest_values,
    rate,
    summarise,
)

TIMES = st.lists(st.lists(st.floats(1e-6, 1e3), max_size=5), max_size=40)


def width(estimate: Estimate) -> float:
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.high - estimate.low


def test_without_values_there_is_no_summary() -> None:
    assert summarise([]) is None
    assert summarise([[], []]) is None


def test_the_fewest_values_are_those_whose_range_covers_the_quantile() -> None:
    assert [fewest_values(q) for q in (0.5, 0.9, 0.99)] == [6, 29, 299]


def test_an_interval_is_refused_below_a_stated_number_and_the_value_is_still_given() -> None:
    found = summarise([[float(x)] for x in range(28)])
    assert found is not None
    assert found.p50.low is not None
    assert (found.p90.low, found.p90.refused) == (None, "28 values; an interval needs 29")
    assert found.p90.value == pytest.approx(np.quantile(range(28), 0.9))
    assert found.p99.refused == "28 values; an interval needs 299"


def test_many_values_of_few_groups_are_few() -> None:
    found = summarise([list(range(200))] * 5)
    assert found is not None
    assert found.n == 1000
    assert found.p99.refused == "5 groups; an interval needs 6"
    assert found.trimmed_mean.refused == "5 groups; an interval needs 6"


def test_values_that_share_a_fate_are_less_certain_than_the_same_values_alone() -> None:
    draw = np.random.default_rng(3)
    fates = draw.normal(10, 2, 40)
    groups = [list(draw.normal(fate, 0.1, 50)) for fate in fates]
    together = summarise(groups)
    alone = summarise([[value] for group in groups for value in group])
    assert together is not None
    assert alone is not None
    assert together.p50.value == alone.p50.value
    assert width(together.p50) > 3 * width(alone.p50)
    assert width(together.trimmed_mean) > 3 * width(alone.trimmed_mean)


@pytest.mark.parametrize(
    ("n", "figure", "truth"), [(40, "p50", 1.0), (60, "p90", 3.602), (400, "p99", 10.24)]
)
def test_intervals_hold_the_truth_about_as_often_as_they_say(
    n: int, figure: str, truth: float
) -> None:
    """Log-normal times with sigma 1: quantiles exp(z)."""
    draw = np.random.default_rng(11)
    held = 0
    for _ in range(200):
        found = summarise([[value] for value in draw.lognormal(0, 1, n)])
        estimate = getattr(found, figure)
        held += estimate.low <= truth <= estimate.high
    assert 0.91 <= held / 200 <= 0.99


def test_a_trimmed_mean_is_not_moved_by_one_stall() -> None:
    found = summarise([[1.0]] * 19 + [[1000.0]])
    assert found is not None
    assert found.trimmed_mean.value == 1.0
    assert found.high == 1000.0


@given(TIMES)
def test_an_interval_holds_its_value_and_stays_within_the_range(groups: list[list[float]]) -> None:
    found = summarise(groups)
    if found is None:
        assert not any(groups)
        return
    for estimate in (found.p50, found.p90, found.p99, found.trimmed_mean):
        slack = 1e-9 * found.high  # a mean of equal floats may differ in its last digit
        assert found.low - slack <= estimate.value <= found.high + slack
        if estimate.low is not None and estimate.high is not None:
            assert estimate.low <= estimate.value <= estimate.high
        else:
            assert estimate.refused


@given(TIMES)
def test_the_same_values_give_the_same_intervals(groups: list[list[float]]) -> None:
    assert summarise(groups) == summarise(groups)


def test_a_median_has_the_interval_of_the_tables_of_the_sign_test() -> None:
    """Conover, Practical Nonparametric Statistics: n = 6, 12, 20 and 30 at 95 %."""
    for n, ends in ((6, (1, 6)), (12, (3, 10)), (20, (6, 15)), (30, (10, 21))):
        found = estimate_median([float(x) for x in range(n, 0, -1)])
        assert (found.low, found.high) == ends
        assert found.value == (n + 1) / 2
    assert estimate_median([1.0, 2.0]).refused


def test_the_interval_of_a_median_holds_it_as_often_as_it_says() -> None:
    random = np.random.default_rng(3)
    held = 0
    for _ in range(400):
        found = estimate_median([float(x) for x in random.exponential(size=15)])
        assert found.low is not None
        assert found.high is not None
        held += found.low <= np.log(2) <= found.high
    assert held / 400 >= 0.94


def test_a_rate_has_the_interval_of_its_share() -> None:
    found = rate(8, 10, 5.0)
    assert found is not None
    assert found.value == pytest.approx(1.6)
    assert (found.low, found.high) == (
        pytest.approx(0.980, abs=1e-3),
        pytest.approx(1.887, abs=1e-3),
    )
    assert rate(0, 0, 5.0) is None
    assert rate(1, 2, 0.0) is None
