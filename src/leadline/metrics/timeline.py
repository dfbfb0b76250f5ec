"""A load over time: requests in flight, its steady window, tokens as they came.

Times are seconds since the first request was sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from leadline.metrics.measures import NS
from leadline.records import Record

# What still counts as the plateau, and how far its halves may differ.
PLATEAU_SHARE = 0.9
MOST_DRIFT = 0.25
FEWEST_REQUESTS = 10

_Floats = NDArray[np.float64]


class InFlight(NamedTuple):
    """A step function: from ``at_s[i]`` on, ``requests[i]`` are under way."""

    at_s: _Floats
    requests: _Floats


class SteadyWindow(BaseModel):
    """The plateau of a load, or why there is none (then both ends are ``None``)."""

    model_config = ConfigDict(frozen=True)

    begin_s: float | None = None
    end_s: float | None = None
    in_flight: float | None = None
    """Mean number under way in the window."""
    requests: int = 0
    """Begun and ended within it."""
    absent: str = ""

    @property
    def length_s(self) -> float:
        return (self.end_s or 0.0) - (self.begin_s or 0.0)

    def holds(self, span_s: tuple[float, float]) -> bool:
        if self.begin_s is None or self.end_s is None:
            return False
        return self.begin_s <= span_s[0] and span_s[1] <= self.end_s


def origin_ns(records: Sequence[Record]) -> int:
    """The tick at which the first request was sent."""
    return min(record.exchange.clock.start_ns for record in records)


def spans_s(records: Sequence[Record]) -> list[tuple[float, float]]:
    """Start and end of each request."""
    if not records:
        return []
    zero = origin_ns(records)
    clocks = [record.exchange.clock for record in records]
    return [((c.start_ns - zero) * NS, (c.end_ns - zero) * NS) for c in clocks]


def in_flight(spans: Sequence[tuple[float, float]]) -> InFlight:
    """How many were under way; one that ends when another begins makes room first."""
    starts, ends = np.array(spans).reshape(-1, 2).T
    at_s = np.concatenate([ends, starts])
    steps = np.concatenate([-np.ones(len(ends)), np.ones(len(starts))])
    order = np.argsort(at_s, kind="stable")
    return InFlight(at_s[order], np.cumsum(steps[order]))


def find_steady(spans: Sequence[tuple[float, float]]) -> SteadyWindow:
    """From the first to the last moment with at least 90 % of the usual number under way.

    Usual is the median over time. Once the last request is sent, the load is over with the next
    end. It is no steady state if fewer requests than usual (or than 10) both began and ended
    within, or if one half had more than a quarter more under way than the other.
    """
    if not spans:
        return SteadyWindow(absent="no request was sent")
    flight = in_flight(spans)
    usual = max(1.0, _median(flight))
    high = np.flatnonzero(flight.requests >= PLATEAU_SHARE * usual)
    # None is under way after the last step, so there always is a next one.
    begin_s, left_s = float(flight.at_s[high[0]]), float(flight.at_s[high[-1] + 1])
    end_s = min(left_s, _first_end_after_last_start(spans))
    middle_s = (begin_s + end_s) / 2
    first, second = _mean(flight, begin_s, middle_s), _mean(flight, middle_s, end_s)
    mean = (first + second) / 2
    if abs(first - second) > max(1.0, MOST_DRIFT * mean):
        return SteadyWindow(
            absent=f"no plateau: {first:.1f} in flight in its first half, {second:.1f} in the other"
        )
    inside = sum(begin_s <= start and end <= end_s for start, end in spans)
    needed = max(FEWEST_REQUESTS, int(usual))
    if inside < needed or begin_s >= end_s:
        return SteadyWindow(
            absent=f"too short: {inside} whole requests at the plateau, {needed} needed"
        )
    return SteadyWindow(begin_s=begin_s, end_s=end_s, in_flight=mean, requests=inside)


def output_ticks(records: Sequence[Record]) -> tuple[_Floats, _Floats]:
    """When output tokens arrived, and how many; an event without a running count brings one."""
    if not records:
        return np.empty(0), np.empty(0)
    zero = origin_ns(records)
    at_ns, tokens = [], []
    for record in records:
        seen = 0
        for event in record.exchange.events:
            counted = event.completion_tokens
            brought = int(bool(event.text)) if counted is None else counted - seen
            seen = counted or seen
            if brought > 0:
                at_ns.append(event.t_ns - zero)
                tokens.append(brought)
    return np.array(at_ns) * NS, np.array(tokens, dtype=np.float64)


def rates(at_s: _Floats, amounts: _Floats, end_s: float, bins: int) -> tuple[_Floats, _Floats]:
    """Middle of each of ``bins`` equal slices up to ``end_s``, and the amount per second in it."""
    summed, edges = np.histogram(at_s, bins=bins, range=(0, end_s), weights=amounts)
    return (edges[:-1] + edges[1:]) / 2, summed / (end_s / bins)


def _first_end_after_last_start(spans: Sequence[tuple[float, float]]) -> float:
    last = max(start for start, _ in spans)
    return min((end for _, end in spans if end > last), default=last)


def _median(flight: InFlight) -> float:
    """Over time: each count weighs as long as it lasted."""
    lasted, count = np.diff(flight.at_s), flight.requests[:-1]
    order = np.argsort(count, kind="stable")
    passed = np.cumsum(lasted[order])
    return float(count[order][np.searchsorted(passed, passed[-1] / 2)])


def _mean(flight: InFlight, begin_s: float, end_s: float) -> float:
    if end_s <= begin_s:
        return 0.0
    edges = np.clip(flight.at_s, begin_s, end_s)
    return float((np.diff(edges) * flight.requests[:-1]).sum() / (end_s - begin_s))
