"""A plan as one page with its two pictures: the memory of a device, context against concurrency."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from pathlib import Path

from rich.console import Console

from leadline.errors import JournalError
from leadline.journal import write_whole
from leadline.plan.schema import Plan
from leadline.report.plan_charts import draw_concurrency, draw_waterfall
from leadline.report.plan_table import render_plan
from leadline.report.template import render_template

_COLUMNS = 118


def write_plan_page(path: Path, plan: Plan, curve: Sequence[tuple[int, int]]) -> None:
    """Write the page; ``curve`` is (prompt tokens, requests of that length at once)."""
    view = {
        "plan": plan,
        "ledger": _ledger(plan),
        "charts": [draw_waterfall(plan), draw_concurrency(curve)],
    }
    if not path.parent.is_dir():
        raise JournalError("no such folder", where=str(path.parent), cure="create it first")
    write_whole(path, render_template("plan.html.j2", view))


def _ledger(plan: Plan) -> str:
    """The terminal ledger as plain text: one wording in every form."""
    out = StringIO()
    Console(file=out, width=_COLUMNS, color_system=None).print(render_plan(plan))
    return out.getvalue()
