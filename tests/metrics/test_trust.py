"""A client that was late is to blame only for what it could have changed."""

from __future__ import annotations

import pytest

from leadline.metrics.statistics import Quantiles, quantiles
from leadline.metrics.trust import find_distortion
from leadline.records import Strain


def of(seconds: float) -> Quantiles:
    found = quantiles([seconds])
    assert found
    return found


@pytest.mark.parametrize(
    ("lag_s", "ttft_s", "gap_s", "by_kernel", "trusted"),
    [
        (0.004, 0.01, 0.001, False, True),  # below 5 ms it never matters
        (0.02, 2.0, 0.1, True, True),  # requests of seconds, stamped by the kernel
        (0.06, 2.0, 0.1, True, False),  # two tokens may have waited together
        (0.02, 2.0, 0.1, False, False),  # the ticks themselves are late
        (0.02, 0.5, 0.1, True, False),  # 4 % of the TTFT
    ],
)
def test_a_lag_matters_where_it_could_change_what_is_measured(
    lag_s: float, ttft_s: float, gap_s: float, by_kernel: bool, trusted: bool
) -> None:
    strain = Strain(
        wall_s=9, cpu_share=0.1, lag_p99_s=lag_s, lag_max_s=lag_s, kernel_stamps=by_kernel
    )
    assert (find_distortion(strain, None, of(ttft_s), of(gap_s), None) == "") == trusted


def test_a_lag_of_nothing_measured_has_the_absolute_limit() -> None:
    strain = Strain(wall_s=9, cpu_share=0.1, lag_p99_s=0.006, lag_max_s=1, kernel_stamps=True)
    assert "lagged by 6.0 ms" in find_distortion(strain, None, None, None, None)
