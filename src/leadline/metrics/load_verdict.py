"""What a load says, from its records alone: times, rates, failures, and whether to believe them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from leadline.journal import Run
from leadline.metrics.load_statistics import Answer, LoadStatistics, describe_load
from leadline.metrics.measures import NS, Measures, measure
from leadline.metrics.sampling import ServerSummary, during, read_samples, summarise_server
from leadline.metrics.statistics import Quantiles, quantiles
from leadline.records import Record, Strain
from leadline.spec import PromptForm

LOAD_SCHEMA = "leadline.load/1"

# Above these, what is reported may be the client's own doing.
MOST_CPU_SHARE = 0.9
MOST_LAG_S = 0.005
MOST_LATE_S = 0.01

_WHOLE = ("stop", "length")


class LoadSettings(BaseModel):
    """What was asked for; ``campaign.yaml`` of a run made by ``leadline bench``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str
    model: str
    engine: str | None = None
    tokenizer: str | None = None
    api_key_env: str | None = None
    input_tokens: Annotated[int, Field(ge=1)] = 1000
    output_tokens: Annotated[int, Field(ge=1)] = 200
    prompt_as: PromptForm = "ids"
    corpus: str = "kjv"
    requests: Annotated[int, Field(ge=1)]
    concurrency: Annotated[int, Field(ge=1)] | None = None
    """Users of a closed loop; else ``rate`` or ``trace`` drives an open one."""
    rate: Annotated[float, Field(gt=0)] | None = None
    """Requests per second."""
    arrivals: Literal["poisson", "constant", "bursts", "ramp"] = "poisson"
    burst: Annotated[int, Field(ge=1)] = 1
    """Requests that come at once, for ``bursts``."""
    last_rate: Annotated[float, Field(gt=0)] | None = None
    """Where a ``ramp`` ends."""
    trace: str | None = None
    warmup: Annotated[int, Field(ge=1)]
    """Requests before the load that are not counted."""
    first_token_s: Annotated[float, Field(gt=0)] = 600.0
    between_tokens_s: Annotated[float, Field(gt=0)] = 120.0
    ttft_goal_s: Annotated[float, Field(gt=0)] | None = None
    itl_goal_s: Annotated[float, Field(gt=0)] | None = None
    seed: int


class LoadVerdict(BaseModel):
    """Times over answered requests only; a failed request is counted, never averaged."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    started: str
    settings: LoadSettings
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
    goodput_per_s: float | None
    """Answered requests within the goals, per second: TTFT, and 99 % of its own gaps."""
    late_s: Quantiles | None
    """Real minus intended send time of an open loop."""
    strain: Strain | None
    statistics: LoadStatistics | None = None
    """Intervals, the steady window, outliers."""
    server: ServerSummary | None = None
    """What the server's own metrics said meanwhile."""

    @property
    def exit_code(self) -> int:
        if self.status == "pass":
            return 0
        return 2 if self.sent and not self.answered else 1


def judge_load(run: Run) -> LoadVerdict:
    """Everything that the journal of one load supports, derived afresh."""
    text = (run.path / "campaign.yaml").read_text(encoding="utf-8")
    settings = LoadSettings.model_validate_json(text)
    records = [record for record in run.records() if record.purpose == "trial"]
    ends = [event for event in run.events() if event["event"] == "load_ended"]
    strain = Strain.model_validate(ends[-1]["strain"]) if ends else None
    problems = [_problem(record) for record in records]
    sound = [record for record, found in zip(records, problems, strict=True) if found is None]
    measures = [measure(record.exchange) for record in sound]
    late = quantiles(_late_s(record) for record in records) if _is_open(settings) else None
    wall_s = _wall_s(records)
    status, reason = _conclude(settings, len(records), len(sound), strain, late)
    good = sum(_is_good(item, settings) for item in measures)
    has_goals = _has_goals(settings)
    return LoadVerdict(
        run_id=run.facts["id"],
        started=run.facts["started"],
        settings=settings,
        status=status,
        reason=reason,
        sent=len(records),
        answered=len(sound),
        failures=dict(Counter(kind for kind, _ in filter(None, problems))),
        examples=dict(reversed([found for found in problems if found])),
        ttft_s=quantiles(item.ttft_s for item in measures),
        itl_s=quantiles(gap for item in measures for gap in item.itl_s),
        chunk_gaps_s=quantiles(gap for item in measures for gap in item.chunk_gaps_s),
        tpot_s=quantiles(item.tpot_s for item in measures),
        e2e_s=quantiles(item.e2e_s for item in measures),
        wall_s=wall_s,
        requests_per_s=len(sound) / wall_s if wall_s else None,
        output_tokens_per_s=_output_tokens(measures) / wall_s if wall_s else None,
        goodput_per_s=good / wall_s if wall_s and has_goals else None,
        late_s=late,
        strain=strain,
        statistics=describe_load(_answers(records, problems, settings), has_goals=has_goals),
        server=summarise_server(during(records, read_samples(run))),
    )


def _answers(
    records: Sequence[Record], problems: Sequence[object], settings: LoadSettings
) -> list[Answer]:
    """Each request with its measures, or with none where it was not answered as asked."""
    found = []
    for record, problem in zip(records, problems, strict=True):
        measures = None if problem else measure(record.exchange)
        good = measures is not None and _is_good(measures, settings)
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
    settings: LoadSettings, sent: int, answered: int, strain: Strain | None, late: Quantiles | None
) -> tuple[Literal["pass", "fail", "inconclusive"], str]:
    if strain is None or sent < settings.requests:
        return "inconclusive", f"interrupted after {sent} of {settings.requests} requests"
    if answered < sent:
        return "fail", f"{sent - answered} of {sent} requests were not answered as asked"
    if excess := _excess(strain, late):
        return "inconclusive", f"the client was the bottleneck: {excess}"
    return "pass", ""


def _excess(strain: Strain, late: Quantiles | None) -> str:
    """What the client was late with; such times are not the server's alone."""
    if strain.cpu_share > MOST_CPU_SHARE:
        return f"it used {strain.cpu_share:.0%} of its core"
    if strain.lag_p99_s > MOST_LAG_S:
        return f"its event loop lagged by {strain.lag_p99_s * 1e3:.1f} ms (p99)"
    if late and late.p99 > MOST_LATE_S:
        return f"it sent {late.p99 * 1e3:.1f} ms too late (p99)"
    return ""


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


def _is_open(settings: LoadSettings) -> bool:
    return settings.concurrency is None


def _has_goals(settings: LoadSettings) -> bool:
    return settings.ttft_goal_s is not None or settings.itl_goal_s is not None


def _is_good(item: Measures, settings: LoadSettings) -> bool:
    if settings.ttft_goal_s is not None and (item.ttft_s or np.inf) > settings.ttft_goal_s:
        return False
    gaps = item.itl_s or item.chunk_gaps_s
    if settings.itl_goal_s is None or not gaps:
        return True
    return float(np.quantile(gaps, 0.99)) <= settings.itl_goal_s
