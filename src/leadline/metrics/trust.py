"""Whether what a load reports is the server's doing or partly the client's own."""

from __future__ import annotations

from leadline.metrics.statistics import Quantiles
from leadline.records import SelfCheck, Strain

# Above these, what is reported may be the client's own doing. A lag above 5 ms matters if it could
# change what is measured; one below it only where gaps are as short.
MOST_CPU_SHARE = 0.9
MOST_LAG_S = 0.005
MOST_LATE_S = 0.01
# Of the median TTFT, and of the median gap where this process itself takes the ticks.
DISTORTING_SHARE = 0.02
# Of the median gap where the kernel stamps arrivals: then a lag changes a gap only by letting two
# tokens wait together, which half a gap cannot do.
MERGING_SHARE = 0.5
# Of the events: so many that came together with another are half of what a p99 of gaps tells of.
MOST_MERGED_SHARE = 0.005
# Of fewer gaps a p99 is what a handful of them was.
_ENOUGH_GAPS = 1000
# The event loop's timers count milliseconds: a lag below it cannot be told from none.
LEAST_LAG_S = 0.0015
# The instrument's own error, from a load on a server of known truth (p99).
MOST_TTFT_ERROR_S = 0.005
MOST_ITL_ERROR_S = 0.001


def find_distortion(
    strain: Strain,
    late: Quantiles | None,
    ttft: Quantiles | None,
    gaps: Quantiles | None,
    merged: float,
    check: SelfCheck | None,
) -> str:
    """What the client was late with, or its own error; empty if the figures are the server's.

    ``merged``: share of the events that came at one tick with the one before.
    """
    if strain.cpu_share > MOST_CPU_SHARE:
        return f"it used {strain.cpu_share:.0%} of its core"
    if strain.lag_p99_s > (limit := _lag_limit_s(strain, ttft, gaps)):
        return _word_lag(strain, limit)
    if found := _merging(strain, gaps, merged):
        return found
    if late and late.p99 > MOST_LATE_S:
        return f"it sent {_ms(late.p99)} too late (p99)"
    return _own_error(check, ttft, gaps) if check else ""


def _lag_limit_s(strain: Strain, ttft: Quantiles | None, gaps: Quantiles | None) -> float:
    share = MERGING_SHARE if strain.kernel_stamps else DISTORTING_SHARE
    limits = [DISTORTING_SHARE * ttft.p50] if ttft else []
    limits += [share * gaps.p50] if gaps else []
    least_s = MOST_LAG_S if strain.kernel_stamps else min(MOST_LAG_S, _waiting_s(gaps))
    return max(least_s, min(limits, default=0.0))


def _merging(strain: Strain, gaps: Quantiles | None, merged: float) -> str:
    """The kernel has one stamp for all that waits together: their gap is that of several tokens.

    A server may send several at once; that cannot be told apart once the client was late.
    """
    if not gaps or gaps.n < _ENOUGH_GAPS or merged <= MOST_MERGED_SHARE:
        return ""
    if strain.lag_p99_s <= (limit := _waiting_s(gaps)):
        return ""
    return (
        f"{_word_lag(strain, limit)}, and {merged:.1%} of the tokens came with the one before, "
        "for which they may have waited"
    )


def _waiting_s(gaps: Quantiles | None) -> float:
    """A lag that may let two tokens wait together."""
    return max(LEAST_LAG_S, MERGING_SHARE * gaps.p50) if gaps else MOST_LAG_S


def _word_lag(strain: Strain, limit_s: float) -> str:
    return f"its event loop lagged by {_ms(strain.lag_p99_s)} (p99; {_ms(limit_s)} would do)"


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
