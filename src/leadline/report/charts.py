"""The pictures of a report as SVG text: drawn by Vega-Lite, without a script in the page."""

from __future__ import annotations

from typing import Any

import altair as alt
import vl_convert

from leadline.verdict import CellVerdict, RunVerdict, Trial

_WIDTH, _HEIGHT = 430, 240
BLUE, RED, GREY = "#1f6feb", "#c4314b", "#8b949e"
_CONFIG: dict[str, Any] = {
    "background": "white",
    "font": "system-ui, Helvetica, Arial, sans-serif",
    "axis": {"gridColor": "#eaeef2", "titleFontWeight": "normal", "labelColor": "#57606a"},
    "view": {"stroke": None},
    "title": {"anchor": "start", "fontSize": 13},
}


def draw_charts(verdict: RunVerdict) -> list[str]:
    """SVG documents, only of what there is data for."""
    rows = [_row(cell, trial) for cell in verdict.cells for trial in cell.trials]
    timed = [row for row in rows if row["ttft_s"] is not None]
    needles = [n for cell in verdict.cells for trial in cell.trials for n in _needles(trial)]
    charts = []
    if timed:
        charts += [_ttft_chart(timed, _predictions(verdict)), _rate_chart(timed)]
    if needles:
        charts.append(_needle_chart(needles))
    if gaps := [gap for cell in verdict.cells for gap in _gaps(cell)]:
        charts.append(_gap_chart(gaps))
    return [render_svg(chart) for chart in charts]


def _row(cell: CellVerdict, trial: Trial) -> dict[str, Any]:
    measures = trial.measures
    return {
        "deployment": cell.deployment,
        "tokens": trial.record.sent.input_tokens,
        "ttft_s": measures.ttft_s,
        "prefill": measures.prefill_tokens_per_s,
        "decode": measures.decode_tokens_per_s,
    }


def _predictions(verdict: RunVerdict) -> list[dict[str, Any]]:
    return [
        {"tokens": cell.input_tokens, **cell.predicted_ttft_s}
        for cell in verdict.cells
        if cell.predicted_ttft_s and cell.input_tokens
    ]


def _needles(trial: Trial) -> list[dict[str, Any]]:
    sent = trial.record.sent
    return [
        {
            "tokens": f"{sent.input_tokens:,}",
            "order": sent.input_tokens,
            "depth": needle.depth_tokens / sent.input_tokens,
            "result": "found" if found else "missed",
        }
        for needle, found in zip(sent.needles, trial.found, strict=False)
    ]


def _gaps(cell: CellVerdict) -> list[dict[str, Any]]:
    return [
        {
            "tokens": f"{trial.record.sent.input_tokens:,}",
            "order": trial.record.sent.input_tokens,
            "gap_ms": gap_s * 1000,
        }
        for trial in cell.trials
        for gap_s in trial.measures.itl_s or trial.measures.chunk_gaps_s
    ]


def _tokens_axis() -> alt.X:
    return alt.X("tokens:Q", title="prompt tokens", axis=alt.Axis(format=",d"))


def _length_axis() -> alt.X:
    return alt.X(
        "tokens:N",
        title="prompt tokens",
        sort=alt.EncodingSortField("order"),
        axis=alt.Axis(labelAngle=0),
    )


def _ttft_chart(rows: list[dict[str, Any]], predicted: list[dict[str, Any]]) -> alt.LayerChart:
    seconds = alt.Y("ttft_s:Q", title="seconds")
    measured = (
        alt.Chart(alt.Data(values=rows))
        .mark_point(filled=True, size=55, opacity=0.8)
        .encode(x=_tokens_axis(), y=seconds, color=_by_deployment(rows))
    )
    bars = alt.Chart(alt.Data(values=predicted)).mark_rule(color=GREY, strokeWidth=2)
    band = bars.encode(x=_tokens_axis(), y="low:Q", y2="high:Q")
    ticks = alt.Chart(alt.Data(values=predicted)).mark_tick(color=GREY, thickness=2, size=14)
    expected = ticks.encode(x=_tokens_axis(), y=alt.Y("expected:Q", title="seconds"))
    return alt.layer(band, expected, measured).properties(
        title=alt.TitleParams(
            "Time to first token", subtitle="dots: measured; grey: predicted before the cell ran"
        ),
        width=_WIDTH,
        height=_HEIGHT,
    )


def _rate_chart(rows: list[dict[str, Any]]) -> alt.HConcatChart:
    def panel(field: str, title: str) -> alt.Chart:
        return (
            alt.Chart(alt.Data(values=[row for row in rows if row[field] is not None]))
            .mark_point(filled=True, size=55, opacity=0.8)
            .encode(
                x=_tokens_axis(),
                y=alt.Y(f"{field}:Q", title="tokens/s"),
                color=_by_deployment(rows),
            )
            .properties(title=title, width=_WIDTH // 2 - 30, height=_HEIGHT)
        )

    return alt.hconcat(panel("prefill", "Prefill rate"), panel("decode", "Decode rate"))


def _needle_chart(needles: list[dict[str, Any]]) -> alt.Chart:
    results = alt.Scale(domain=["found", "missed"], range=[BLUE, RED])
    return (
        alt.Chart(alt.Data(values=needles))
        .mark_square(size=140, opacity=0.85)
        .encode(
            x=_length_axis(),
            y=alt.Y(
                "depth:Q",
                title="depth of the needle",
                scale=alt.Scale(domain=[0, 1], reverse=True),
                axis=alt.Axis(format="%"),
            ),
            color=alt.Color("result:N", title=None, scale=results),
        )
        .properties(title="Recall by length and depth", width=_WIDTH, height=_HEIGHT)
    )


def _gap_chart(gaps: list[dict[str, Any]]) -> alt.Chart:
    return (
        alt.Chart(alt.Data(values=gaps))
        .mark_tick(color=BLUE, opacity=0.5, thickness=1.5)
        .encode(
            x=alt.X("gap_ms:Q", title="milliseconds"),
            y=alt.Y("tokens:N", title="prompt tokens", sort=alt.EncodingSortField("order")),
        )
        .properties(
            title=alt.TitleParams("Inter-token latency", subtitle="every token of every trial"),
            width=_WIDTH,
            height=_HEIGHT,
        )
    )


def _by_deployment(rows: list[dict[str, Any]]) -> Any:
    """One colour, and no legend, where there is one deployment."""
    if len({row["deployment"] for row in rows}) == 1:
        return alt.value(BLUE)
    return alt.Color("deployment:N", title=None)


def render_svg(chart: alt.TopLevelMixin) -> str:
    """The chart as an SVG document in Leadline's look."""
    specification = {**chart.to_dict(validate=False), "config": _CONFIG}
    return str(vl_convert.vegalite_to_svg(specification))
