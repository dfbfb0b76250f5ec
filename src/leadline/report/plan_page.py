"""A plan as one page with its two pictures: the memory of a device, context against concurrency."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import altair as alt
from rich.console import Console

from leadline.errors import JournalError
from leadline.journal import write_whole
from leadline.plan.schema import Plan
from leadline.report.charts import render_svg
from leadline.report.plan_table import render_plan
from leadline.report.write import render_template

_COLUMNS = 118
_WIDTH, _HEIGHT = 460, 260


def write_plan_page(path: Path, plan: Plan, curve: Sequence[tuple[int, int]]) -> None:
    """Write the page; ``curve`` is (prompt tokens, requests of that length at once)."""
    view = {
        "plan": plan,
        "ledger": _ledger(plan),
        "charts": [render_svg(chart) for chart in (_memory_chart(plan), _curve_chart(curve))],
    }
    if not path.parent.is_dir():
        raise JournalError("no such folder", where=str(path.parent), cure="create it first")
    write_whole(path, render_template("plan.html.j2", view))


def _ledger(plan: Plan) -> str:
    """The terminal ledger as plain text: one wording in every form."""
    out = StringIO()
    Console(file=out, width=_COLUMNS, color_system=None).print(render_plan(plan))
    return out.getvalue()


def _memory_chart(plan: Plan) -> alt.LayerChart:
    """Term by term from empty to full, against what the engine may take and what there is."""
    rows = list(_steps(plan))
    bars = (
        alt.Chart(alt.Data(values=rows))
        .mark_bar()
        .encode(
            x=alt.X("name:N", title=None, sort=None, axis=alt.Axis(labelAngle=-35)),
            y=alt.Y("from:Q", title="GiB of one device"),
            y2="to:Q",
            color=alt.Color("place:N", title=None, legend=alt.Legend(orient="bottom")),
        )
    )
    lines = alt.Chart(alt.Data(values=_levels(plan))).mark_rule(strokeDash=[5, 3], color="#57606a")
    labels = (
        alt.Chart(alt.Data(values=_levels(plan)))
        .mark_text(align="left", baseline="bottom", dy=-3, fontSize=11)
        .encode(x=alt.value(4), y="gib:Q", text="name:N")
    )
    return alt.layer(bars, lines.encode(y="gib:Q"), labels).properties(
        title="Memory of one device (predicted)", width=_WIDTH, height=_HEIGHT
    )


def _steps(plan: Plan) -> list[dict[str, Any]]:
    rows, filled = [], 0.0
    for term in plan.memory.terms:
        if term.place != "device":
            continue
        place = "in the engine's budget" if term.inside_budget else "outside it"
        rows.append({"name": term.name, "from": filled, "to": filled + term.gib, "place": place})
        filled += term.gib
    return rows


def _levels(plan: Plan) -> list[dict[str, Any]]:
    return [
        {"name": "budget", "gib": plan.memory.budget_gib},
        {"name": "device", "gib": plan.memory.device_gib},
    ]


def _curve_chart(curve: Sequence[tuple[int, int]]) -> alt.Chart:
    rows = [{"tokens": tokens, "requests": requests} for tokens, requests in curve]
    return (
        alt.Chart(alt.Data(values=rows))
        .mark_line(interpolate="step-after", color="#1f6feb", strokeWidth=2)
        .encode(
            x=alt.X(
                "tokens:Q",
                title="prompt tokens",
                scale=alt.Scale(type="log", nice=False),
                axis=alt.Axis(format="~s"),
            ),
            y=alt.Y("requests:Q", title="requests at once", scale=alt.Scale(type="symlog")),
        )
        .properties(title="Context against concurrency (predicted)", width=_WIDTH, height=_HEIGHT)
    )
