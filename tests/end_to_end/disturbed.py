"""The campaign that is disturbed, one run of it at a time, and what must hold after each death."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import psutil

from leadline.journal import Run
from leadline.models.tiny_gguf import make_tiny_gguf

MARK = "LEADLINE_FAULT_TEST"
SIZES = {
    "window": 2048, "layers": 1, "heads": 2, "kv_heads": 1, "head_dim": 16, "hidden": 32,
    "intermediate": 64,
}  # fmt: skip
STREAMS = ("events", "records", "findings")
PHASES = frozenset(
    {
        "before the run", "run", "starting", "ready", "warm-up", "trial", "failed trial",
        "finding", "limits", "load", "stopping", "end",
    }
)  # fmt: skip
_PHASE_OF = {
    "run_started": "run", "run_resumed": "run", "warning": "run", "leftover_removed": "run",
    "deployment_starting": "starting", "deployment_ready": "ready", "engine_words": "ready",
    "cell_predicted": "trial", "cell_failed": "finding", "deployment_failed": "finding",
    "load_started": "load",
    "instrument_checked": "load", "load_ended": "load", "cell_loaded": "load",
    "deployment_ended": "stopping", "run_finished": "end", "finding": "finding",
    "warmup": "warm-up", "trial": "trial", "edge": "limits", "over_limit": "limits",
    "load_warmup": "load", "load": "load",
}  # fmt: skip
# The last line that is written, or not: between two that belong together, and at both ends.
_RARE = (
    ("run_started", "before"), ("deployment_failed", "after"), ("cell_failed", "after"),
    ("deployment_ended", "after"), ("over_limit", "before"), ("over_limit", "after"),
    ("run_finished", "before"), ("run_finished", "after"),
)  # fmt: skip
_GONE_S = 30.0


def make_campaign(folder: Path) -> Path:
    """Cells that pass, a cell that fails, a load, limits, and a deployment that cannot start."""
    model = make_tiny_gguf(folder / "tiny.gguf", "gqa", SIZES, "smollm2", seed=1)
    settings = {"ctx_size": 256, "threads": 1}
    load = {"workload.load.users": 2, "workload.load.requests": 6,
            "workload.load.self_check": False}  # fmt: skip
    broken = str(folder / "missing.gguf")
    corpus = folder / "corpus.txt"
    numbers = Random(1)  # noqa: S311
    corpus.write_text(" ".join(str(numbers.randrange(10**6)) for _ in range(4000)))
    campaign = {
        "name": "faults",
        "model": str(model),
        "seed": 11,
        "deployments": {
            "first": {"engine": "llamacpp", "settings": settings},
            "broken": {"engine": "llamacpp", "model": broken, "settings": settings},
            "second": {"engine": "llamacpp", "settings": {**settings, "ctx_size": 512}},
        },
        "matrix": {"include": [{"workload.input_tokens": n} for n in (32, 300)]
                   + [{"workload.input_tokens": 64, **load}]},
        "workload": {"output_tokens": 4, "repeats": 2, "needles": 0, "corpus": str(corpus)},
    }  # fmt: skip
    file = folder / "campaign.yaml"
    file.write_text(json.dumps(campaign), encoding="utf-8")
    return file


@dataclass
class Disturbed:
    """One run directory's life."""

    file: Path
    folder: Path
    mark: str = field(default_factory=lambda: uuid4().hex)
    kept: dict[str, bytes] = field(default_factory=dict)
    phases: Counter[str] = field(default_factory=Counter)
    launched: subprocess.Popen[bytes] | None = None

    def launch(self, *sabotage: str) -> subprocess.Popen[bytes]:
        module = ["tests.end_to_end.saboteur", *sabotage] if sabotage else ["leadline.cli"]
        argv = [sys.executable, "-m", *module, "run", str(self.file)]
        temporary = self.folder / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        with (self.folder / "said").open("ab") as said:
            self.launched = subprocess.Popen(
                [*argv, "--runs", str(self.folder / "runs"), "--json"],
                stdout=subprocess.DEVNULL,
                stderr=said,
                start_new_session=True,
                env={**os.environ, MARK: self.mark, "TMPDIR": str(temporary)},
            )
        return self.launched

    def kill(self, what: str) -> None:
        """``leadline`` alone, its ``group``, or its server ``too``, all without a warning."""
        assert self.launched
        servers = self.servers() if what == "too" else []
        if self.launched.poll() is None:
            (os.killpg if what == "group" else os.kill)(self.launched.pid, signal.SIGKILL)
        for server in servers:
            if server.is_running():
                server.kill()

    def note_death(self) -> None:
        """Wait until all of it is gone; nothing that was journaled may be lost."""
        assert self.launched
        self.launched.wait(_GONE_S)
        deadline = time.monotonic() + _GONE_S
        while left := list(self.processes()):
            assert time.monotonic() < deadline, f"left running: {left}"
            time.sleep(0.01)
        self.phases[self.phase()] += 1
        for stream, kept in self.kept.items():
            assert self._whole_lines(stream).startswith(kept), f"{stream}: a line was lost"
        self.kept = {stream: self._whole_lines(stream) for stream in STREAMS}

    def phase(self) -> str:
        """Of what was last journaled."""
        events = [(line["at"], line["event"]) for line in self.lines("events")]
        records = [(_ended(line), line) for line in self.lines("records")]
        if not events:
            return "before the run"
        last_event, last_record = events[-1], records[-1] if records else ("", {})
        if last_record[0] <= last_event[0]:
            return _PHASE_OF[last_event[1]]
        failed = last_record[1]["purpose"] == "trial" and last_record[1]["exchange"]["failure"]
        return "failed trial" if failed else _PHASE_OF[last_record[1]["purpose"]]

    def servers(self) -> list[psutil.Process]:
        return [p for p in self.processes() if _is_server(p)]

    def processes(self) -> Iterator[psutil.Process]:
        """Everything that came of this run, whoever is its parent by now."""
        wanted = f"{MARK}={self.mark}".encode()
        for pid in psutil.pids():
            try:
                if wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    yield psutil.Process(pid)
            except (OSError, psutil.Error):
                continue

    @property
    def run(self) -> Path | None:
        found = list((self.folder / "runs").glob("*/*/run.json"))
        assert len(found) <= 1, "it did not resume"
        return found[0].parent if found else None

    @property
    def is_finished(self) -> bool:
        return bool(self.run) and Run(self.run).is_finished

    def lines(self, stream: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._whole_lines(stream).splitlines()]

    def _whole_lines(self, stream: str) -> bytes:
        path = self.run / f"{stream}.jsonl" if self.run else None
        content = path.read_bytes() if path and path.exists() else b""
        return content[: content.rfind(b"\n") + 1]


