"""Whether what a load reports is the server's doing or partly the client's own."""

from __future__ import annotations

from leadline.metrics.statistics import Quantiles
from leadline.records import SelfCheck, Strain

# Above these, what is reported may be the client's own doing. A lag below both of its limits never
# matters; above 5 ms it does if it could change what is measured.
MOST_CPU_SHARE = 0.9
MOST_LAG_S = 0.005
MOST_LATE_S = 0.01
# Of the median TTFT, and of the median gap where this process itself takes the ticks.
DISTORTING_SHARE = 0.02
# Of the median gap where the kernel stamps arrivals: then a lag changes a gap only by letting two
# tokens wait together, which half a gap cannot do.
MERGING_SHARE = 0.5
# The instrument's own error, from a load on a server of known truth (p99).
MOST_TTFT_ERROR_S = 0.005
MOST_ITL_ERROR_S = 0.001


def find_distortion(
    strain: Strain,
    late: Quantiles | None,
    ttft: Quantiles | None,
    gaps: Quantiles | None,
    check: SelfCheck | None,
) -> str:
    """What the client was late with, or its own error; empty if the figures are the server's."""
    if strain.cpu_share > MOST_CPU_SHARE:
        return f"it used {strain.cpu_share:.0%} of its core"
    if strain.lag_p99_s > (limit := _lag_limit_s(strain, ttft, gaps)):
        return f"its event loop lagged by {_ms(strain.lag_p99_s)} (p99; {_ms(limit)} would do)"
    if late and late.p99 > MOST_LATE_S:
        return f"it sent {_ms(late.p99)} too late (p99)"
    return _own_error(check, ttft, gaps) if check else ""


def _lag_limit_s(strain: Strain, ttft: Quantiles | None, gaps: Quantiles | None) -> float:
    share = MERGING_SHARE if strain.kernel_stamps else DISTORTING_SHARE
    limits = [DISTORTING_SHARE * ttft.p50] if ttft else []
    limits += [share * gaps.p50] if gaps else []
    return max(MOST_LAG_S, min(limits, default=0.0))


def _own_error(check: SelfCheck, ttft: Quantiles | None, gaps: Quantiles | None) -> str:
    if check.failures:
        return f"{check.failures} of {check.requests} requests of its self-check failed"
    ttft_limit_s = max(MOST_TTFT_ERROR_S, DISTORTING_SHARE * (ttft.p50 if ttft else 0.0))
    if check.ttft_error_p99_s > ttft_limit_s:
        return f"its own error of TTFT was {_ms(check.ttft_error_p99_s)} (p99, self-check)"
    itl_limit_s = max(MOST_ITL_ERROR_S, DISTORTING_SHARE * (gaps.p50 if gaps else 0.0))
    if check.itl_error_p99_s > itl_limit_s:
        return f"its own error of ITL was {_ms(check.itl_error_p99_s)} (p99, self-check)"
    return ""


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms"
