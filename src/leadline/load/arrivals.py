"""When requests are sent in an open loop: seconds after the start, in order, drawn before the run.

Nothing here knows of answers: a slow server does not slow down its users.
"""

from __future__ import annotations

import random
from math import sqrt


def constant(rate: float, count: int) -> list[float]:
    """One request each ``1 / rate`` seconds."""
    return [number / rate for number in range(count)]


def poisson(rate: float, count: int, seed: str) -> list[float]:
    """Independent users: exponential gaps of mean ``1 / rate``."""
    rng = random.Random(seed)  # noqa: S311  (reproducible, not secret)
    at_s = 0.0
    arrivals = []
    for _ in range(count):
        arrivals.append(at_s)
        at_s += rng.expovariate(rate)
    return arrivals


def bursts(rate: float, size: int, count: int) -> list[float]:
    """``size`` requests at once, as often as gives ``rate`` on average."""
    return [number // size * size / rate for number in range(count)]


def ramp(first_rate: float, last_rate: float, count: int) -> list[float]:
    """The rate grows or falls evenly in time; ``count`` requests in all.

    n(t) = first t + (last - first) t² / 2T, with T = 2 count / (first + last), solved for t.
    """
    total_s = 2 * count / (first_rate + last_rate)
    growth = (last_rate - first_rate) / total_s
    # Of the two forms of the root, the one that also holds for no growth.
    return [
        2 * number / (first_rate + sqrt(max(0.0, first_rate**2 + 2 * growth * number)))
        for number in range(count)
    ]
