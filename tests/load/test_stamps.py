"""Ticks that do not depend on when this process comes to read."""

from __future__ import annotations

import asyncio
import socket
import sys
import time

import pytest
import uvloop
from tests.fake_server import DONE, FakeServer, serving, serving_apart, token, usage

from leadline.engines.engine import load_engine
from leadline.launch import Endpoint
from leadline.load.client import Patience, stream_completion
from leadline.load.stamps import STAMP_BYTES, arrival_ns, stamp_arrivals

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux stamps TCP")
PATIENT = Patience(first_token_s=10, between_tokens_s=10)


def connected_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    return theirs, ours


@linux
def test_a_late_reader_gets_the_time_of_arrival() -> None:
    theirs, ours = connected_pair()
    with theirs, ours:
        stamp_arrivals(ours)
        time.sleep(0.05)  # the kernel begins to stamp a moment after it is asked to
        before_ns = time.perf_counter_ns()
        theirs.send(b"token")
        after_ns = time.perf_counter_ns()
        time.sleep(0.1)
        data, notes, _, _ = ours.recvmsg(100, STAMP_BYTES)
    assert data == b"token"
    tick_ns = arrival_ns(notes, 0)
    # Of the two clocks that are compared, one is set now and then by a few microseconds.
    slack_ns = 1_000_000
    assert before_ns - slack_ns <= tick_ns <= after_ns + slack_ns


def test_without_a_stamp_it_is_now_and_a_stamp_never_goes_back_or_ahead() -> None:
    before_ns = time.perf_counter_ns()
    assert arrival_ns([], 0) >= before_ns
    stamp = int(time.time() + 3600).to_bytes(8, sys.byteorder) + bytes(8)
    assert before_ns <= arrival_ns([(1, 35, stamp)], 0) <= time.perf_counter_ns()
    assert arrival_ns([(1, 35, bytes(16))], 12345) == 12345


@linux
def test_a_client_that_is_held_up_still_knows_when_the_tokens_came() -> None:
    """The event loop is blocked while the server, in its own thread, sends."""
    script = (0.1, token("a", 1), 0.1, token("b", 2, "length"), usage(3, 2), DONE)

    async def run(server: FakeServer) -> tuple[int, list[int]]:
        endpoint = Endpoint(server.url, "m")
        engine = load_engine("vllm")
        request = stream_completion(endpoint, engine, "/v1/completions", b"{}", PATIENT)
        task = asyncio.ensure_future(request)
        while not server.bodies:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        until = time.perf_counter() + 5
        while not server.sent and time.perf_counter() < until:
            time.sleep(0.01)  # noqa: ASYNC251
        time.sleep(0.03)  # noqa: ASYNC251
        free_ns = time.perf_counter_ns()
        exchange = await task
        return free_ns, [event.t_ns for event in exchange.events]

    with serving_apart(FakeServer(script)) as server:
        free_ns, ticks = uvloop.run(run(server))
    assert len(ticks) == 2
    assert ticks[0] < free_ns
    assert ticks[0] < ticks[1]


@pytest.mark.parametrize("count", [600])
def test_hundreds_of_streams_at_once_are_all_whole(count: int) -> None:
    script = (0.05, token("a", 1), token("b", 2, "length"), usage(3, 2), DONE)

    async def run() -> list[str | None]:
        async with serving(FakeServer(script)) as server:
            endpoint, engine = Endpoint(server.url, "m"), load_engine("vllm")
            asks = [
                stream_completion(endpoint, engine, "/v1/completions", b"{}", PATIENT)
                for _ in range(count)
            ]
            exchanges = await asyncio.gather(*asks)
        return [str(exchange.failure or exchange.text) for exchange in exchanges]

    assert set(uvloop.run(run())) == {"ab"}
