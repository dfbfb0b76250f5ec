"""How far this client can be trusted on this machine: a load on a server of known truth.

The server is a process of its own and logs when each token really left; what the client reports
beyond that is the client's own error.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from leadline.engines.engine import load_engine
from leadline.errors import LoadError
from leadline.launch import Endpoint
from leadline.load.answer import read_exchange
from leadline.load.arrivals import constant
from leadline.load.client import ROUTES, request_body
from leadline.load.fanout import load_closed, load_open, worst
from leadline.load.origin import request_head, resolve
from leadline.load.runner import Job
from leadline.load.spool import Spool
from leadline.load.stream import Patience
from leadline.metrics.measures import measure
from leadline.prompts.prompt import Prompt
from leadline.records import Exchange, SelfCheck, Strain

_ENGINE = load_engine("vllm")  # whose events the server sends
_PATIENCE = Patience(first_token_s=60, between_tokens_s=30)
_TTFT_S = 0.2
_LONGEST_S = 3.0
"""Of one request of the check."""
_OPEN_LOOP_S = 4.0
_END_S = 30.0
_NS = 1e-9


class Line(msgspec.Struct):
    """What the server logs of one stream."""

    stream: int
    arrived_ns: int
    sent_ns: list[int]
    gone_ns: list[int]


Truth = dict[int, Line]
"""By the number of the stream, which is also the text of its first token."""


class Errors(NamedTuple):
    """Reported minus true, in seconds: one value for each request or gap."""

    ttft_s: NDArray[np.float64]
    e2e_s: NDArray[np.float64]
    itl_s: NDArray[np.float64]
    reported_itl_s: NDArray[np.float64]
    true_itl_s: NDArray[np.float64]
    truth_s: NDArray[np.float64]
    """How surely the log itself knows when a token left."""


async def check_instrument(
    *, users: int = 0, rate: float = 0, output_tokens: int, itl_s: float, processes: int = 1
) -> SelfCheck:
    """A few seconds of the planned load, with the same client; exactly one of users and rate."""
    tokens = max(2, min(output_tokens, int(_LONGEST_S / itl_s)))
    count = 2 * users or max(10, int(rate * _OPEN_LOOP_S))
    with Spool() as spool:
        with serving(ttft_s=_TTFT_S, itl_s=itl_s, tokens=tokens) as (url, truth):
            strains = await _load(url, spool, count, tokens, users, rate, processes)
        exchanges = [read_exchange(shot.stream, _ENGINE, shot.intended_ns) for shot in spool]
    sound = [exchange for exchange in exchanges if exchange.failure is None]
    errors = compare(sound, truth)
    return SelfCheck(
        users=users,
        rate=rate,
        processes=len(strains),
        requests=count,
        output_tokens=tokens,
        itl_s=itl_s,
        failures=len(exchanges) - len(sound),
        ttft_error_p50_s=quantile(abs(errors.ttft_s), 50),
        ttft_error_p99_s=quantile(abs(errors.ttft_s), 99),
        itl_error_p50_s=quantile(abs(errors.itl_s), 50),
        itl_error_p99_s=quantile(abs(errors.itl_s), 99),
        itl_p99_error_s=abs(quantile(errors.reported_itl_s, 99) - quantile(errors.true_itl_s, 99)),
        truth_p99_s=quantile(errors.truth_s, 99),
        events_per_s=_events_per_s(sound),
        strain=worst(strains),
    )


async def _load(
    url: str, spool: Spool, count: int, tokens: int, users: int, rate: float, processes: int
) -> list[Strain]:
    origin = await resolve(url)
    prompt = Prompt(ids=[1], corpus_start=0, needles=())
    body = request_body(
        Endpoint(url, "truth"), _ENGINE, prompt, tokens, form="ids", cold=True, salt="s"
    )
    head = request_head(origin, ROUTES["ids"], {}, len(body))
    jobs = [Job(number, head, body) for number in range(count)]
    if users:
        return await load_closed(origin, jobs, users, _PATIENCE, spool, processes)
    return await load_open(origin, jobs, constant(rate, count), _PATIENCE, spool, processes)


@contextmanager
def serving(
    *options: str, ttft_s: float, itl_s: float, tokens: int, mode: str = "lockstep"
) -> Iterator[tuple[str, Truth]]:
    """The server of known truth; its log is there when the block is over. It ends with us."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "truth.jsonl"
        facts = {"mode": mode, "ttft-ms": ttft_s * 1e3, "itl-ms": itl_s * 1e3, "tokens": tokens}
        argv = [f"--{name}={value}" for name, value in facts.items()]
        command = [sys.executable, "-m", "leadline.load.truth", "--attached", f"--log={log}"]
        with subprocess.Popen(
            [*command, *argv, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as server:
            assert server.stdin  # noqa: S101
            assert server.stdout  # noqa: S101
            port = server.stdout.readline().strip()
            if not port:
                raise LoadError(
                    "the server of known truth did not start",
                    where="this machine",
                    cure="see its message above",
                )
            truth: Truth = {}
            try:
                yield f"http://127.0.0.1:{port}", truth
            finally:
                server.stdin.close()
                server.wait(_END_S)
                truth.update(read_log(log))


def read_log(path: Path) -> Truth:
    lines = msgspec.json.Decoder(Line).decode_lines(path.read_bytes())
    return {line.stream: line for line in lines}


def compare(exchanges: Sequence[Exchange], truth: Truth) -> Errors:
    """From arrival to the send of a token, and from send to send.

    Tokens that came at one tick have errors of their own, though no gap between them is reported.
    """
    ttft: list[float] = []
    e2e: list[float] = []
    seen: list[float] = []
    reported: list[float] = []
    true: list[float] = []
    widths: list[float] = []
    for exchange in exchanges:
        line = truth[int(exchange.events[0].text)]
        measures = measure(exchange)
        true_s = [(sent_ns - line.arrived_ns) * _NS for sent_ns in line.sent_ns]
        ttft.append((measures.ttft_s or 0.0) - true_s[0])
        e2e.append((measures.e2e_s or 0.0) - true_s[-1])
        ticks = [event.t_ns for event in exchange.events if event.text]
        seen += [(b - a) * _NS for a, b in pairwise(ticks)]
        reported += measures.chunk_gaps_s
        true += [b - a for a, b in pairwise(true_s)]
        widths += [(b - a) * _NS for a, b in zip(line.sent_ns, line.gone_ns, strict=False)]
    true_gaps = np.array(true)
    return Errors(
        ttft_s=np.array(ttft),
        e2e_s=np.array(e2e),
        itl_s=np.array(seen) - true_gaps,
        reported_itl_s=np.array(reported),
        true_itl_s=true_gaps,
        truth_s=np.array(widths),
    )


def quantile(values: NDArray[np.float64], percent: float) -> float:
    return float(np.percentile(values, percent)) if len(values) else float("nan")


def _events_per_s(exchanges: Sequence[Exchange]) -> float:
    """Over the time in which there were any."""
    ticks = [event.t_ns for exchange in exchanges for event in exchange.events]
    return len(ticks) / ((max(ticks) - min(ticks)) * _NS) if ticks else 0.0
