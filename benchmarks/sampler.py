# ruff: noqa: INP001 - a script, not a package
"""What sampling a server's metrics costs the client whose ticks are measured.

Run ``python benchmarks/sampler.py``. The same event loop, busy as with streams, is watched in three
ways, in turns: alone, with our sampler (a process of its own), and with the same scrapes in a
thread, which is what we do not do. Lag is how late a timer of 1 ms fires. The page has the length
of vLLM's. ``--realtime`` (as root) keeps the machine's other work away from the event loop.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from leadline.engines.engine import load_engine
from leadline.metrics.sampler import scrape
from leadline.metrics.sampling import MetricsSource, sampling

VLLM = load_engine("vllm")
INTERVAL_S = 0.25  # four times as often as in a load, to see anything
EVENTS_PER_S = 20_000
PAGE_LINES = 1000
_SERVER = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
page = sys.stdin.buffer.read()
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(page)
    def log_message(self, *_): ...
server = HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10, help="of each turn")
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--realtime", action="store_true")
    options = parser.parse_args()
    if options.realtime:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    with metrics_page() as source, tempfile.TemporaryDirectory() as folder:
        arms = {
            "alone": nullcontext,
            "sampler": lambda: sampling(Path(folder), source, interval_s=INTERVAL_S),
            "thread": lambda: scraping_thread(source),
        }
        found: dict[str, list[tuple[float, ...]]] = {name: [] for name in arms}
        for _ in range(options.turns):
            for name, arm in arms.items():
                found[name].append(asyncio.run(watch(arm(), options.seconds)))
    table = Table("median of the turns", "lag p50, ms", "p99", "p99.9", "max", "CPU of the client")
    for name, turns in found.items():
        *lags, cpu = np.median(turns, axis=0)
        table.add_row(name, *(f"{1000 * lag:.3f}" for lag in lags), f"{cpu:.1%}")
    Console().print(table)


async def watch(arm: AbstractAsyncContextManager[None], seconds: float) -> tuple[float, ...]:
    """Lag p50, p99, p99.9 and highest in seconds, and the CPU share of this process."""
    async with arm:
        cpu, begun = time.process_time(), time.perf_counter()
        lags_s = await _work(seconds)
        share = (time.process_time() - cpu) / (time.perf_counter() - begun)
    return (*np.quantile(lags_s, (0.5, 0.99, 0.999, 1)), share)


async def _work(seconds: float) -> list[float]:
    lags_s, end = [], time.perf_counter() + seconds
    while (now := time.perf_counter()) < end:
        for _ in range(EVENTS_PER_S // 1000):
            await asyncio.sleep(0)
        due = now + 0.001
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        lags_s.append(max(0.0, time.perf_counter() - due))
    return lags_s


@contextmanager
def metrics_page() -> Iterator[MetricsSource]:
    """The recorded metrics of vLLM, as long as a real page is, from another process."""
    data = Path(__file__).parents[1] / "tests/data/vllm-0.32-metrics.txt"
    page = data.read_text(encoding="utf-8")
    bucket = (
        'vllm:request_prefill_time_seconds_bucket{{engine="0",le="{}",model_name="tiny"}} 1.0\n'
    )
    page += "".join(bucket.format(n) for n in range(PAGE_LINES))
    with subprocess.Popen(
        [sys.executable, "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as server:
        assert server.stdin  # noqa: S101
        assert server.stdout  # noqa: S101
        server.stdin.write(page.encode())
        server.stdin.close()
        url = f"http://127.0.0.1:{int(server.stdout.readline())}/metrics"
        yield MetricsSource("bench", url, VLLM.counters, VLLM.gauges)
        server.kill()


@asynccontextmanager
async def scraping_thread(source: MetricsSource) -> AsyncGenerator[None]:
    stopped = threading.Event()
    asked = vars(source)

    def work() -> None:
        while not stopped.wait(INTERVAL_S):
            scrape(asked, 5)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


if __name__ == "__main__":
    main()
