# ruff: noqa: INP001 - a script, not a package
"""What was measured, with where and when, as data: one file of runs for each benchmark."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def save(path: Path, loads: tuple[float, float], found: dict[str, Any]) -> None:
    """One more run of the file; one with the same command is replaced.

    ``loads``: the machine's load average before and after.
    """
    script = Path(sys.argv[0]).name
    words = [word for word in sys.argv[1:] if word not in {"--save", str(path)}]
    run = {
        "command": " ".join(["python", f"benchmarks/{script}", *words]),
        "at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": machine(),
        "load_average": loads,
        **found,
    }
    runs = json.loads(path.read_text("utf-8"))["runs"] if path.exists() else []
    kept = [old for old in runs if old["command"] != run["command"]]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"runs": [*kept, _rounded(run)]}, indent=1) + "\n", "utf-8")


def machine() -> str:
    facts = Path("/proc/cpuinfo").read_text("utf-8")
    names = [line.partition(":")[2] for line in facts.splitlines() if line.startswith("model name")]
    return (
        f"{len(names)} x {names[0].strip()}, Linux {os.uname().release}, "
        f"Python {sys.version.split()[0]}"
    )


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list | tuple) else value
