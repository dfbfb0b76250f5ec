"""The two forms of what is sampled while a server works; units stand in the names of the facts."""

from __future__ import annotations

from datetime import UTC, datetime
from time import perf_counter_ns
from typing import Any

SAMPLE_SCHEMA = "leadline.sample/1"
TELEMETRY_SCHEMA = "leadline.telemetry/1"

Line = dict[str, Any]


def scrape_line(asked_ns: int, deployment: str, found: Line) -> Line:
    """A look at a server's metrics, asked for at that tick and read now."""
    stamp = {**_stamp(SAMPLE_SCHEMA), "asked_ns": asked_ns}
    return {**stamp, "deployment": deployment, **found}


def telemetry_line(source: str, device: str, facts: Line) -> Line:
    """A look at a device; what it does not tell is left out."""
    known = {name: value for name, value in facts.items() if value is not None}
    return {**_stamp(TELEMETRY_SCHEMA), "source": source, "device": device, "facts": known}


def _stamp(schema: str) -> Line:
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    return {"schema": schema, "at": at, "t_ns": perf_counter_ns()}
