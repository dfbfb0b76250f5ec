"""A load's verdict for a terminal: one small table, and what was left out of it."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from leadline.metrics.load_verdict import LoadVerdict
from leadline.metrics.sampling import ServerSummary
from leadline.metrics.statistics import Quantiles
from leadline.report.tables import STATUS_STYLES
from leadline.units import show_rate, show_seconds

_NOTHING = "–"


def render_load(verdict: LoadVerdict) -> RenderableType:
    return Group(_times(verdict), *_lines(verdict))


def _times(verdict: LoadVerdict) -> Table:
    table = Table(
        title=Text(f"bench  run {verdict.run_id}", style="bold"),
        title_justify="left",
        caption=Text("answered requests only; start is just before each request's own connection"),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for column in ("", "p50", "p90", "p99", "highest", "values"):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    rows = {
        "TTFT": verdict.ttft_s,
        "ITL, per token": verdict.itl_s,
        "gap between chunks": verdict.chunk_gaps_s,
        "TPOT, per request": verdict.tpot_s,
        "E2E": verdict.e2e_s,
        "sent late by": verdict.late_s,
    }
    for name, values in rows.items():
        if values:
            table.add_row(name, *_cells(values))
    return table


def _cells(values: Quantiles) -> list[str]:
    times = (values.p50, values.p90, values.p99, values.high)
    return [*(show_seconds(max(0.0, time)) for time in times), f"{values.n:,}"]


def _lines(verdict: LoadVerdict) -> Iterator[Text]:
    yield Text(f"answered     {verdict.answered} of {verdict.sent}")
    for kind, count in verdict.failures.items():
        yield Text(f"  {count} {kind}: {verdict.examples[kind]}", style="red")
    requests, tokens = _rate(verdict.requests_per_s), _rate(verdict.output_tokens_per_s)
    yield Text(f"throughput   {requests} requests/s, {tokens} output tokens/s")
    if verdict.goodput_per_s is not None:
        yield Text(f"goodput      {_rate(verdict.goodput_per_s)} requests/s {_goals(verdict)}")
    yield from _more(verdict)
    yield Text(f"not counted  {verdict.settings.warmup} warm-up requests", style="dim")
    if strain := verdict.strain:
        yield Text(
            f"this client  {strain.cpu_share:.0%} of a core, event loop late by "
            f"{strain.lag_p99_s * 1e3:.1f} ms (p99), {strain.lag_max_s * 1e3:.1f} ms at most",
            style="dim",
        )
    outcome = Text(verdict.status, style=STATUS_STYLES[verdict.status])
    if verdict.reason:
        outcome.append(f"  {verdict.reason}", style="default")
    yield outcome


def _more(verdict: LoadVerdict) -> Iterator[Text]:
    """The steady window, outliers, and the server's own peaks, each in one line."""
    if found := verdict.statistics:
        steady = found.steady
        length = f"{show_seconds(steady.length_s)}, {_rate(found.steady_requests_per_s)} requests/s"
        tokens = f"{_rate(found.steady_output_tokens_per_s)} output tokens/s"
        yield Text(f"steady       {steady.absent or f'{length}, {tokens}'}")
        if found.outliers:
            worst = found.outliers[0]
            name, value = worst.measure.removesuffix("_s"), show_seconds(worst.value)
            yield Text(
                f"outliers     {len(found.outliers)}, all counted; the first: {name} of request "
                f"{worst.request}, {value} (median {show_seconds(worst.median)})"
            )
    if (server := verdict.server) and (peaks := _peaks(server)):
        yield Text(f"server       at most {', '.join(peaks)}; {server.samples} samples")


def _peaks(server: ServerSummary) -> list[str]:
    counts = {"running": server.highest_running, "waiting": server.highest_waiting}
    peaks = [f"{value:.0f} {name}" for name, value in counts.items() if value is not None]
    if server.highest_kv_usage is not None:
        peaks.append(f"{server.highest_kv_usage:.0%} of its KV cache")
    return peaks


def _goals(verdict: LoadVerdict) -> str:
    settings = verdict.settings
    goals = (("TTFT", settings.ttft_goal_s), ("99 % of gaps", settings.itl_goal_s))
    return ", ".join(f"{name} ≤ {show_seconds(goal)}" for name, goal in goals if goal)


def _rate(value: float | None) -> str:
    return _NOTHING if value is None else show_rate(value)
