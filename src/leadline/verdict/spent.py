"""What a run has taken so far: clock time and device time, from its journal alone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple

from leadline.journal import Run
from leadline.records import Record
from leadline.spec import Amounts, Budget
from leadline.verdict.schema import Spending

_BEGINS = ("run_started", "run_resumed")


class Spent(NamedTuple):
    time_s: float = 0.0
    """While a process of Leadline was at work on the run; pauses between two are not counted."""
    device_s: float = 0.0
    """Each device of each deployment, from its start to its end."""


def read_spent(run: Run) -> Spent:
    """What happened after a killed process last wrote is not known, and not counted."""
    events, records = run.events(), run.records()
    ticks = [*(_at(event) for event in events), *map(_end, records)]
    time_s = device_s = 0.0
    for begin, end in _sessions(events, ticks):
        own = [event for event in events if begin <= _at(event) <= end]
        time_s += (end - begin).total_seconds()
        device_s += sum(_device_seconds(own, end))
    return Spent(time_s, device_s)


def judge_spending(run: Run) -> Spending | None:
    """With the prices and the limits of its last start."""
    begun = [event for event in run.events() if event["event"] in _BEGINS]
    if not begun:
        return None
    budget, spent = Budget.model_validate(begun[-1].get("budget", {})), read_spent(run)
    return Spending(
        time_s=spent.time_s,
        device_hours=spent.device_s / 3600,
        usd=budget.price_usd(*spent),
        limits={name: cap for name in Amounts.model_fields if (cap := getattr(budget, name))},
        foretold=begun[0].get("estimate", {}),
    )


def _sessions(
    events: list[dict[str, Any]], ticks: list[datetime]
) -> Iterator[tuple[datetime, datetime]]:
    """From each beginning to the last thing that was written before the next."""
    begins = [_at(event) for event in events if event["event"] in _BEGINS]
    for begin, following in pairwise((*begins, None)):
        assert begin  # noqa: S101
        yield begin, max(tick for tick in ticks if begin <= tick and not _after(tick, following))


def _after(tick: datetime, following: datetime | None) -> bool:
    return following is not None and tick >= following


def _device_seconds(events: list[dict[str, Any]], end: datetime) -> Iterator[float]:
    for place, event in enumerate(events):
        if event["event"] == "deployment_starting" and event.get("devices"):
            ended = next((_at(later) for later in events[place + 1 :] if _ends(later, event)), end)
            yield (ended - _at(event)).total_seconds() * event["devices"]


def _ends(later: dict[str, Any], start: dict[str, Any]) -> bool:
    return (
        later["event"] in ("deployment_ended", "deployment_starting")
        and later["deployment"] == start["deployment"]
    )


def _at(event: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(event["at"])


def _end(record: Record) -> datetime:
    clock = record.exchange.clock
    lasted = timedelta(microseconds=(clock.end_ns - clock.start_ns) / 1000)
    return datetime.fromisoformat(clock.wall_start) + lasted
