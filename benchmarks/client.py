# ruff: noqa: INP001 - a script, not a package
"""How much of what Leadline's client reports is its own: against a server of known truth.

Run ``python benchmarks/client.py``. The server (``leadline.load.truth``) has one core, the client
the other; every reported time is compared with the server's log of when each token really left
and when, by the kernel's own time stamp, the request arrived. ``--race SCENARIO --rivals NAME``
runs others on the same server in the same minutes; a ratio is theirs by ours. ``--save FILE`` adds
what was found to a file of such runs, from which ``make docs`` writes the page.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import racing
import rivals
from racer import load
from record import save
from rich.console import Console
from rich.table import Table

from leadline.load.self_check import Truth, compare
from leadline.load.self_check import quantile as q
from leadline.load.self_check import serving as serving_truth
from leadline.load.stamps import has_stamps
from leadline.metrics.measures import measure, merged_share
from leadline.metrics.statistics import quantiles
from leadline.metrics.trust import find_distortion
from leadline.records import Exchange, Strain

SERVER_CORE, CLIENT_CORE = 0, 1
SERVER_OPTIONS: list[str] = []
MS = 1e3


class Row(NamedTuple):
    figure: str
    ours: float
    goal: float
    at_most: bool
    """Whether the goal is a ceiling rather than a floor."""
    unit: str

    @property
    def is_reached(self) -> bool:
        return self.ours <= self.goal if self.at_most else self.ours >= self.goal


def main() -> None:
    options = _parse()
    console = Console(width=160)
    homes = racing.install(options.rivals, dict(options.home))
    load_before = os.getloadavg()[0]
    os.sched_setaffinity(0, {CLIENT_CORE})
    if options.realtime:
        SERVER_OPTIONS.append("--realtime")
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(10))
    rows = [row for part in options.parts if part in PARTS for row in PARTS[part]()]
    rates = [rate * 1000 for rate in options.rates] if "ladder" in options.parts else []
    ladder = [climb(rate) for rate in rates for _ in range(options.times)]
    rows += judge_ladder(ladder) if ladder else []
    show(console, rows)
    show_ladder(console, ladder)
    races = {}
    for name in options.race:
        races[name] = race(name, {"leadline": Path(), **homes})
        show_race(console, name, races[name])
    loads = (load_before, os.getloadavg()[0])
    console.print("load average {:.2f} before, {:.2f} after".format(*loads))
    if options.save:
        save(options.save, loads, _as_data(options.realtime, rows, ladder, races))


def _as_data(
    realtime: bool,
    rows: list[Row],
    ladder: list[Step],
    races: dict[str, dict[str, racing.Outcome | str]],
) -> dict[str, Any]:
    return {
        "realtime": realtime,
        "figures": [{**row._asdict(), "reached": row.is_reached} for row in rows],
        "ladder": [step._asdict() for step in ladder],
        "races": {
            scenario: {
                name: {"not_run": it} if isinstance(it, str) else it._asdict()
                for name, it in outcomes.items()
            }
            for scenario, outcomes in races.items()
        },
    }


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parts = [*PARTS, "ladder"]
    parser.add_argument("--parts", nargs="*", default=parts, choices=parts, help="default: all")
    parser.add_argument("--rates", type=int, nargs="*", default=[10, 20, 40, 60, 80])
    parser.add_argument("--times", type=int, default=5, help="how often each rate is paced")
    parser.add_argument(
        "--realtime", action="store_true", help="neither side waits for other processes (root)"
    )
    parser.add_argument("--race", nargs="*", default=[], choices=list(rivals.SCENARIOS))
    parser.add_argument("--rivals", nargs="*", default=[], choices=rivals.OTHERS)
    parser.add_argument("--home", type=_home, action="append", default=[], metavar="RIVAL=PATH")
    parser.add_argument("--save", type=Path, help="add what is found to this file")
    return parser.parse_args()


def _home(text: str) -> tuple[str, Path]:
    name, _, path = text.partition("=")
    return name, Path(path)


# --- the parts ------------------------------------------------------------------------------


def measure_accuracy(waves: int = 3) -> list[Row]:
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
        Row("TTFT error p50, 256 streams", q(ttft, 50), 0.5, True, "ms"),
        Row("TTFT error p99, 256 streams", q(ttft, 99), 0.5, True, "ms"),
        Row("ITL p99 against true p99", abs(reported99 - true99), 0.1, True, "ms"),
        Row("ITL error p99, gap by gap", q(itl, 99), 0.1, True, "ms"),
        Row("memory, 256 streams", memory_mb, 120, True, "MB"),
    ]


class Step(NamedTuple):
    """One rung of the ladder."""

    asked_per_s: int
    offered_per_s: float
    e2e_error_ms: float
    true_itl99_ms: float
    itl99_ms: float
    cpu_share: float
    doubt: str
    """Why Leadline calls such a load inconclusive; empty if it does not."""

    @property
    def off_share(self) -> float:
        """How far the tail of the gaps is from what it was."""
        return abs(self.itl99_ms / self.true_itl99_ms - 1)


MOST_OFF_SHARE = 0.12


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
        doubt=_doubt(strain, exchanges),
    )


def _doubt(strain: Strain, exchanges: list[Exchange]) -> str:
    strain = strain.model_copy(update={"kernel_stamps": has_stamps()})
    measures = [measure(exchange) for exchange in exchanges]
    ttft = quantiles(each.ttft_s for each in measures)
    gaps = quantiles(gap for each in measures for gap in each.chunk_gaps_s)
    return find_distortion(strain, None, ttft, gaps, merged_share(exchanges), None)


def judge_ladder(steps: list[Step]) -> list[Row]:
    """Without distortion: the tail of the gaps is reported as it was, or not believed."""
    rows = []
    for rate in dict.fromkeys(step.asked_per_s for step in steps):
        shares = [step.off_share for step in steps if step.asked_per_s == rate]
        within = sum(share <= MOST_OFF_SHARE for share in shares)
        title = f"ITL p99 off by, {rate:,} tokens/s, median ({within} of {len(shares)} within)"
        rows.append(Row(title, median(shares) * 100, MOST_OFF_SHARE * 100, True, "%"))
    unseen = sum(step.off_share > MOST_OFF_SHARE and not step.doubt for step in steps)
    return [*rows, Row("further off, and not called inconclusive", unseen, 0, True, "loads")]


def measure_stalls() -> list[Row]:
    """As above, and the server stalls for 200 ms before every 25th token."""
    stalls = ("--stall-ms=200", "--stall-every=25")
    with serving("lockstep", *stalls, ttft_ms=200, itl_ms=10, tokens=200) as (url, truth):
        _, exchanges = load(url, users=256, requests=256)
    errors = compare(exchanges, truth)
    true99, reported99 = q(errors.true_itl_s, 99) * MS, q(errors.reported_itl_s, 99) * MS
    Console().print(f"stalls: truth ITL p99 {true99:.3f} ms, reported {reported99:.3f} ms")
    return [
        Row("ITL p99 against true p99, stalls", abs(reported99 - true99), 0.1, True, "ms"),
        Row("E2E error p99, stalls", q(abs(errors.e2e_s), 99) * MS, 0.5, True, "ms"),
    ]


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
    return [Row("flood, received and parsed", rate, 400_000, False, "events/s")]


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
    return [Row("start to first request", best * 1e-9, 0.4, True, "s")]


PARTS: dict[str, Callable[[], list[Row]]] = {
    "start": measure_start,
    "accuracy": measure_accuracy,
    "stalls": measure_stalls,
    "flood": measure_flood,
}


def race(scenario: str, homes: dict[str, Path]) -> dict[str, racing.Outcome | str]:
    options = [f"--core={SERVER_CORE}", *SERVER_OPTIONS]
    with tempfile.TemporaryDirectory() as folder:
        it = rivals.SCENARIOS[scenario]
        return {
            name: racing.race(name, home, Path(folder), it, options) for name, home in homes.items()
        }


# --- the load -------------------------------------------------------------------------------


def serving(
    mode: str, *options: str, ttft_ms: float, itl_ms: float, tokens: int
) -> AbstractContextManager[tuple[str, Truth]]:
    core = f"--core={SERVER_CORE}"
    return serving_truth(
        core,
        *SERVER_OPTIONS,
        *options,
        ttft_s=ttft_ms / 1e3,
        itl_s=itl_ms / 1e3,
        tokens=tokens,
        mode=mode,
    )


# --- the tables -----------------------------------------------------------------------------


def show(console: Console, rows: list[Row]) -> None:
    if not rows:
        return
    table = Table("", "ours", "goal", "", box=None, pad_edge=False)
    for row in rows:
        sign, mark = "≤" if row.at_most else "≥", "reached" if row.is_reached else "MISSED"
        ours = f"{_figure(row.ours)} {row.unit}"
        table.add_row(row.figure, ours, f"{sign} {_figure(row.goal)}", mark)
    console.print(table)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"  # noqa: PLR2004


def show_ladder(console: Console, steps: list[Step]) -> None:
    if not steps:
        return
    table = Table(title="paced, 256 streams in lockstep", box=None, pad_edge=False)
    for column in (
        "tokens/s", "offered", "E2E error p50 ms", "true ITL p99 ms", "reported", "client CPU",
        "doubt",
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
            "inconclusive" if step.doubt else "",
        )
    console.print(table)


def show_race(
    console: Console, scenario: str, outcomes: Mapping[str, racing.Outcome | str]
) -> None:
    """Reported minus true; "x" is how many times ours."""
    table = Table(title=f"side by side: {rivals.SCENARIOS[scenario]}", box=None)
    for column in (
        "", "start s", "TTFT p50 ms", "p99", "ITL p50 ms", "p99", "E2E p50 ms", "p99",
        "true ITL p99", "ITL is", "tokens/s", "memory MB", "CPU s",
    ):  # fmt: skip
        table.add_column(column, justify="right")
    ours = outcomes["leadline"]
    for name, it in outcomes.items():
        if isinstance(it, str) or isinstance(ours, str):
            console.print(f"{name}: NOT RUN: {it}", markup=False)
            continue
        pairs = zip(_biases(it), _biases(ours), strict=True)
        biases = [f"{value:+.3f}{_times(value, own, it is ours)}" for value, own in pairs]
        kind = rivals.RIVALS[name].itl
        memory = f"{it.memory_mb:.0f}{_times(it.memory_mb, ours.memory_mb, it is ours)}"
        rate = f"{it.tokens_per_s:,.0f}{_times(ours.tokens_per_s, it.tokens_per_s, it is ours)}"
        table.add_row(
            *(name, f"{it.start_s:.2f}", *biases, f"{it.true_itl99_ms:.2f}", kind, rate, memory),
            f"{it.cpu_s:.1f}",
        )
    console.print(table)


def _biases(it: racing.Outcome) -> tuple[float, ...]:
    return (*it.ttft_ms, *it.itl_ms, *it.e2e_ms)


def _times(value: float, own: float, is_ours: bool) -> str:
    return "" if is_ours else f" ({racing.times(value, own)})"


if __name__ == "__main__":
    main()
