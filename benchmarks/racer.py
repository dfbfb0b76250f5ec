# ruff: noqa: INP001 - a script, not a package
"""Leadline's client as one of the racers: a load, and what it reports of it in a file.

``python benchmarks/racer.py URL USERS REQUESTS RESULTS``, by ``client.py``.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

import uvloop

from leadline.engines.engine import load_engine
from leadline.launch import Endpoint
from leadline.load.answer import read_exchange
from leadline.load.client import ROUTES, request_body
from leadline.load.origin import request_head, resolve
from leadline.load.runner import Job, run_closed
from leadline.load.spool import Spool
from leadline.load.strain import no_collection
from leadline.load.stream import Patience
from leadline.metrics.measures import measure
from leadline.prompts.prompt import Prompt
from leadline.records import Exchange, Strain

ENGINE = load_engine("vllm")
PATIENCE = Patience(first_token_s=60, between_tokens_s=30)


def main(url: str, users: str, requests: str, results: str) -> None:
    begun = time.perf_counter()
    _, exchanges = load(url, int(users), int(requests))
    took_s = time.perf_counter() - begun
    measured = [measure(exchange) for exchange in exchanges]
    found = {
        "ttfts": [one.ttft_s for one in measured],
        "itls": [one.chunk_gaps_s for one in measured],
        "e2es": [one.e2e_s for one in measured],
        "events_per_s": sum(len(exchange.events) for exchange in exchanges) / took_s,
    }
    (Path(results) / "result.json").write_text(json.dumps(found))


def load(url: str, users: int, requests: int) -> tuple[Strain, list[Exchange]]:
    """All that the client does: sent, received, parsed."""

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


if __name__ == "__main__":
    main(*sys.argv[1:])
