# ruff: noqa: INP001 - a script, not a package
"""How much of what Leadline's client reports is its own: against a server of known truth.

Run ``python benchmarks/client.py``. The server (``leadline.load.truth``) has one core, the client
the other; every reported time is compared with the server's log of when each token really left
and when, by the kernel's own time stamp, the request arrived. The figures of rivals in the first
table were measured before, on a machine of the same kind with a similar server; ``--rivals`` runs
some beside this client. A ratio is theirs by ours.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import rivals
import uvloop
from rich.console import Console
from rich.table import Table

from leadline.engines.engine import load_engine
from leadline.launch import Endpoint
from leadline.load.answer import read_exchange
from leadline.load.client import ROUTES, request_body
from leadline.load.origin import request_head, resolve
from leadline.load.runner import Job, run_closed
from leadline.load.self_check import Truth, compare
from leadline.load.self_check import quantile as q
from leadline.load.self_check import serving as serving_truth
from leadline.load.spool import Spool
from leadline.load.strain import no_collection
from leadline.load.stream import Patience
from leadline.metrics.measures import measure
from leadline.prompts.prompt import Prompt
from leadline.records import Exchange, Strain

SERVER_CORE, CLIENT_CORE = 0, 1
SERVER_OPTIONS: list[str] = []
ENGINE = load_engine("vllm")
PATIENCE = Patience(first_token_s=60, between_tokens_s=30)
MS = 1e3


class Row(NamedTuple):
    figure: str
    ours: float
    goal: float
    at_most: bool
    """Whether the goal is a ceiling rather than a floor."""
    unit: str
    rivals: dict[str, float]

    @property
    def is_reached(self) -> bool:
        return self.ours <= self.goal if self.at_most else self.ours >= self.goal


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--waves", type=int, default=3, help="requests of each of the 256 users")
    parser.add_argument("--rates", type=int, nargs="*", default=[10, 20, 40, 60, 80])
    parser.add_argument(
        "--realtime", action="store_true", help="neither side waits for other processes (root)"
    )
    parser.add_argument(
        "--rivals", nargs="*", default=[], choices=list(rivals.RIVALS), help="run these too"
    )
    parser.add_argument("--vllm", type=Path, help="an environment that has vLLM")
    options = parser.parse_args()
    console = Console()
    homes = rivals.install(options.rivals, {"vllm": options.vllm} if options.vllm else {})
    load_before = os.getloadavg()[0]
    os.sched_setaffinity(0, {CLIENT_CORE})
    if options.realtime:
        SERVER_OPTIONS.append("--realtime")
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(10))
    rows = measure_start()
    rows += measure_accuracy(options.waves)
    ladder = [climb(rate * 1000) for rate in options.rates]
    rows += measure_flood()
    show(console, rows)
    show_ladder(console, ladder)
    if homes:
        show_race(console, [race_ours(rows), *race_rivals(homes)])
    console.print(
        "rivals of the first table: measured before, one core for the client, not beside this run"
    )
    console.print(f"load average {load_before:.2f} before, {os.getloadavg()[0]:.2f} after")


# --- the parts ------------------------------------------------------------------------------


def measure_accuracy(waves: int) -> list[Row]:
    """256 users, 200 tokens at 10 ms in lockstep, first token after 200 ms.

    Memory is that of the first wave, with this script, its parsed answers and numpy.
    """
    with serving("lockstep", ttft_ms=200, itl_ms=10, tokens=200) as (url, _):
        load(url, users=256, requests=256)
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    with serving("lockstep", ttft_ms=200, itl_ms=10, tokens=200) as (url, truth):
        strain, exchanges = load(url, users=256, requests=256 * waves)
    errors = compare(exchanges, truth)
    ttft, itl = abs(errors.ttft_s) * MS, abs(errors.itl_s) * MS
    true99, reported99 = q(errors.true_itl_s, 99) * MS, q(errors.reported_itl_s, 99) * MS
    Console().print(
        f"TTFT error ms: p50 {q(ttft, 50):.3f}, p99 {q(ttft, 99):.3f}, max {ttft.max():.3f}; "
        f"ITL error ms: |p50| {q(itl, 50):.3f}, |p99| {q(itl, 99):.3f}, max {itl.max():.3f}; "
        f"the log itself (before to after a send) ms: p50 {q(errors.truth_s, 50) * MS:.3f}, "
        f"p99 {q(errors.truth_s, 99) * MS:.3f}, max {errors.truth_s.max() * MS:.3f}; "
        f"truth ITL p99 {true99:.3f}, reported {reported99:.3f}; client {strain}"
    )
    return [
        Row("TTFT error p50, 256 streams", q(ttft, 50), 0.5, True, "ms", RIVALS["ttft50"]),
        Row("TTFT error p99, 256 streams", q(ttft, 99), 0.5, True, "ms", RIVALS["ttft99"]),
        Row("ITL p99 against true p99", abs(reported99 - true99), 0.1, True, "ms", RIVALS["itl99"]),
        Row("ITL error p99, gap by gap", q(itl, 99), 0.1, True, "ms", {}),
        Row("memory, 256 streams", memory_mb, 120, True, "MB", RIVALS["memory"]),
    ]


class Step(NamedTuple):
    """One rung of the ladder."""

    asked_per_s: int
    offered_per_s: float
    e2e_error_ms: float
    true_itl99_ms: float
    itl99_ms: float
    cpu_share: float


def climb(rate: int) -> Step:
    """256 streams in lockstep whose tokens are ``rate`` a second in all; one wave."""
    itl_ms = 256 / rate * 1000
    tokens = max(100, min(1000, int(4000 / itl_ms)))
    with serving("lockstep", ttft_ms=200, itl_ms=itl_ms, tokens=tokens) as (url, truth):
        strain, exchanges = load(url, users=256, requests=256)
    errors = compare(exchanges, truth)
    first = min(line.sent_ns[0] for line in truth.values())
    last = max(line.sent_ns[-1] for line in truth.values())
    return Step(
        asked_per_s=rate,
        offered_per_s=256 * tokens / ((last - first) * 1e-9),
        e2e_error_ms=q(errors.e2e_s, 50) * MS,
        true_itl99_ms=q(errors.true_itl_s, 99) * MS,
        itl99_ms=q(errors.reported_itl_s, 99) * MS,
        cpu_share=strain.cpu_share,
    )


def measure_flood() -> list[Row]:
    """64 streams of 1000 tokens as fast as they are taken: received, parsed, in exchanges."""
    requests = 512
    with serving("flood", ttft_ms=0, itl_ms=0, tokens=1000) as (url, _):
        begun = time.perf_counter()
        strain, exchanges = load(url, users=64, requests=requests)
        took_s = time.perf_counter() - begun
    events = sum(len(exchange.events) for exchange in exchanges)
    Console().print(
        f"flood: {events} events received in {strain.wall_s:.2f} s, "
        f"parsed and recorded in {took_s:.2f} s"
    )
    rate = events / took_s
    return [Row("flood, received and parsed", rate, 400_000, False, "events/s", RIVALS["flood"])]


def measure_start() -> list[Row]:
    """From the start of the interpreter to the request at the server, best of five."""
    script = Path(__file__).resolve()
    times = []
    with serving("lockstep", ttft_ms=1, itl_ms=1, tokens=2) as (url, truth):
        for _ in range(5):
            times.append(time.perf_counter_ns())
            subprocess.run([sys.executable, script.with_name("one_request.py"), url], check=True)
    arrivals = sorted(line.arrived_ns for line in truth.values())
    best = min(arrived - begun for begun, arrived in zip(times, arrivals, strict=True))
    return [Row("start to first request", best * 1e-9, 0.4, True, "s", RIVALS["start"])]


def race_ours(rows: list[Row]) -> rivals.Outcome:
    """The same scenario and the same comparison as for the rivals: of quantiles, not of pairs.

    Start and memory are those of ``rows``: this process has done more by now than one load.
    """
    known = {row.figure: row.ours for row in rows}
    before = resource.getrusage(resource.RUSAGE_SELF)
    with serving("lockstep", ttft_ms=200, itl_ms=10, tokens=200) as (url, truth):
        begun_ns = time.perf_counter_ns()
        _, exchanges = load(url, users=256, requests=512)
        after = resource.getrusage(resource.RUSAGE_SELF)
    measured = [measure(exchange) for exchange in exchanges]
    gaps = [gap for one in measured for gap in one.chunk_gaps_s]
    reported = rivals.in_ms([one.ttft_s or 0 for one in measured], gaps)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    memory_mb, start_s = known["memory, 256 streams"], known["start to first request"]
    found = rivals.outcome("leadline", reported, truth, begun_ns, memory_mb, cpu_s)
    return found._replace(start_s=start_s)


def race_rivals(homes: dict[str, Path]) -> Iterator[rivals.Outcome]:
    with tempfile.TemporaryDirectory() as folder:
        for name, home in homes.items():
            options = [f"--core={SERVER_CORE}", *SERVER_OPTIONS]
            yield rivals.race(name, home, Path(folder), options)


# --- the load -------------------------------------------------------------------------------


def load(url: str, users: int, requests: int) -> tuple[Strain, list[Exchange]]:
    async def run(spool: Spool) -> Strain:
        endpoint = Endpoint(url, "truth")
        origin = await resolve(url)
        prompt = Prompt(ids=[1], corpus_start=0, needles=())
        body = request_body(endpoint, ENGINE, prompt, 200, form="ids", cold=True, salt="s")
        head = request_head(origin, ROUTES["ids"], {}, len(body))
        jobs = (Job(number, head, body) for number in range(requests))
        return await run_closed(origin, jobs, users, PATIENCE, spool.put)

    with Spool() as spool:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            strain = runner.run(run(spool))
        spool.finish()
        with no_collection():
            exchanges = [read_exchange(shot.stream, ENGINE, shot.intended_ns) for shot in spool]
    failed = [exchange.failure for exchange in exchanges if exchange.failure]
    if failed:
        raise SystemExit(f"{len(failed)} requests failed: {failed[0]}")
    return strain, exchanges


def serving(
    mode: str, *, ttft_ms: float, itl_ms: float, tokens: int
) -> AbstractContextManager[tuple[str, Truth]]:
    core = f"--core={SERVER_CORE}"
    return serving_truth(
        core, *SERVER_OPTIONS, ttft_s=ttft_ms / 1e3, itl_s=itl_ms / 1e3, tokens=tokens, mode=mode
    )


# --- the tables -----------------------------------------------------------------------------

# Measured on a machine of the same kind (two cores, 2.6 GHz), one core for the client.
RIVALS: dict[str, dict[str, float]] = {
    "ttft50": {"sglang Rust": 0.10, "vllm": 50, "sglang": 49, "inference-perf": 1.9,
               "guidellm": 39, "aiperf": 57},
    "ttft99": {"sglang Rust": 10.1, "vllm": 90, "sglang": 263, "inference-perf": 296,
               "guidellm": 246, "aiperf": 1027},
    "itl99": {"sglang Rust": 0.04, "vllm": 1.2, "sglang": 1.6, "inference-perf": 12.4,
              "guidellm": 0.8, "aiperf": 4.9},
    "memory": {"sglang Rust": 70, "vllm": 755, "sglang": 607, "inference-perf": 588,
               "guidellm": 1613, "aiperf": 619},
    "flood": {"sglang Rust": 454_000, "vllm": 180_000, "sglang": 175_000,
              "inference-perf": 85_700, "guidellm": 31_100, "aiperf": 36_900},
    "start": {"sglang Rust": 0.11, "vllm": 9.1, "sglang": 4.7, "inference-perf": 3.7,
              "guidellm": 10.1, "aiperf": 8.1},
}  # fmt: skip


def show(console: Console, rows: list[Row]) -> None:
    names = list(RIVALS["start"])
    table = Table(box=None, pad_edge=False)
    for column in ("", "ours", "goal", "", *(f"{name} (ratio)" for name in names)):
        table.add_column(column, justify="right")
    table.columns[0].justify = "left"
    for row in rows:
        sign = "≤" if row.at_most else "≥"
        mark = "reached" if row.is_reached else "MISSED"
        cells = [_rival(row, name) for name in names]
        ours = f"{_figure(row.ours)} {row.unit}"
        table.add_row(row.figure, ours, f"{sign} {_figure(row.goal)}", mark, *cells)
    console.print(table)


def _rival(row: Row, name: str) -> str:
    found = row.rivals.get(name)
    if found is None:
        return "–"
    ratio = found / row.ours if row.at_most else row.ours / found
    return f"{_figure(found)} ({ratio:.3g}x)"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"  # noqa: PLR2004


def show_ladder(console: Console, steps: list[Step]) -> None:
    table = Table(title="paced, 256 streams in lockstep", box=None, pad_edge=False)
    for column in (
        "tokens/s", "offered", "E2E error p50 ms", "true ITL p99 ms", "reported", "client CPU",
    ):  # fmt: skip
        table.add_column(column, justify="right")
    for step in steps:
        table.add_row(
            f"{step.asked_per_s:,}",
            f"{step.offered_per_s:,.0f}",
            f"{step.e2e_error_ms:+.2f}",
            f"{step.true_itl99_ms:.2f}",
            f"{step.itl99_ms:.2f}",
            f"{step.cpu_share:.0%}",
        )
    console.print(table)


def show_race(console: Console, outcomes: list[rivals.Outcome]) -> None:
    """Reported minus true; "x" is how many times ours."""
    table = Table(title="side by side, 256 streams of 200 tokens at 10 ms", box=None)
    for column in (
        "", "start s", "TTFT p50 ms", "TTFT p99 ms", "ITL p50 ms", "ITL p99 ms", "ITL is",
        "memory MB", "CPU s",
    ):  # fmt: skip
        table.add_column(column, justify="right")
    ours = outcomes[0]
    for it in outcomes:
        pairs = zip((*it.ttft_ms, *it.itl_ms), (*ours.ttft_ms, *ours.itl_ms), strict=True)
        biases = [f"{value:+.3f}" + _times(value, own, it is ours) for value, own in pairs]
        kind = "gap by gap" if it is ours else rivals.RIVALS[it.name].itl
        memory = f"{it.memory_mb:.0f}" + _times(it.memory_mb, ours.memory_mb, it is ours)
        table.add_row(it.name, f"{it.start_s:.2f}", *biases, kind, memory, f"{it.cpu_s:.1f}")
    console.print(table)


def _times(value: float, own: float, is_ours: bool) -> str:
    return "" if is_ours or not own else f" ({abs(value / own):.3g}x)"


if __name__ == "__main__":
    main()
