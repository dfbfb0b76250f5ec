from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadline.metrics.outliers import name_outliers


def test_a_far_value_is_named_with_its_request_and_its_distance() -> None:
    values = {number: 1 + number / 100 for number in range(20)} | {7: 9.0}
    (found,) = name_outliers("ttft_s", values)
    assert (found.measure, found.request, found.value) == ("ttft_s", 7, 9.0)
    # By hand: median 1.105, MAD 0.055.
    assert found.median == pytest.approx(1.105)
    assert found.score == pytest.approx(0.6745 * (9 - 1.105) / 0.055)


def test_the_farthest_comes_first_on_either_side() -> None:
    values = {number: 100 + number % 5 for number in range(20)} | {3: 200.0, 8: -900.0}
    assert [found.request for found in name_outliers("x", values)] == [8, 3]
    assert name_outliers("x", values)[0].score < 0


def test_where_most_values_are_equal_the_mean_deviation_judges() -> None:
    values = dict.fromkeys(range(30), 2.0) | {4: 3.0}
    assert [found.request for found in name_outliers("x", values)] == [4]


def test_fewer_than_ten_values_have_no_outlier() -> None:
    assert name_outliers("x", dict.fromkeys(range(8), 1.0) | {8: 99.0}) == []


@given(st.lists(st.floats(1, 1.5), max_size=50))
def test_values_that_lie_together_are_never_named_beyond_the_rule(values: list[float]) -> None:
    for found in name_outliers("x", dict(enumerate(values))):
        assert abs(found.score) > 3.5
        assert values[found.request] == found.value
