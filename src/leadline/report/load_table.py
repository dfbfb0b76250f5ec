"""A load in words: its times, rates and failures, for a terminal and for a page alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from leadline.metrics.load_verdict import LoadVerdict
from leadline.metrics.sampling import ServerSummary
from leadline.metrics.statistics import Quantiles
from leadline.metrics.sweep import SweepStep, SweepVerdict
from leadline.prove.cached import CacheUse
from leadline.records import SelfCheck
from leadline.report.phrases import STATUS_STYLES, word_status
from leadline.units import show_rate, show_seconds, show_tokens
from leadline.verdict import CellVerdict

_NOTHING = "–"
_STARTS = "answered requests only; start is just before each request's own connection"


class Words(NamedTuple):
    """A table and the lines below it."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    caption: str
    lines: list[tuple[str, str]]
    """(what, its value)"""


def word_load(title: str, load: LoadVerdict, cache: CacheUse | None = None) -> Words:
    columns = ("", "p50", "p90", "p99", "highest", "values")
    lines = [*_lines(load), *([("cache", word_cache(cache))] if cache else [])]
    return Words(title, columns, list(_times(load)), _STARTS, lines)


def word_sweep(title: str, sweep: SweepVerdict) -> Words:
    """Every load that was measured, by rising load, and what that supports."""
    unit = "users" if sweep.unit == "users" else "asked/s"
    columns = (unit, "good", "tok/s", "TTFT p50", "TTFT p99", "ITL p99", "")
    rows = [_step(step, sweep) for step in sweep.steps]
    return Words(title, columns, rows, _STARTS, list(_sweep_lines(sweep)))


def word_check(check: SelfCheck) -> str:
    """The client's own error in one line."""
    how = f"{check.users} users" if check.users else f"{_rate(check.rate)} requests/s"
    ms = [f"{error * 1e3:.2f} ms" for error in (check.ttft_error_p99_s, check.itl_error_p99_s)]
    return (
        f"own error of TTFT {ms[0]}, of ITL {ms[1]} (p99), at {how} with a token each "
        f"{check.itl_s * 1e3:.0f} ms from a server of known truth"
    )


def word_cache(cache: CacheUse) -> str:
    """Asked and measured hit rate in one line."""
    asked = f"{cache.expected_rate:.2%} expected ({show_tokens(cache.expected_tokens)} tokens)"
    if cache.replayed_rate is not None and cache.replayed_tokens is not None:
        tokens = show_tokens(cache.replayed_tokens)
        asked = f"the trace has {cache.replayed_rate:.2%} ({tokens} tokens) if nothing is forgotten"
    if cache.rate is None or cache.cached_tokens is None:
        return f"{asked}, not told by this server"
    found = f"{cache.rate:.2%} found ({show_tokens(cache.cached_tokens)} tokens)"
    as_asked = "as asked" if cache.is_as_asked else "not as asked"
    return f"{found}, {asked}, by {cache.witness}: {as_asked}"


def render_loads(cell: CellVerdict) -> RenderableType:
    """The whole of a cell with a load."""
    parts: list[RenderableType] = [Text()]
    if cell.sweep:
        parts.append(_render(word_sweep(cell.cell, cell.sweep)))
    if cell.load:
        title = f"the step of {cell.load.load}" if cell.sweep else f"{cell.cell}: {cell.load.load}"
        parts.append(_render(word_load(title, cell.load, cell.cache)))
    outcome = Text(word_status(cell), style=STATUS_STYLES[cell.status])
    if cell.reason:
        outcome.append(f"  {cell.reason}", style="default")
    return Group(*parts, outcome)


