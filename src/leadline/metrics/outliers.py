"""Values far from the rest of their kind: named, and never left out of any figure."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import BaseModel, ConfigDict

# Iglewicz and Hoaglin, How to Detect and Handle Outliers (1993): the modified z-score
# 0.6745 (x - median) / MAD, beyond 3.5; where MAD is 0, (x - median) / (1.253314 mean deviation).
FARTHEST_SCORE = 3.5
FEWEST_VALUES = 10
_MAD_TO_SIGMA = 0.6745
_MEAN_TO_SIGMA = 1.253314
# Equal but for the last digits of a float: such values have no spread to be far from.
_NO_SPREAD = 1e-9


class Outlier(BaseModel):
    model_config = ConfigDict(frozen=True)

    measure: str
    request: int
    """Its number; of a cell of trials, the trial's."""
    value: float
    median: float
    score: float
    """Modified z-score: how many standard deviations of a normal distribution away."""


def name_outliers(measure: str, values: Mapping[int, float]) -> list[Outlier]:
    """Those beyond 3.5 of one value for each request, farthest first; none among fewer than 10."""
    if len(values) < FEWEST_VALUES:
        return []
    known = np.fromiter(values.values(), dtype=np.float64)
    median = float(np.median(known))
    sigma = _sigma(np.abs(known - median))
    if sigma <= _NO_SPREAD * abs(median):
        return []
    found = [
        Outlier(measure=measure, request=number, value=value, median=median, score=score)
        for number, value in values.items()
        if abs(score := (value - median) / sigma) > FARTHEST_SCORE
    ]
    return sorted(found, key=lambda outlier: -abs(outlier.score))


def _sigma(deviations: np.ndarray) -> float:
    mad = float(np.median(deviations))
    return mad / _MAD_TO_SIGMA if mad else _MEAN_TO_SIGMA * float(deviations.mean())
