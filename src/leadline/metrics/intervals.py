"""Percentiles, trimmed means and shares with the interval that their number of values supports.

Values that came together (all gaps of one request, all requests of one trial) are one group, and
whole groups are drawn again: they share a fate, and would look more certain one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import comb

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from leadline.metrics.statistics import wilson

CONFIDENCE = 0.95
REPLICATES = 1000
TRIM = 0.1
FEWEST_GROUPS = 6
_CHUNK_DRAWS = 4_000_000

Groups = Sequence[Sequence[float]]
_Floats = NDArray[np.float64]


class Estimate(BaseModel):
    """A figure with its 95 % interval; both ends are ``None`` where ``refused`` says why."""

    model_config = ConfigDict(frozen=True)

    value: float
    low: float | None = None
    high: float | None = None
    refused: str = ""


class Summary(BaseModel):
    """``n`` values in ``groups`` groups."""

    model_config = ConfigDict(frozen=True)

    n: int
    groups: int
    trimmed_mean: Estimate
    """Mean without the lowest and the highest tenth."""
    p50: Estimate
    p90: Estimate
    p99: Estimate
    low: float
    high: float


def estimate_median(values: Sequence[float]) -> Estimate:
    """The median, with the interval of the sign test, whose ends are two of the values.

    It holds for any distribution: of ``n`` values as many lie below the true median as of ``n``
    coins show heads.
    """
    found, n = sorted(values), len(values)
    middle = float(np.median(found))
    if n < FEWEST_GROUPS:
        return Estimate(value=middle, refused=f"{n} values; an interval needs {FEWEST_GROUPS}")
    chances = accumulate(comb(n, heads) / 2**n for heads in range(n))
    outside = sum(chance <= (1 - CONFIDENCE) / 2 for chance in chances)
    return Estimate(value=middle, low=found[outside - 1], high=found[-outside])


def summarise(groups: Groups) -> Summary | None:
    """Every figure of some values; ``None`` without any. The same values give the same intervals.

    A quantile's interval is Woodruff's (1952): groups are drawn again to see how much the share of
    values below the quantile varies, and that variation is read back as values.
    """
    arrays = [np.asarray(group, dtype=np.float64) for group in groups if len(group)]
    if not arrays:
        return None
    values = np.sort(np.concatenate(arrays))
    return Summary(
        n=values.size,
        groups=len(arrays),
        trimmed_mean=_trimmed_mean(values, arrays),
        p50=_quantile(values, arrays, 0.5),
        p90=_quantile(values, arrays, 0.9),
        p99=_quantile(values, arrays, 0.99),
        low=float(values[0]),
        high=float(values[-1]),
    )


def fewest_values(q: float) -> int:
    """Below this many values, not even their whole range covers the q-quantile at 95 %.

    The smallest n with 1 - q^n - (1-q)^n >= 0.95: 6 for the median, 29 for p90, 299 for p99.
    """
    n = 1
    while 1 - q**n - (1 - q) ** n < CONFIDENCE:
        n += 1
    return n


def rate(hits: int, of: int, seconds: float) -> Estimate | None:
    """``hits`` of ``of`` events per second; the interval is Wilson's of the share."""
    share = wilson(hits, of, CONFIDENCE)
    if share is None or seconds <= 0:
        return None
    per_s = of / seconds
    return Estimate(value=share.share * per_s, low=share.low * per_s, high=share.high * per_s)


def _quantile(values: _Floats, groups: list[_Floats], q: float) -> Estimate:
    value = float(np.quantile(values, q))
    if refused := _refusal(values.size, len(groups), fewest_values(q)):
        return Estimate(value=value, refused=refused)
    below = np.array([np.count_nonzero(group <= value) for group in groups])
    sizes = np.array([group.size for group in groups])
    shares = _redraw(below, sizes)
    drift = np.quantile(shares, _TAILS) - below.sum() / sizes.sum()
    low, high = np.quantile(values, np.clip(q - drift[::-1], 0, 1))
    return Estimate(value=value, low=min(value, float(low)), high=max(value, float(high)))


def _trimmed_mean(values: _Floats, groups: list[_Floats]) -> Estimate:
    cut = int(values.size * TRIM)
    kept = values[cut : values.size - cut]
    value = float(kept.mean())
    if refused := _refusal(values.size, len(groups), FEWEST_GROUPS):
        return Estimate(value=value, refused=refused)
    inside = [group[(group >= kept[0]) & (group <= kept[-1])] for group in groups]
    means = _redraw(
        np.array([group.sum() for group in inside]), np.array([group.size for group in inside])
    )
    low, high = np.quantile(means[np.isfinite(means)], _TAILS)
    return Estimate(value=value, low=min(value, float(low)), high=max(value, float(high)))


_TAILS = np.array([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])


def _refusal(values: int, groups: int, needed: int) -> str:
    if values < needed:
        return f"{values} values; an interval needs {needed}"
    if groups < FEWEST_GROUPS:
        return f"{groups} groups; an interval needs {FEWEST_GROUPS}"
    return ""


def _redraw(tops: NDArray[np.generic], bottoms: NDArray[np.generic]) -> _Floats:
    """Ratios of sums over groups drawn with replacement, always with the same seed."""
    draw, count = np.random.default_rng(0), len(tops)
    rows = max(1, min(REPLICATES, _CHUNK_DRAWS // count))
    ratios: list[_Floats] = []
    while sum(map(len, ratios)) < REPLICATES:
        picked = draw.integers(count, size=(rows, count))
        with np.errstate(invalid="ignore", divide="ignore"):
            ratios.append(tops[picked].sum(axis=1) / bottoms[picked].sum(axis=1))
    return np.concatenate(ratios)[:REPLICATES]
