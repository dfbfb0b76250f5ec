"""The report of a run in its three forms, written into the run directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
from jinja2 import Environment, PackageLoader, StrictUndefined

from leadline.journal import Run, write_whole
from leadline.report.charts import draw_charts
from leadline.report.document import report_document
from leadline.report.view import report_view
from leadline.verdict import RunVerdict


def write_report(run: Run, verdict: RunVerdict) -> list[Path]:
    """Write ``report.html``, ``report.md`` and ``report.json``; returns their paths."""
    view = report_view(run, verdict)
    document = orjson.dumps(report_document(run, verdict), option=orjson.OPT_INDENT_2).decode()
    forms = {
        "report.html": render_template("report.html.j2", {**view, "charts": draw_charts(verdict)}),
        "report.md": render_template("report.md.j2", view),
        "report.json": document,
    }
    for name, text in forms.items():
        write_whole(run.path / name, text)
    return [run.path / name for name in forms]


def render_template(template: str, view: dict[str, Any]) -> str:
    """A template of this package, filled in; a missing variable is an error."""
    environment = Environment(
        loader=PackageLoader("leadline.report"),
        autoescape=template.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=False,
    )
    return environment.get_template(template).render(view)