def results(run: Disturbed) -> dict[str, Any]:
    """What was found, without times: equal for equal campaigns, however often they were killed."""
    assert run.run
    report = json.loads((run.run / "report.json").read_text(encoding="utf-8"))
    return {
        "cells": [_verdict(cell) for cell in report["cells"]],
        "trials": _requests(run.lines("records"), ("trial",)),
        "limits": _requests(run.lines("records"), ("edge", "over_limit")),
        "findings": Counter(
            (f["deployment"], f["cell"], f["code"], f["cause"]) for f in run.lines("findings")
        ),
        "finished": report["finished"],
    }


def _verdict(cell: dict[str, Any]) -> tuple[str, ...]:
    """A busy machine may strain the client of a load: that is another verdict, and no fault."""
    if cell["cause"] == "client-bound":
        return cell["cell"], "pass", ""
    return cell["cell"], cell["status"], cell["cause"]


def loads(run: Disturbed) -> Counter[str]:
    """Finished loads by cell."""
    return Counter(e["cell"] for e in run.lines("events") if e["event"] == "cell_loaded")


def _requests(records: Sequence[dict[str, Any]], purposes: tuple[str, ...]) -> Counter[Any]:
    return Counter(
        (
            record["cell"],
            record["purpose"],
            record["trial"] if record["purpose"] == "trial" else 0,
            record["sent"]["ids_sha256"] if record["purpose"] == "trial" else "",
            (record["exchange"]["usage"] or {}).get("prompt_tokens"),
            (record["exchange"]["failure"] or {}).get("kind"),
        )
        for record in records
        if record["purpose"] in purposes
    )


def draw_moments(random: Random, count: int, whole_s: float, lines: int) -> list[tuple[str, ...]]:
    """Those that chance seldom meets; of the others half by the clock, half by the journal's own
    steps; each with what is killed or how.
    """
    moments: list[tuple[str, ...]] = list(_RARE[:count])
    for number in range(count - len(moments)):
        if number % 2:
            step = random.randint(1, max(1, lines // 4))
            moments.append((str(step), random.choice(("before", "torn", "after"))))
        else:
            seconds = random.uniform(0.2, whole_s / 3)
            moments.append((f"{seconds:.3f}s", random.choice(("leadline", "group", "too"))))
    random.shuffle(moments)
    return moments


def sooner(moment: tuple[str, ...]) -> tuple[str, ...]:
    """A machine that was busy may be idle by now, and a resumed run has less to do; an event comes
    in the next run.
    """
    when, what = moment
    if (when, what) in _RARE:
        return moment
    if when.endswith("s"):
        return f"{float(when[:-1]) / 2:.3f}s", what
    return str(max(1, int(when) // 2)), what


def _ended(record: dict[str, Any]) -> str:
    """Wall time at which a request had ended, in the form of the events' own."""
    from datetime import datetime, timedelta

    clock = record["exchange"]["clock"]
    spent = timedelta(microseconds=(clock["end_ns"] - clock["start_ns"]) / 1000)
    ended = datetime.fromisoformat(clock["wall_start"]) + spent
    return ended.isoformat(timespec="milliseconds")


def _is_server(process: psutil.Process) -> bool:
    try:
        return "leadline.engines.llamacpp_server" in process.cmdline()
    except psutil.Error:
        return False
