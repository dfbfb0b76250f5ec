"""``python -m leadline.metrics.sampler``: watches a server and its devices until told to stop.

A process of its own, because a thread would share the interpreter with the client whose ticks are
measured. The plan comes on stdin as JSON, so that no credential stands in an argv; when stdin
ends, so does this process. Lines are appended to ``samples.jsonl`` and ``telemetry.jsonl``,
which nobody else writes: who started us may be killed in the middle of a line of its own.
Ticks are ``perf_counter_ns``, which is one clock for all processes of a machine.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from io import FileIO
from pathlib import Path
from time import perf_counter_ns
from urllib.parse import urlsplit

from leadline.metrics.lines import Line, scrape_line

_NICENESS = 5
_OK = 200
_LOOK_S = 5.0
_MOST_BYTES = 16 * 2**20

Measure = Callable[[], Iterable[Line]]


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal, meant for the one who started us
    os.nice(_NICENESS)
    plan = json.loads(sys.stdin.readline())
    stopped = threading.Event()
    tasks = [(threading.Event(), measure, path) for measure, path in _tasks(plan)]
    workers = [
        threading.Thread(target=_watch, args=(measure, path, plan["interval_s"], stopped, looked))
        for looked, measure, path in tasks
    ]
    for worker in workers:
        worker.start()
    try:
        for looked, *_ in tasks:
            looked.wait(_LOOK_S)  # one that failed at once will never look
        print("ready", flush=True)  # noqa: T201
        sys.stdin.read()
    finally:  # also when nobody is there any more to hear it
        stopped.set()
    for worker in workers:
        worker.join()


def _tasks(plan: Line) -> Iterable[tuple[Measure, Path]]:
    run = Path(plan["run"])
    if plan["metrics"]:
        yield (lambda: [scrape(plan["metrics"], plan["timeout_s"])]), run / "samples.jsonl"
    if plan["devices"]:
        from leadline.metrics.devices import open_devices

        devices = open_devices(plan["pid"], plan["interval_s"])
        yield devices, run / "telemetry.jsonl"


def _watch(
    measure: Measure,
    path: Path,
    interval_s: float,
    stopped: threading.Event,
    looked: threading.Event,
) -> None:
    """At once, then at each interval whatever the last one took, and once more at the end."""
    with FileIO(path, "ab") as file:
        due_ns = perf_counter_ns()
        while True:
            ended = stopped.is_set()
            for line in measure():
                _append(file, json.dumps(line).encode() + b"\n")
            looked.set()
            if ended:
                return
            due_ns = max(due_ns + int(interval_s * 1e9), perf_counter_ns())
            stopped.wait((due_ns - perf_counter_ns()) * 1e-9)


def _append(file: FileIO, line: bytes) -> None:
    """The whole line or, on a full disk, none of it; the run goes on without."""
    begin = os.fstat(file.fileno()).st_size
    try:
        written = file.write(line)
    except OSError:
        written = 0
    if written < len(line):
        os.ftruncate(file.fileno(), begin)


def scrape(metrics: Line, timeout_s: float) -> Line:
    """One look at the server's metrics; one that fails is a line too, and says why."""
    from leadline.metrics.scrape import read_counters, read_gauges

    asked_ns = perf_counter_ns()
    line: Line = {"gauges": {}, "counters": {}, "failure": None}
    try:
        text = _get(metrics["url"], metrics["headers"], timeout_s)
        line["gauges"] = read_gauges(text, metrics["gauges"])
        line["counters"] = read_counters(text, metrics["counters"])
    except (OSError, HTTPException) as error:
        line["failure"] = f"{type(error).__name__}: {error}"
    return scrape_line(asked_ns, metrics["deployment"], line)


def _get(url: str, headers: dict[str, str], timeout_s: float) -> str:
    """The text at that address, on a connection of its own."""
    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        connection.request("GET", parts.path, headers=headers)
        answer = connection.getresponse()
        body = answer.read(_MOST_BYTES)
    finally:
        connection.close()
    if answer.status != _OK:
        raise HTTPException(f"HTTP {answer.status}")
    return body.decode(errors="replace")


if __name__ == "__main__":
    main()
