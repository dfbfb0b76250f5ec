"""The runs of a folder, a line each."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from leadline.errors import LeadlineError
from leadline.journal import Run, list_runs
from leadline.verdict import judge_run


def describe_runs(root: Path) -> list[dict[str, str]]:
    return [_describe(path) for path in list_runs(root)]


def _describe(path: Path) -> dict[str, str]:
    row = {"run": path.name, "campaign": path.parent.name, "started": "", "path": str(path)}
    try:
        run = Run(path)
        row["started"] = run.facts["started"][:19].replace("T", " ")
        verdict = judge_run(run)
    except LeadlineError as error:
        return {**row, "state": "damaged", "cells": error.what}
    counts = Counter(cell.status for cell in verdict.cells)
    cells = ", ".join(f"{count} {status}" for status, count in counts.items())
    return {**row, "state": "finished" if verdict.finished else "unfinished", "cells": cells}
