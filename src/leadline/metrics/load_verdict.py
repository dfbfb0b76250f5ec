"""What a load says, from its records alone: times, rates, failures, and whether to believe them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from leadline.metrics.load_statistics import Answer, LoadStatistics, describe_load
from leadline.metrics.measures import NS, Measures, measure, merged_share
from leadline.metrics.sampling import Sample, ServerSummary, during, summarise_server
from leadline.metrics.statistics import Quantiles, quantiles
from leadline.metrics.trust import find_distortion
from leadline.records import Record, SelfCheck, Strain
from leadline.spec import Goals, Load

_WHOLE = ("stop", "length")
_ENOUGH_FOR_GROWTH = 3


class LoadVerdict(BaseModel):
    """Times over answered requests only; a failed request is counted, never averaged."""

    model_config = ConfigDict(frozen=True)

    load: Load
    """As it was asked for; of a sweep, this step of it."""
    requests: int
    """Asked for."""
    status: Literal["pass", "fail", "inconclusive"]
    reason: str
    sent: int
    answered: int
    failures: dict[str, int]
    """By kind: those of ``records`` and ``aborted``, ``short``, ``wrong-length``."""
    examples: dict[str, str]
    """One message of each kind, in the server's own words."""
    ttft_s: Quantiles | None
    itl_s: Quantiles | None
    """Gaps per token by the server's running count, of all requests together."""
    chunk_gaps_s: Quantiles | None
    """Gaps between chunks, however many tokens each brought."""
    tpot_s: Quantiles | None
    e2e_s: Quantiles | None
    wall_s: float | None
    """From the first request sent to the last answer's end."""
    requests_per_s: float | None
    output_tokens_per_s: float | None
    good: int
    """Answered within all goals; without goals, answered."""
    goodput_per_s: float | None
    """Good requests per second; ``None`` without goals."""
    ttft_growth: float | None
    """Of an open loop: median TTFT of the last third sent by that of the first. Above 1, it queues.
    """
    late_s: Quantiles | None
    """Real minus intended send time of an open loop."""
    strain: Strain | None
    self_check: SelfCheck | None = None
    """The client's own error under such a load, measured just before."""
    statistics: LoadStatistics | None = None
    """Intervals, the steady window, outliers."""
    server: ServerSummary | None = None
    """What the server's own metrics said meanwhile."""

    @property
    def good_share(self) -> float:
        """Of all requests that were asked for."""
        return self.good / self.requests


def judge_load(
    records: Sequence[Record],
    load: Load,
    requests: int,
    strain: Strain | None,
    samples: Sequence[Sample] = (),
    self_check: SelfCheck | None = None,
) -> LoadVerdict:
    """Everything that the records of one load support; no ``strain``: it was interrupted."""
    problems = [_problem(record) for record in records]
    sound = [record for record, found in zip(records, problems, strict=True) if found is None]
    measures = [measure(record.exchange) for record in sound]
    late = quantiles(_late_s(record) for record in records) if load.is_open else None
    wall_s = _wall_s(records)
    ttft = quantiles(item.ttft_s for item in measures)
    gaps = quantiles(gap for item in measures for gap in item.chunk_gaps_s)
    merged = merged_share(record.exchange for record in sound)
    excess = find_distortion(strain, late, ttft, gaps, merged, self_check) if strain else None
    status, reason = _conclude(requests, len(records), len(sound), excess)
    good = sum(_is_good(item, load.goals) for item in measures)
    has_goals = bool(load.goals.limits)
    return LoadVerdict(
        load=load,
        requests=requests,
        status=status,
        reason=reason,
        sent=len(records),
        answered=len(sound),
        failures=dict(Counter(kind for kind, _ in filter(None, problems))),
        examples=dict(reversed([found for found in problems if found])),
        ttft_s=ttft,
        itl_s=quantiles(gap for item in measures for gap in item.itl_s),
        chunk_gaps_s=gaps,
        tpot_s=quantiles(item.tpot_s for item in measures),
        e2e_s=quantiles(item.e2e_s for item in measures),
        wall_s=wall_s,
        requests_per_s=len(sound) / wall_s if wall_s else None,
        output_tokens_per_s=_output_tokens(measures) / wall_s if wall_s else None,
        good=good,
        goodput_per_s=good / wall_s if wall_s and has_goals else None,
        ttft_growth=_growth([item.ttft_s for item in measures]) if load.is_open else None,
        late_s=late,
        strain=strain,
        self_check=self_check,
        statistics=describe_load(_answers(records, problems, load), has_goals=has_goals),
        server=summarise_server(during(records, samples)),
    )


