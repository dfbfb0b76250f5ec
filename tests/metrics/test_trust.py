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
        (0.004, 0.01, 0.001, True, True),  # stamped by the kernel, each token on its own
        (0.004, 0.01, 0.009, False, True),  # below half a gap
        (0.004, 0.01, 0.003, False, False),  # above it: the ticks themselves are late
        (0.0014, 0.01, 0.001, False, True),  # no timer can tell it from none
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
    assert (find_distortion(strain, None, of(ttft_s), of(gap_s), 0, None) == "") == trusted


def test_a_lag_of_nothing_measured_has_the_absolute_limit() -> None:
    strain = Strain(wall_s=9, cpu_share=0.1, lag_p99_s=0.006, lag_max_s=1, kernel_stamps=True)
    assert "lagged by 6.0 ms" in find_distortion(strain, None, None, None, 0, None)


@pytest.mark.parametrize(
    ("lag_s", "merged", "trusted"),
    [
        (0.0019, 0.0177, False),  # as seen at 80,000 tokens/s: ITL p99 80 % off
        (0.0046, 0.0081, False),  # 14 % off
        (0.0031, 0.0017, True),  # 0.6 % off
        (0.0009, 0.0177, True),  # a server that sends several tokens at once
    ],
)
def test_tokens_that_may_have_waited_for_a_late_client_make_a_load_inconclusive(
    lag_s: float, merged: float, trusted: bool
) -> None:
    strain = Strain(wall_s=4, cpu_share=0.76, lag_p99_s=lag_s, lag_max_s=lag_s, kernel_stamps=True)
    gaps = quantiles([0.0032] * 1000)
    found = find_distortion(strain, None, of(0.2), gaps, merged, None)
    assert (found == "") == trusted
    assert trusted or f"{merged:.1%} of the tokens came with the one before" in found
