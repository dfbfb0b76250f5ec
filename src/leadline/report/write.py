"""The report of a run in its three forms, written into the run directory."""

from __future__ import annotations

from pathlib import Path

import orjson

from leadline.journal import REPORT, Run, write_whole
from leadline.report.charts import draw_charts
from leadline.report.document import report_document
from leadline.report.load_page import load_pages
from leadline.report.search_chart import draw_frontier
from leadline.report.template import render_template
from leadline.report.view import report_view
from leadline.verdict import RunVerdict


def write_report(run: Run, verdict: RunVerdict) -> list[Path]:
    """Write ``report.html``, ``report.md`` and ``report.json``, and a page for each load.

    Returns their paths.
    """
    view = report_view(run, verdict)
    pictures = {"charts": draw_charts(verdict), "frontier_charts": draw_frontier(verdict)}
    document = orjson.dumps(report_document(run, verdict), option=orjson.OPT_INDENT_2).decode()
    forms = {
        "report.html": render_template("report.html.j2", {**view, **pictures}),
        "report.md": render_template("report.md.j2", view),
        **load_pages(run, verdict),
        REPORT: document,  # the last: it says that the others are there
    }
    for name, text in forms.items():
        write_whole(run.path / name, text)
    return [run.path / name for name in forms]
