"""The one place where the statistics of a load are derived from its records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from leadline.metrics.intervals import Estimate, Summary, rate, summarise
from leadline.metrics.measures import Measures
from leadline.metrics.outliers import Outlier, name_outliers
from leadline.metrics.timeline import SteadyWindow, find_steady, output_ticks, spans_s
from leadline.records import Record

Values = Callable[[Measures], Sequence[float]]


def _one(name: str) -> Values:
    def values(measures: Measures) -> Sequence[float]:
        value: float | None = getattr(measures, name)
        return () if value is None else (value,)

    return values


# Each measure of one request as its list of values; that request is the unit that is drawn again.
_MEASURES: dict[str, Values] = {
    "ttft_s": _one("ttft_s"),
    "itl_s": lambda measures: measures.itl_s,
    "chunk_gaps_s": lambda measures: measures.chunk_gaps_s,
    "tpot_s": _one("tpot_s"),
    "e2e_s": _one("e2e_s"),
}


# At most one value of each request.
_OF_ONE: dict[str, Values] = {
    **{name: _MEASURES[name] for name in ("ttft_s", "tpot_s", "e2e_s")},
    "longest_gap_s": lambda m: (max(m.chunk_gaps_s),) if m.chunk_gaps_s else (),
}


class Answer(BaseModel):
    """One counted request as statistics see it."""

    model_config = ConfigDict(frozen=True)

    record: Record
    measures: Measures | None
    """``None`` for one that was not answered as asked."""
    good: bool = False
    """Within the goals."""


class LoadStatistics(BaseModel):
    """Times in seconds, of answered requests only; rates per second."""

    model_config = ConfigDict(frozen=True)

    times: dict[str, Summary]
    """By measure: ``ttft_s``, ``itl_s``, ``chunk_gaps_s``, ``tpot_s``, ``e2e_s``."""
    goodput_per_s: Estimate | None
    steady: SteadyWindow
    steady_times: dict[str, Summary]
    """Of requests that began and ended within the steady window."""
    steady_requests_per_s: float | None
    """Answered requests that ended in the window, by its length."""
    steady_output_tokens_per_s: float | None
    """Tokens that arrived in the window, whosever they were, by its length."""
    outliers: tuple[Outlier, ...]
    """Of TTFT, TPOT, E2E and the longest gap of each request; all are part of every figure."""


def describe_load(answers: Sequence[Answer], *, has_goals: bool) -> LoadStatistics:
    """Statistics over the requests of one load, each answer its own group."""
    records = [answer.record for answer in answers]
    spans = spans_s(records)
    steady = find_steady(spans)
    inside = [answer for answer, span in zip(answers, spans, strict=True) if steady.holds(span)]
    wall_s = max((end for _, end in spans), default=0.0)
    good = sum(answer.good for answer in answers)
    return LoadStatistics(
        times=summarise_times(answers),
        goodput_per_s=rate(good, len(answers), wall_s) if has_goals else None,
        steady=steady,
        steady_times=summarise_times(inside),
        steady_requests_per_s=_ended_per_s(answers, spans, steady),
        steady_output_tokens_per_s=_tokens_per_s(answers, steady),
        outliers=name_odd({a.record.trial: a.measures for a in answers if a.measures}),
    )


def summarise_times(answers: Sequence[Answer]) -> dict[str, Summary]:
    """Each measure there is, with one group for each request."""
    measured = [answer.measures for answer in answers if answer.measures]
    found = {name: summarise([of(m) for m in measured]) for name, of in _MEASURES.items()}
    return {name: summary for name, summary in found.items() if summary}


def summarise_trials(trials: Sequence[Sequence[Measures]]) -> dict[str, Summary]:
    """Over trials: each trial with all its requests is one group."""
    found = {
        name: summarise([[x for measures in trial for x in of(measures)] for trial in trials])
        for name, of in _MEASURES.items()
    }
    return {name: summary for name, summary in found.items() if summary}


def _ended_per_s(
    answers: Sequence[Answer], spans: Sequence[tuple[float, float]], steady: SteadyWindow
) -> float | None:
    if steady.absent:
        return None
    ends = [end for answer, (_, end) in zip(answers, spans, strict=True) if answer.measures]
    return sum(steady.holds((end, end)) for end in ends) / steady.length_s


def _tokens_per_s(answers: Sequence[Answer], steady: SteadyWindow) -> float | None:
    if steady.begin_s is None or steady.end_s is None:
        return None
    at_s, tokens = output_ticks([answer.record for answer in answers])
    inside = (at_s >= steady.begin_s) & (at_s <= steady.end_s)
    return float(tokens[inside].sum()) / steady.length_s


def name_odd(measured: Mapping[int, Measures]) -> tuple[Outlier, ...]:
    """Requests, or trials, that are far from the others in a time of theirs."""
    found: list[Outlier] = []
    for name, of in _OF_ONE.items():
        values = {number: of(measures) for number, measures in measured.items()}
        found += name_outliers(name, {number: x[0] for number, x in values.items() if x})
    return tuple(found)
