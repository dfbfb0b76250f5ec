"""Two pictures of a plan as SVG text: where the memory goes, how many requests fit at a length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from leadline.plan.schema import Plan
from leadline.report.charts import render_svg

_WIDTH, _BAR_HEIGHT, _CURVE_HEIGHT = 430, 26, 240
_PLACES = alt.Scale(
    domain=["in the engine's budget", "outside it", "left", "too much"],
    range=["#1f6feb", "#8b949e", "#dafbe1", "#c4314b"],
)


def draw_waterfall(plan: Plan) -> str:
    """Every term of one device from left to right, ending at what is left or too much."""
    rows = waterfall_rows(plan)
    order = [str(row["term"]) for row in rows]
    bars = (
        alt.Chart(alt.Data(values=rows))
        .mark_bar(height=_BAR_HEIGHT - 8)
        .encode(
            x=alt.X("start:Q", title="GiB of one device"),
            x2="end:Q",
            y=alt.Y("term:N", sort=order, title=None),
            color=alt.Color(
                "place:N", scale=_PLACES, title=None, legend=alt.Legend(orient="bottom")
            ),
        )
        .properties(
            title="Memory of one device (predicted)", width=_WIDTH, height=_BAR_HEIGHT * len(rows)
        )
    )
    return render_svg(bars)


def waterfall_rows(plan: Plan) -> list[dict[str, Any]]:
    """Start and end of each bar in GiB; the last one closes the device."""
    rows, filled = [], 0.0
    for term in plan.memory.terms:
        if term.place == "device":
            place = "in the engine's budget" if term.inside_budget else "outside it"
            end = filled + term.gib
            rows.append({"term": term.name, "start": filled, "end": end, "place": place})
            filled = end
    rest = "left" if filled <= plan.memory.device_gib else "too much"
    end = plan.memory.device_gib
    return [*rows, {"term": rest, "start": filled, "end": end, "place": rest}]


def draw_concurrency(curve: Sequence[tuple[int, int]]) -> str:
    """Requests at once against the length of their prompts, both axes logarithmic."""
    rows = [{"tokens": tokens, "requests": at_once} for tokens, at_once in curve if at_once]
    chart = (
        alt.Chart(alt.Data(values=rows))
        .mark_line(point=True, color="#1f6feb")
        .encode(
            x=alt.X("tokens:Q", scale=alt.Scale(type="log"), title="prompt, tokens"),
            y=alt.Y("requests:Q", scale=alt.Scale(type="log"), title="requests at once"),
        )
        .properties(
            title="Context against concurrency (predicted)", width=_WIDTH, height=_CURVE_HEIGHT
        )
    )
    return render_svg(chart)