def _render(words: Words) -> RenderableType:
    table = Table(
        title=Text(words.title, style="bold"),
        title_justify="left",
        caption=Text(words.caption),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for column in words.columns:
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    for row in words.rows:
        table.add_row(*row)
    return Group(table, *(Text(f"{name:<13}{value}") for name, value in words.lines))


def _times(load: LoadVerdict) -> Iterator[tuple[str, ...]]:
    rows = {
        "TTFT": load.ttft_s,
        "ITL, per token": load.itl_s,
        "gap between chunks": load.chunk_gaps_s,
        "TPOT, per request": load.tpot_s,
        "E2E": load.e2e_s,
        "sent late by": load.late_s,
    }
    for name, values in rows.items():
        if values:
            yield (name, *_cells(values))


def _cells(values: Quantiles) -> list[str]:
    times = (values.p50, values.p90, values.p99, values.high)
    return [*(show_seconds(max(0.0, time)) for time in times), f"{values.n:,}"]


def _lines(load: LoadVerdict) -> Iterator[tuple[str, str]]:
    yield "answered", f"{load.answered} of {load.sent}"
    for kind, count in load.failures.items():
        yield "", f"{count} {kind}: {load.examples[kind]}"
    requests, tokens = _rate(load.requests_per_s), _rate(load.output_tokens_per_s)
    yield "throughput", f"{requests} requests/s, {tokens} output tokens/s"
    if load.goodput_per_s is not None:
        share = f"{load.good} of {load.requests} requests"
        yield "goodput", f"{_rate(load.goodput_per_s)} requests/s, {share} {_goals(load)}"
    if load.ttft_growth is not None:
        yield "queue", f"TTFT of the last third is {load.ttft_growth:.2g} times the first's"
    yield from _more(load)
    yield "not counted", f"{load.load.warmup_requests} warm-up requests"
    if strain := load.strain:
        own = (
            f"{strain.cpu_share:.0%} of a core, event loop late by "
            f"{strain.lag_p99_s * 1e3:.1f} ms (p99), {strain.lag_max_s * 1e3:.1f} ms at most"
        )
        yield "this client", own
    if check := load.self_check:
        yield "self-check", word_check(check)


def _more(load: LoadVerdict) -> Iterator[tuple[str, str]]:
    """The steady window, outliers, and the server's own peaks, each in one line."""
    if found := load.statistics:
        steady = found.steady
        length = f"{show_seconds(steady.length_s)}, {_rate(found.steady_requests_per_s)} requests/s"
        tokens = f"{_rate(found.steady_output_tokens_per_s)} output tokens/s"
        yield "steady", steady.absent or f"{length}, {tokens}"
        if found.outliers:
            worst = found.outliers[0]
            name, value = worst.measure.removesuffix("_s"), show_seconds(worst.value)
            first = f"{name} of request {worst.request}, {value}"
            middle = f"(median {show_seconds(worst.median)})"
            yield "outliers", f"{len(found.outliers)}, all counted; the first: {first} {middle}"
    if (server := load.server) and (peaks := _peaks(server)):
        yield "server", f"at most {', '.join(peaks)}; {server.samples} samples"


def _peaks(server: ServerSummary) -> list[str]:
    counts = {"running": server.highest_running, "waiting": server.highest_waiting}
    peaks = [f"{value:.0f} {name}" for name, value in counts.items() if value is not None]
    if server.highest_kv_usage is not None:
        peaks.append(f"{server.highest_kv_usage:.0%} of its KV cache")
    return peaks


def _step(step: SweepStep, sweep: SweepVerdict) -> tuple[str, ...]:
    load = step.load
    mark = "passes" if step.passes else "fails"
    if load.status == "inconclusive":
        mark = "inconclusive"
    if step.level == sweep.largest:
        mark = "largest"
    if step.level == sweep.saturated_at:
        mark += ", saturated"
    return (
        f"{step.level:g}",
        f"{load.good}/{load.requests}",
        _rate(load.output_tokens_per_s),
        show_seconds(load.ttft_s.p50) if load.ttft_s else _NOTHING,
        show_seconds(load.ttft_s.p99) if load.ttft_s else _NOTHING,
        show_seconds(load.itl_s.p99) if load.itl_s else _NOTHING,
        mark,
    )


def _sweep_lines(sweep: SweepVerdict) -> Iterator[tuple[str, str]]:
    goals = sweep.steps[0].load.load.goals
    asked = _goals(sweep.steps[0].load) if goals.limits else "answered as asked"
    good = f"{goals.share:.0%} or more {asked}"
    if sweep.largest is None:
        yield "largest load", f"none that was measured has {good}"
    else:
        above = f"; {sweep.next_failing:g} has not" if sweep.next_failing else ""
        limit = above or f"; nothing above {sweep.steps[-1].level:g} was measured"
        yield "largest load", f"{sweep.largest:g} {_unit(sweep)}: {good}{limit}"
    if sweep.saturated_at is None:
        yield "saturation", f"not reached at {sweep.steps[-1].level:g} {_unit(sweep)}"
    else:
        gain = "no larger load brought 5 % more output tokens/s"
        yield "saturation", f"at {sweep.saturated_at:g} {_unit(sweep)}: {gain}"


def _unit(sweep: SweepVerdict) -> str:
    return "users" if sweep.unit == "users" else "requests/s"


def _goals(load: LoadVerdict) -> str:
    limits = load.load.goals.limits.items()
    return "within " + ", ".join(f"{name} ≤ {show_seconds(goal)}" for name, goal in limits)


def _rate(value: float | None) -> str:
    return _NOTHING if value is None else show_rate(value)
