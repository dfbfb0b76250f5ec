"""A load's report as one HTML page and as Markdown, from its verdict and its journal."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from leadline.journal import Run
from leadline.metrics.intervals import Estimate, Summary
from leadline.metrics.load_verdict import LoadVerdict
from leadline.metrics.sampling import Reading, ServerSummary, during, read_samples, read_telemetry
from leadline.metrics.timeline import SteadyWindow
from leadline.records import Record
from leadline.report.load_charts import draw_load
from leadline.report.load_table import word_cache, word_check
from leadline.report.template import render_template
from leadline.report.view import NOTHING, environment_rows
from leadline.units import show_bytes, show_rate, show_seconds
from leadline.verdict import CellVerdict, RunVerdict

_MOST_OUTLIERS = 20
_MEASURES = {
    "ttft_s": "TTFT",
    "itl_s": "ITL, per token",
    "chunk_gaps_s": "gap between chunks",
    "tpot_s": "TPOT, per request",
    "e2e_s": "E2E",
    "longest_gap_s": "longest gap",
}
MEANINGS = {
    "TTFT": "from just before the request's own connection is opened to the first event with "
    "output",
    "ITL, per token": "each gap divided among the tokens it brought, by the server's own count",
    "TPOT": "(last output event - first) / (output tokens - tokens in the first event)",
    "interval": "95 %: Woodruff's for percentiles, bootstrap for the trimmed mean, requests drawn "
    "again whole; refused below 6 values for p50, 29 for p90, 299 for p99",
    "trimmed mean": "the mean without the lowest and the highest tenth",
    "steady window": "from the first to the last moment with at least 90 % of the usual number of "
    "requests in flight",
    "outlier": "modified z-score beyond 3.5 (median and MAD, Iglewicz and Hoaglin); named, and "
    "part of every figure",
}


def load_pages(run: Run, verdict: RunVerdict) -> dict[str, str]:
    """A page and its Markdown for each cell with a load, by file name; of a sweep the chosen."""
    pages: dict[str, str] = {}
    for cell in verdict.cells:
        if cell.load is None:
            continue
        records = _records(run, cell, cell.load)
        samples = during(records, read_samples(run))
        view = load_view(run, verdict, cell, cell.load, records)
        charts = draw_load(cell.load, records, samples)
        name = page_name(cell.cell)
        pages[f"{name}.html"] = render_template("load.html.j2", {**view, "charts": charts})
        pages[f"{name}.md"] = render_template("load.md.j2", view)
    return pages


def page_name(cell: str) -> str:
    return "load-" + re.sub(r"[^A-Za-z0-9.=-]+", "-", cell)[:100]


def _records(run: Run, cell: CellVerdict, load: LoadVerdict) -> list[Record]:
    """Those of the step that is shown, of the last attempt."""
    steps = [step.load for step in cell.sweep.steps] if cell.sweep else [load]
    step = steps.index(load) + 1
    found = [r for r in run.records() if r.cell == cell.cell and r.purpose == "load"]
    last = max((record.attempt for record in found), default=0)
    return [r for r in found if r.attempt == last and (r.step or 1) == step]


def load_view(
    run: Run, whole: RunVerdict, cell: CellVerdict, verdict: LoadVerdict, records: Sequence[Record]
) -> dict[str, Any]:
    """Template variables; every value is already a word."""
    found = verdict.statistics
    outliers = found.outliers if found else ()
    return {
        "verdict": verdict,
        "badge": {"pass": "passed", "fail": "not"}.get(verdict.status, "unfinished"),
        "pattern": _pattern(verdict),
        "rates": _rates(verdict),
        "times": _times(found.times if found else {}),
        "steady": _steady(found.steady) if found else NOTHING,
        "steady_times": _times(found.steady_times if found else {}),
        "failures": [(n, kind, verdict.examples[kind]) for kind, n in verdict.failures.items()],
        "outliers": [
            (_MEASURES[o.measure], o.request, *map(show_seconds, (o.value, o.median)), o.score)
            for o in outliers[:_MOST_OUTLIERS]
        ],
        "more_outliers": max(0, len(outliers) - _MOST_OUTLIERS),
        "server": [*_server(verdict.server), *_cache(cell)],
        "devices": _devices(during(records, read_telemetry(run))),
        "client": _client(verdict),
        "meanings": MEANINGS,
        "environment": environment_rows(run.document("environment.json")),
        "cell": cell,
        "run_id": whole.run_id,
        "started": run.facts["started"],
        "seed": run.facts.get("seed", NOTHING),
        "settings": verdict.load.model_dump_json(indent=2, exclude_none=True),
        "run_path": str(run.path),
    }


def word_estimate(estimate: Estimate, *, seconds: bool = True) -> str:
    """``53.8 ms [51.2, 57]``; the value alone where an interval is refused."""
    scale, unit = (1.0, "")
    if seconds:
        scale, unit = (1000.0, " ms") if estimate.value < 1 else (1.0, " s")
    value = f"{show_rate(estimate.value * scale)}{unit}"
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value} [{show_rate(estimate.low * scale)}, {show_rate(estimate.high * scale)}]"


def _pattern(verdict: LoadVerdict) -> str:
    return f"{verdict.requests} requests by {verdict.load}"


def _rates(verdict: LoadVerdict) -> list[tuple[str, str]]:
    rows = [
        ("answered", f"{verdict.answered} of {verdict.sent}"),
        ("requests/s", _rate(verdict.requests_per_s)),
        ("output tokens/s", _rate(verdict.output_tokens_per_s)),
    ]
    found = verdict.statistics
    if found and found.goodput_per_s:
        goals = verdict.load.goals.limits.items()
        named = ", ".join(f"{name} ≤ {show_seconds(goal)}" for name, goal in goals)
        rows.append((f"goodput/s ({named})", word_estimate(found.goodput_per_s, seconds=False)))
    if found and not found.steady.absent:
        rows += [
            ("requests/s, steady window", _rate(found.steady_requests_per_s)),
            ("output tokens/s, steady window", _rate(found.steady_output_tokens_per_s)),
        ]
    return rows


def _rate(value: float | None) -> str:
    return NOTHING if value is None else show_rate(value)


def _times(times: dict[str, Summary]) -> list[list[str]]:
    return [
        [
            _MEASURES[name],
            f"{item.n:,}",
            *map(word_estimate, (item.trimmed_mean, item.p50, item.p90, item.p99)),
            show_seconds(item.high),
        ]
        for name, item in times.items()
    ]


def _steady(steady: SteadyWindow) -> str:
    if steady.begin_s is None or steady.end_s is None:
        return f"No steady state: {steady.absent}."
    return (
        f"From {show_seconds(steady.begin_s)} to {show_seconds(steady.end_s)} after the first "
        f"request, {steady.in_flight:.1f} in flight on average; {steady.requests} requests began "
        "and ended in it."
    )


def _server(summary: ServerSummary | None) -> list[tuple[str, str]]:
    if summary is None:
        return []
    kv, grown = summary.highest_kv_usage, summary.grown
    rows = [
        ("samples", f"{summary.samples}, {summary.failed} of them not answered"),
        ("KV cache, highest use", "not shown by this server" if kv is None else f"{kv:.1%}"),
        ("running at once, highest", _count(summary.highest_running)),
        ("waiting, highest", _count(summary.highest_waiting)),
        ("preemptions", _count(grown.get("preemptions"))),
        ("prompt tokens from a cache", _count(grown.get("cached_tokens"))),
        ("prefill, summed over requests", _time(grown.get("prefill_s"))),
        ("queued, summed over requests", _time(grown.get("queue_s"))),
    ]
    return [row for row in rows if row[1] != NOTHING]


def _cache(cell: CellVerdict) -> list[tuple[str, str]]:
    return [("prefix cache", word_cache(cell.cache))] if cell.cache else []


def _count(value: float | None) -> str:
    return NOTHING if value is None else f"{value:,.0f}"


def _time(value: float | None) -> str:
    return NOTHING if value is None else show_seconds(value)


def _client(verdict: LoadVerdict) -> list[tuple[str, str]]:
    rows = []
    if strain := verdict.strain:
        lag = f"{show_seconds(strain.lag_p99_s)} (p99), {show_seconds(strain.lag_max_s)} at most"
        rows = [("share of a core", f"{strain.cpu_share:.0%}"), ("event loop late", lag)]
    if late := verdict.late_s:
        rows.append(("sent late", f"{show_seconds(max(0.0, late.p99))} (p99)"))
    if check := verdict.self_check:
        rows.append(("self-check", word_check(check)))
    return rows


def _devices(readings: Iterable[Reading]) -> list[list[str]]:
    """One row for each device: processor time and memory, and what it adds of its own."""
    by_device: dict[str, list[Reading]] = defaultdict(list)
    for reading in readings:
        by_device[reading.origin].append(reading)
    return [
        [device, _busy(found), _memory(found), _more(found)] for device, found in by_device.items()
    ]


def _busy(readings: Sequence[Reading]) -> str:
    """Mean over the readings, or processor time by wall time: 1 core is one core, fully."""
    if percents := _figures(readings, "busy_percent"):
        return f"{sum(percents) / len(percents):.0f} % busy"
    passed_s = (readings[-1].t_ns - readings[0].t_ns) * 1e-9
    for name in ("cpu_s", "cpu_busy_s"):
        used = _figures(readings, name)
        if len(used) > 1 and passed_s > 0:
            return f"{(used[-1] - used[0]) / passed_s:.2g} cores"
    return NOTHING


def _memory(readings: Sequence[Reading]) -> str:
    used = _figures(readings, "memory_used_bytes") or _figures(readings, "rss_bytes")
    whole = _figures(readings, "memory_total_bytes")
    if not used:
        return NOTHING
    return show_bytes(max(used)) + (f" of {show_bytes(whole[0])}" if whole else "")


def _more(readings: Sequence[Reading]) -> str:
    parts = []
    for name, unit in (("power_w", "W"), ("temperature_c", "°C"), ("sm_clock_mhz", "MHz")):
        if values := _figures(readings, name):
            parts.append(f"{min(values):.0f} to {max(values):.0f} {unit}")
    throttles = [reading.facts.get("throttle") or [] for reading in readings]
    if slowed := {name for names in throttles if isinstance(names, list) for name in names}:
        share = sum(map(bool, throttles)) / len(throttles)
        parts.append(f"slowed by {', '.join(sorted(slowed))} in {share:.0%} of the readings")
    return ", ".join(parts) or NOTHING


def _figures(readings: Sequence[Reading], name: str) -> list[float]:
    found = (reading.facts.get(name) for reading in readings)
    return [value for value in found if isinstance(value, int | float)]
