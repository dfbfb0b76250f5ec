# ruff: noqa: INP001 - a script, not a package
"""Record how long real starts took, from vLLM's logs: ``record_startup.py LOG… > startup.json``.

The catalog's ``startup.json`` was made by it from the 44 logs that ``tests/plan/data`` tells of.
"""

from __future__ import annotations

import json
import re
import sys
from datetime import datetime
from pathlib import Path

STAMP = re.compile(r"\b(\d\d-\d\d \d\d:\d\d:\d\d) \[")
PARALLEL = re.compile(r"--(?P<device>[a-z0-9]+-\d+gb)--tp(?P<tp>\d+)pp(?P<pp>\d+)dp\d+")


def main(paths: list[str]) -> None:
    rows = [row for path in paths if (row := record(Path(path)))]
    json.dump({"source": SOURCE, "starts": rows}, sys.stdout, indent=1)


SOURCE = (
    "vLLM 0.19.0 on H100 80 GB, start-up logs of github.com/llm-d-incubation/llm-d-planner at "
    "d3121e0, accuracy/results/v0.19.0/logs; weights from the machine's own disk, download apart"
)


def record(path: Path) -> dict[str, str | float] | None:
    """Seconds of each phase, nothing for a start that failed."""
    text = path.read_text(errors="replace")
    layout = PARALLEL.search(path.name)
    weights = find(r"Model loading took ([\d.]+) GiB", text)
    load_s = find(r"Loading weights took ([\d.]+) seconds", text)
    init_s = find(r"init engine .* took ([\d.]+) s", text)
    if not (layout and weights and load_s and init_s):
        return None
    return {
        "log": path.name,
        "device": layout["device"],
        "ranks": int(layout["tp"]) * int(layout["pp"]),
        "weights_gib_per_rank": weights,
        "prepare_s": seconds_until(text, "Starting to load model"),
        "load_s": load_s,
        "init_s": init_s,
    }


def find(pattern: str, text: str) -> float | None:
    match = re.search(pattern, text)
    return float(match[1]) if match else None


def seconds_until(text: str, phrase: str) -> float:
    """From the first line to the one that holds the phrase."""
    line = next(line for line in text.splitlines() if phrase in line)
    first, last = (
        datetime.strptime(stamp[1], "%m-%d %H:%M:%S")  # noqa: DTZ007 - only differences count
        for stamp in (STAMP.search(text), STAMP.search(line))
        if stamp
    )
    return (last - first).total_seconds()


if __name__ == "__main__":
    main(sys.argv[1:])
