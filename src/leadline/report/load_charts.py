"""The pictures of a load as SVG text; times run from the first request."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import altair as alt
import numpy as np

from leadline.metrics.load_verdict import LoadVerdict, outcome
from leadline.metrics.measures import NS, Measures, measure
from leadline.metrics.sampling import Sample
from leadline.metrics.timeline import in_flight, origin_ns, output_ticks, rates, spans_s
from leadline.records import Record
from leadline.report.charts import BLUE, GREY, RED, render_svg

_WIDTH, _HEIGHT = 430, 200
_BARS_HEIGHT = 260
_MOST_BARS, _MOST_POINTS, _BINS = 300, 2000, 60
_LIGHT, _SHADE = "#a5c8ff", "#dafbe1"
_OUTCOMES = alt.Scale(
    domain=["to the first token", "to the end", "failed"], range=[_LIGHT, BLUE, RED]
)

Rows = list[dict[str, Any]]


def draw_load(
    verdict: LoadVerdict, records: Sequence[Record], samples: Sequence[Sample]
) -> list[str]:
    """SVG documents, only of what there is data for."""
    if not records:
        return []
    charts = [
        _requests(records),
        _ttft(verdict, records),
        _flight(verdict, records),
        _tokens(verdict, records),
        _distributions([measure(r.exchange) for r in records if outcome(r) == "answered"]),
        *_server(verdict, samples, origin_ns(records)),
    ]
    return [render_svg(chart) for chart in charts if chart]


def request_rows(records: Sequence[Record]) -> Rows:
    """Each request as a bar to its first token and one to its end; a failed one as one bar."""
    zero, rows = origin_ns(records), []
    for number, (record, (start, end)) in enumerate(
        sorted(zip(records, spans_s(records), strict=True), key=lambda pair: pair[1])
    ):
        first = next((e.t_ns for e in record.exchange.events if e.text), None)
        if outcome(record) != "answered" or first is None:
            rows.append({"n": number, "from": start, "to": end, "part": "failed"})
            continue
        first_s = (first - zero) * NS
        rows.append({"n": number, "from": start, "to": first_s, "part": "to the first token"})
        rows.append({"n": number, "from": first_s, "to": end, "part": "to the end"})
    return rows


def ttft_rows(records: Sequence[Record], outlying: Collection[int]) -> Rows:
    """Each answered request by its start; of many, some, but every outlier."""
    rows = [
        {"at": start, "ttft": ttft_s, "kind": "outlier" if record.trial in outlying else "other"}
        for record, (start, _) in zip(records, spans_s(records), strict=True)
        if outcome(record) == "answered" and (ttft_s := measure(record.exchange).ttft_s) is not None
    ]
    others = [row for row in rows if row["kind"] == "other"]
    return _thin(others) + [row for row in rows if row["kind"] == "outlier"]


def distribution_rows(name: str, values: Sequence[float]) -> Rows:
    """The share of values at or below each; of many, 300 quantiles."""
    shares = np.linspace(0, 1, min(len(values), _MOST_BARS))
    found = np.quantile(values, shares, method="inverted_cdf")
    return [
        {"measure": name, "value_s": float(value), "share": float(share)}
        for value, share in zip(found, shares, strict=True)
    ]


def _requests(records: Sequence[Record]) -> alt.Chart:
    step = -(-len(records) // _MOST_BARS)
    rows = [row for row in request_rows(records) if row["n"] % step == 0]
    shown = "every request" if step == 1 else f"one of {step} requests"
    return (
        alt.Chart(alt.Data(values=rows))
        .mark_rule(strokeWidth=max(1.0, min(6.0, 0.8 * _BARS_HEIGHT * step / len(records))))
        .encode(
            x=_seconds("from"),
            x2="to:Q",
            y=alt.Y("n:Q", title="request", scale=alt.Scale(reverse=True)),
            color=alt.Color("part:N", title=None, scale=_OUTCOMES, legend=_below()),
        )
        .properties(title=_title("Requests", shown), width=_WIDTH, height=_BARS_HEIGHT)
    )


def _ttft(verdict: LoadVerdict, records: Sequence[Record]) -> alt.LayerChart:
    points = (
        alt.Chart(alt.Data(values=ttft_rows(records, _outlying(verdict, "ttft_s"))))
        .mark_point(filled=True, size=28, opacity=0.7)
        .encode(
            x=_seconds("at"),
            y=alt.Y("ttft:Q", title="seconds"),
            color=alt.condition("datum.kind == 'outlier'", alt.value(RED), alt.value(BLUE)),
        )
    )
    subtitle = "by the time of sending; red: outliers, all counted"
    return _shaded(verdict, points, _title("Time to first token", subtitle))


def _flight(verdict: LoadVerdict, records: Sequence[Record]) -> alt.LayerChart:
    flight = in_flight(spans_s(records))
    rows = [
        {"at": float(at), "requests": float(n)}
        for at, n in zip(flight.at_s, flight.requests, strict=True)
    ]
    line = (
        alt.Chart(alt.Data(values=_thin(rows)))
        .mark_line(interpolate="step-after", color=BLUE)
        .encode(x=_seconds("at"), y=alt.Y("requests:Q", title="requests"))
    )
    return _shaded(verdict, line, _title("In flight", "requests sent and not yet ended"))


def _tokens(verdict: LoadVerdict, records: Sequence[Record]) -> alt.LayerChart:
    at_s, tokens = output_ticks(records)
    end_s = max(end for _, end in spans_s(records))
    middles, per_s = rates(at_s, tokens, end_s, _BINS)
    rows = [{"at": float(at), "rate": float(rate)} for at, rate in zip(middles, per_s, strict=True)]
    line = (
        alt.Chart(alt.Data(values=rows))
        .mark_line(color=BLUE)
        .encode(x=_seconds("at"), y=alt.Y("rate:Q", title="tokens/s"))
    )
    return _shaded(verdict, line, _title("Output tokens", "as they arrived, all requests together"))


def _distributions(measured: Sequence[Measures]) -> alt.FacetChart | None:
    values = {
        "TTFT": [m.ttft_s for m in measured if m.ttft_s is not None],
        "gaps (ITL)": [gap for m in measured for gap in m.itl_s or m.chunk_gaps_s],
        "E2E": [m.e2e_s for m in measured if m.e2e_s is not None],
    }
    rows = [
        row for name, found in values.items() if found for row in distribution_rows(name, found)
    ]
    if not rows:
        return None
    return (
        alt.Chart(alt.Data(values=rows))
        .mark_line(interpolate="step-after", color=BLUE)
        .encode(
            x=alt.X("value_s:Q", title="seconds", axis=alt.Axis(tickCount=3)),
            y=alt.Y("share:Q", title="share at or below", axis=alt.Axis(format="%")),
        )
        .properties(width=_WIDTH // 3 - 20, height=_HEIGHT)
        .facet(column=alt.Column("measure:N", title=None, sort=list(values)))
        .resolve_scale(x="independent")
        .properties(title=_title("Distributions", "of answered requests"))
    )


def _server(
    verdict: LoadVerdict, samples: Sequence[Sample], zero_ns: int
) -> list[alt.LayerChart | None]:
    """Queue and KV cache, each only where the server shows it."""
    rows = [
        # One that was taken before the first request still holds at its begin.
        {"at": max(0.0, (sample.t_ns - zero_ns) * NS), "gauge": name, "value": value}
        for sample in samples
        for name, value in sample.gauges.items()
    ]
    queue = [row for row in rows if row["gauge"] in {"running", "waiting"}]
    cache = [row for row in rows if row["gauge"] == "kv_usage"]
    colours = alt.Scale(domain=["running", "waiting"], range=[BLUE, RED])
    charts: list[alt.LayerChart | None] = []
    if queue:
        color = alt.Color("gauge:N", title=None, scale=colours, legend=_below())
        line = _gauge(queue, alt.Y("value:Q", title="requests"), color)
        charts.append(_shaded(verdict, line, _title("The server's queue", "by its own gauges")))
    if cache:
        share = alt.Y("value:Q", title="used", axis=alt.Axis(format="%"))
        line = _gauge(cache, share, alt.value(BLUE))
        charts.append(_shaded(verdict, line, _title("The server's KV cache", "by its own gauge")))
    return charts


def _gauge(rows: Rows, y: alt.Y, color: Any) -> alt.Chart:
    chart = alt.Chart(alt.Data(values=_thin(rows))).mark_line(interpolate="step-after")
    return chart.encode(x=_seconds("at"), y=y, color=color)


def _shaded(verdict: LoadVerdict, chart: alt.Chart, title: alt.TitleParams) -> alt.LayerChart:
    """The chart over the steady window, if there is one."""
    steady = verdict.statistics.steady if verdict.statistics else None
    spans = [{"from": steady.begin_s, "to": steady.end_s}] if steady and not steady.absent else []
    shade = (
        alt.Chart(alt.Data(values=spans))
        .mark_rect(color=_SHADE, opacity=0.6)
        .encode(x=_seconds("from"), x2="to:Q")
    )
    return alt.layer(shade, chart).properties(title=title, width=_WIDTH, height=_HEIGHT)


def _outlying(verdict: LoadVerdict, name: str) -> set[int]:
    found = verdict.statistics.outliers if verdict.statistics else ()
    return {outlier.request for outlier in found if outlier.measure == name}


def _thin(rows: Rows) -> Rows:
    """Every n-th of more rows than a picture can show."""
    return rows[:: -(-len(rows) // _MOST_POINTS)] if rows else rows


def _seconds(field: str) -> alt.X:
    return alt.X(f"{field}:Q", title="seconds")


def _below() -> alt.Legend:
    return alt.Legend(orient="bottom")


def _title(text: str, subtitle: str) -> alt.TitleParams:
    return alt.TitleParams(text, subtitle=subtitle, subtitleColor=GREY)
