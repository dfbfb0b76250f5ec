"""Arrival patterns are pure functions of rate, count and seed."""

from __future__ import annotations

from itertools import pairwise
from statistics import fmean, pstdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadline.load.arrivals import bursts, constant, poisson, ramp

RATES = st.floats(0.1, 1000)
COUNTS = st.integers(1, 300)


@given(rate=RATES, other=RATES, count=COUNTS, size=st.integers(1, 40))
def test_every_pattern_starts_at_once_and_never_goes_back(
    rate: float, other: float, count: int, size: int
) -> None:
    for arrivals in (
        constant(rate, count),
        poisson(rate, count, "s"),
        bursts(rate, size, count),
        ramp(rate, other, count),
    ):
        assert len(arrivals) == count
        assert arrivals[0] == 0
        assert all(a <= b for a, b in pairwise(arrivals))


def test_constant_gaps_are_equal() -> None:
    assert constant(4, 4) == [0, 0.25, 0.5, 0.75]


def test_poisson_gaps_have_the_mean_and_the_spread_of_an_exponential() -> None:
    gaps = [b - a for a, b in pairwise(poisson(50, 20_000, "seed"))]
    assert fmean(gaps) == pytest.approx(1 / 50, rel=0.03)
    assert pstdev(gaps) == pytest.approx(1 / 50, rel=0.05)


def test_the_seed_decides() -> None:
    assert poisson(5, 50, "a") == poisson(5, 50, "a")
    assert poisson(5, 50, "a") != poisson(5, 50, "b")


def test_a_burst_comes_at_once_and_the_rate_holds_on_average() -> None:
    assert bursts(10, 4, 9) == [0, 0, 0, 0, 0.4, 0.4, 0.4, 0.4, 0.8]


def test_a_ramp_passes_through_both_rates() -> None:
    arrivals = ramp(10, 30, 20_001)
    assert arrivals[100] == pytest.approx(100 / 10, rel=0.02)
    assert arrivals[-1] == pytest.approx(2 * 20_001 / 40, rel=0.001)
    assert arrivals[-1] - arrivals[-101] == pytest.approx(100 / 30, rel=0.02)
    assert ramp(5, 5, 20) == pytest.approx(constant(5, 20))
    falling = [b - a for a, b in pairwise(ramp(30, 10, 100))]
    assert falling == sorted(falling)
