"""Several trials as one figure: the median with its range, a proportion with its interval."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import NormalDist

import numpy as np
from pydantic import BaseModel, ConfigDict


class Spread(BaseModel):
    """``n`` values by their order statistics; with few values the range is the honest interval."""

    model_config = ConfigDict(frozen=True)

    n: int
    median: float
    low: float
    high: float


class Quantiles(BaseModel):
    """``n`` values by the quantiles that loads are judged by, linearly interpolated."""

    model_config = ConfigDict(frozen=True)

    n: int
    low: float
    p50: float
    p90: float
    p99: float
    high: float


class Proportion(BaseModel):
    """``hits`` of ``n`` with the Wilson score interval at 95 %."""

    model_config = ConfigDict(frozen=True)

    hits: int
    n: int
    low: float
    high: float

    @property
    def share(self) -> float:
        return self.hits / self.n


def spread(values: Iterable[float | None]) -> Spread | None:
    """``None`` when there is no value; missing values are left out and show in ``n``."""
    known = np.array([value for value in values if value is not None])
    if known.size == 0:
        return None
    return Spread(
        n=known.size,
        median=float(np.median(known)),
        low=float(known.min()),
        high=float(known.max()),
    )


def quantiles(values: Iterable[float | None]) -> Quantiles | None:
    """``None`` when there is no value; missing values are left out and show in ``n``."""
    known = np.array([value for value in values if value is not None])
    if known.size == 0:
        return None
    p50, p90, p99 = (float(found) for found in np.quantile(known, (0.5, 0.9, 0.99)))
    low, high = float(known.min()), float(known.max())
    return Quantiles(n=known.size, low=low, p50=p50, p90=p90, p99=p99, high=high)


def quantile(values: Iterable[float], q: float) -> float | None:
    """Linear-interpolated quantile; ``None`` without values."""
    known = np.array(list(values))
    return float(np.quantile(known, q)) if known.size else None


def wilson(hits: int, n: int, confidence: float = 0.95) -> Proportion | None:
    """Wilson (1927) score interval; unlike hits/n it does not claim certainty from 3 of 3."""
    if n == 0:
        return None
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = hits / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    return Proportion(hits=hits, n=n, low=max(0.0, centre - half), high=min(1.0, centre + half))
