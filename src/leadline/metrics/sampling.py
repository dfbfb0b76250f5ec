"""Starts and ends the process that samples, and reads back what it wrote."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

from leadline.children import end_with_input
from leadline.journal import Run
from leadline.metrics.lines import SAMPLE_SCHEMA
from leadline.metrics.scrape import growth
from leadline.records import Record

INTERVAL_S = 1.0
_READY_S = 5.0
_STOP_S = 10.0


@dataclass(frozen=True)
class MetricsSource:
    """Where a server shows its counters, and which of them to read; see ``Engine``."""

    deployment: str
    url: str
    counters: Mapping[str, str]
    gauges: Mapping[str, str]
    headers: Mapping[str, str] = field(default_factory=dict)


class Sample(BaseModel):
    """One look at a server's metrics, in ``samples.jsonl``."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    at: str
    t_ns: int
    """When the answer was there; the same clock as a record's."""
    asked_ns: int
    deployment: str
    gauges: dict[str, float]
    counters: dict[str, float]
    failure: str | None

    @property
    def origin(self) -> str:
        return self.deployment

    @property
    def begin_ns(self) -> int:
        """What it shows is no older."""
        return self.asked_ns


class Reading(BaseModel):
    """One line of ``telemetry.jsonl``: what one device, or the server's processes, said."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    at: str
    t_ns: int
    source: str
    """``nvml``, ``neuron``, ``process`` or ``machine``."""
    device: str
    facts: dict[str, float | str | list[str]]

    @property
    def origin(self) -> str:
        return f"{self.source} {self.device}".strip()

    @property
    def begin_ns(self) -> int:
        return self.t_ns


class ServerSummary(BaseModel):
    """What the samples of one load say of the server; a figure it does not show is ``None``."""

    model_config = ConfigDict(frozen=True)

    samples: int
    failed: int
    """Looks that were not answered: a server too busy to show its metrics."""
    highest_kv_usage: float | None
    """Share of the KV cache."""
    highest_running: float | None
    highest_waiting: float | None
    grown: dict[str, float]
    """Counters from the first to the last sample: ``preemptions``, ``cached_tokens``, …"""


@asynccontextmanager
async def sampling(
    run: Path,
    metrics: MetricsSource | None,
    *,
    pid: int | None = None,
    devices: bool = True,
    interval_s: float = INTERVAL_S,
) -> AsyncGenerator[None]:
    """Sample into the run directory for the length of the block, and once at each of its ends.

    Takes about a quarter of a second at its begin and a tenth at its end: start it before, and end
    it after what is measured. The loop runs on meanwhile: it may carry the way to the server.

    ``pid`` is a server that we started. What cannot be sampled is left out; nothing is raised.
    """
    plan = {
        "run": str(run),
        "metrics": asdict(metrics) if metrics else None,
        "pid": pid,
        "devices": devices,
        "interval_s": interval_s,
        "timeout_s": max(5.0, interval_s),
    }
    argv = (sys.executable, "-m", "leadline.metrics.sampler")
    sampler = await asyncio.create_subprocess_exec(*argv, stdin=PIPE, stdout=PIPE, stderr=DEVNULL)
    try:
        await _begin(sampler, plan)
        yield
    finally:
        await end_with_input(sampler, _STOP_S)


def read_samples(run: Run) -> list[Sample]:
    """The samples of a run; older ones stand among the looks before and after single requests."""
    lines = chain(run.lines("scrapes"), run.lines("samples"))
    return [Sample.model_validate(line) for line in lines if line.get("schema") == SAMPLE_SCHEMA]


def read_telemetry(run: Run) -> list[Reading]:
    return [Reading.model_validate(line) for line in run.lines("telemetry")]


T = TypeVar("T", Sample, Reading)


def during(records: Sequence[Record], items: Iterable[T]) -> list[T]:
    """Samples or readings from the last before the first request to the first after the last.

    One that was asked for before the end is not after it, whenever its answer was there.
    In the order of time, one origin (a server, a device) after the other.
    """
    if not records:
        return []
    begin_ns = min(record.exchange.clock.start_ns for record in records)
    end_ns = max(record.exchange.clock.end_ns for record in records)
    by_origin: dict[str, list[T]] = defaultdict(list)
    for item in sorted(items, key=lambda item: item.t_ns):
        by_origin[item.origin].append(item)
    return [x for ordered in by_origin.values() for x in _cut(ordered, begin_ns, end_ns)]


def summarise_server(samples: Sequence[Sample]) -> ServerSummary | None:
    """``None`` without any sample."""
    if not samples:
        return None
    seen = [sample for sample in samples if sample.failure is None]
    counted = [sample.counters for sample in seen]
    return ServerSummary(
        samples=len(samples),
        failed=len(samples) - len(seen),
        highest_kv_usage=_highest(seen, "kv_usage"),
        highest_running=_highest(seen, "running"),
        highest_waiting=_highest(seen, "waiting"),
        grown=growth(counted[0], counted[-1]) if counted else {},
    )


def _cut(ordered: list[T], begin_ns: int, end_ns: int) -> list[T]:
    first = sum(item.t_ns <= begin_ns for item in ordered)
    last = sum(item.begin_ns < end_ns for item in ordered)
    return ordered[max(0, first - 1) : last + 1]


def _highest(samples: Sequence[Sample], gauge: str) -> float | None:
    return max((s.gauges[gauge] for s in samples if gauge in s.gauges), default=None)


async def _begin(sampler: Process, plan: Mapping[str, Any]) -> None:
    """Returns after its first look, when its start no longer costs the machine anything."""
    assert sampler.stdin  # noqa: S101
    assert sampler.stdout  # noqa: S101
    with suppress(ConnectionError, TimeoutError):
        sampler.stdin.write(json.dumps(plan).encode() + b"\n")
        await sampler.stdin.drain()
        await asyncio.wait_for(sampler.stdout.readline(), _READY_S)
