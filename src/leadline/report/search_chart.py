"""The frontier as a picture: context by concurrency, one panel for each cache mode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import altair as alt

from leadline.report.charts import BLUE, GREY, RED, render_svg
from leadline.verdict import FrontierPoint, RunVerdict

_WIDTH, _HEIGHT = 430, 240
_LOOKS = {
    "proven": (BLUE, "circle"),
    "failed": (RED, "cross"),
    "undecided": ("#bf8700", "triangle-up"),
    "predicted": (GREY, "diamond"),
}
"""Colour and shape."""


def draw_frontier(verdict: RunVerdict) -> list[str]:
    """SVG documents; none where there was no search."""
    points = [point for item in verdict.searches for point in item.points]
    groups = sorted({(point.cache, point.deployment.split("/")[0]) for point in points})
    return [render_svg(_panel(points, *group)) for group in groups]


def _panel(points: Sequence[FrontierPoint], cache: str, deployment: str) -> alt.Chart:
    shown = [p for p in points if (p.cache, p.deployment.split("/")[0]) == (cache, deployment)]
    states = [state for state in _LOOKS if any(point.state == state for point in shown)]
    title = alt.TitleParams(
        f"Frontier of {deployment}, {cache}",
        subtitle="proven and failed: real runs; predicted: the plan, before any of them",
    )
    return (
        alt.Chart(alt.Data(values=list(_rows(shown))))
        .mark_point(filled=True, opacity=0.85)
        .encode(
            x=alt.X("tokens:Q", title="prompt tokens", axis=alt.Axis(format=",d")),
            y=alt.Y("users:O", title="users at once", sort="descending"),
            color=alt.Color("state:N", title=None, scale=_scale(states, 0)),
            shape=alt.Shape("state:N", title=None, scale=_scale(states, 1)),
            # What was predicted lies beneath what was found there, and is seen around it.
            order=alt.Order("order:Q"),
            size=alt.Size("order:Q", legend=None, scale=alt.Scale(domain=[0, 1], range=[320, 80])),
        )
        .properties(title=title, width=_WIDTH, height=_HEIGHT)
    )


def _scale(states: Sequence[str], look: int) -> alt.Scale:
    return alt.Scale(domain=list(states), range=[_LOOKS[state][look] for state in states])


def _rows(points: Sequence[FrontierPoint]) -> Iterator[dict[str, object]]:
    for point in points:
        yield {
            "tokens": point.input_tokens,
            "users": point.concurrency,
            "state": point.state,
            "order": 0 if point.state == "predicted" else 1,
        }
