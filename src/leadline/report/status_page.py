"""Standing services on one page of a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from rich.console import Group
from rich.text import Text

from leadline.report.phrases import NOTHING
from leadline.units import show_bytes, show_rate


class ServiceRow(NamedTuple):
    """What is shown of one service; the words are its platform's and its engine's own."""

    name: str
    state: str
    phase: str
    url: str
    engine: str
    restarts: int
    gauges: Mapping[str, float]
    rates: Mapping[str, float]
    rates_over_s: float
    cached_share: float | None
    warnings: Sequence[str]


def status_page(rows: Sequence[ServiceRow], devices: Sequence[dict[str, Any]]) -> Group:
    lines = [line for row in rows for line in _service_lines(row)]
    lines += [Text(text) for text in word_devices(devices)]
    return Group(*lines)


def word_devices(devices: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Accelerators first; the machine as a whole last."""
    for line in sorted(devices, key=lambda line: line["source"] == "machine"):
        facts = line["facts"]
        parts = [f"{line['source']} {line['device']}".strip(), str(facts.get("name", ""))]
        used, total = facts.get("memory_used_bytes"), facts.get("memory_total_bytes")
        if used is not None:
            of = f" of {show_bytes(total)}" if total else ""
            parts.append(f"memory {show_bytes(used)}{of}")
        if "busy_percent" in facts:
            parts.append(f"busy {facts['busy_percent']:.0f} %")
        if "power_w" in facts:
            parts.append(f"{facts['power_w']:.0f} W")
        if facts.get("throttle"):
            parts.append("throttled by " + ", ".join(facts["throttle"]))
        yield ", ".join(part for part in parts if part)


def _service_lines(row: ServiceRow) -> Iterator[Text]:
    restarted = f", restarted {row.restarts}x" if row.restarts else ""
    yield Text.assemble(
        (row.name, "bold"),
        f"  {row.state}{restarted}  ",
        (row.phase, "green" if row.phase == "ready" else "yellow"),
        f"  {row.url}  {row.engine}",
    )
    if row.phase == "ready":
        figures = {
            "running": _number(row.gauges.get("running")),
            "waiting": _number(row.gauges.get("waiting")),
            "KV cache used": _share(row.gauges.get("kv_usage")),
            "prompt tokens from cache": _share(row.cached_share),
            "prompt tok/s": _rate(row.rates.get("prompt_tokens")),
            "output tok/s": _rate(row.rates.get("output_tokens")),
        }
        over = f" over {row.rates_over_s:.0f} s" if row.rates else ""
        yield Text("  " + ", ".join(f"{name} {figure}" for name, figure in figures.items()) + over)
    yield from (Text(f"  ! {line}", style="yellow") for line in row.warnings)
    yield Text()


def _number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.0f}"


def _share(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.0%}"


def _rate(value: float | None) -> str:
    return NOTHING if value is None else show_rate(value)