def _answers(records: Sequence[Record], problems: Sequence[object], load: Load) -> list[Answer]:
    """Each request with its measures, or with none where it was not answered as asked."""
    found = []
    for record, problem in zip(records, problems, strict=True):
        measures = None if problem else measure(record.exchange)
        good = measures is not None and _is_good(measures, load.goals)
        found.append(Answer(record=record, measures=measures, good=good))
    return found


def outcome(record: Record) -> str:
    """``answered``, or the kind of the failure."""
    found = _problem(record)
    return found[0] if found else "answered"


def _problem(record: Record) -> tuple[str, str] | None:
    """Why a request does not count as answered; HTTP 200 alone is no success."""
    exchange, usage = record.exchange, record.exchange.usage or {}
    if exchange.failure:
        return exchange.failure.kind, exchange.failure.message
    if exchange.finish_reason not in _WHOLE:
        return "aborted", f"it ended with finish_reason {exchange.finish_reason!r}"
    counted, wanted = usage.get("prompt_tokens"), record.sent.input_tokens
    if counted is not None and counted != wanted:
        return "wrong-length", f"sent {wanted} tokens, the server counted {counted}"
    given, asked = usage.get("completion_tokens"), record.sent.output_tokens
    if exchange.finish_reason == "length" and given is not None and given < asked:
        return "short", f"cut at {given} of {asked} tokens"
    return None


def _conclude(
    requests: int, sent: int, answered: int, excess: str | None
) -> tuple[Literal["pass", "fail", "inconclusive"], str]:
    if excess is None or sent < requests:
        return "inconclusive", f"interrupted after {sent} of {requests} requests"
    if answered < sent:
        return "fail", f"{sent - answered} of {sent} requests were not answered as asked"
    if excess:
        return "inconclusive", f"the client was the bottleneck: {excess}"
    return "pass", ""


def _late_s(record: Record) -> float | None:
    clock = record.exchange.clock
    return None if clock.intended_ns is None else (clock.start_ns - clock.intended_ns) * NS


def _wall_s(records: Sequence[Record]) -> float | None:
    clocks = [record.exchange.clock for record in records]
    if not clocks:
        return None
    return (max(c.end_ns for c in clocks) - min(c.start_ns for c in clocks)) * NS


def _output_tokens(measures: Sequence[Measures]) -> int:
    return sum(item.completion_tokens or 0 for item in measures)


def _growth(ttfts_s: Sequence[float | None]) -> float | None:
    """Of values in the order of sending."""
    known = [value for value in ttfts_s if value is not None]
    third = len(known) // 3
    if third < _ENOUGH_FOR_GROWTH:
        return None
    return float(np.median(known[-third:]) / np.median(known[:third]))


def _is_good(item: Measures, goals: Goals) -> bool:
    gaps = item.itl_s or item.chunk_gaps_s
    itl_s = float(np.quantile(gaps, 0.99)) if gaps else 0.0  # one token has no gap
    pairs = ((goals.ttft_s, item.ttft_s), (goals.itl_s, itl_s), (goals.e2e_s, item.e2e_s))
    return all(limit is None or (value is not None and value <= limit) for limit, value in pairs)
