"""Many requests at once, against a server with a script."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence

import pytest
import uvloop
from tests.fake_server import DONE, HANG, FakeServer, Step, serving, token, usage

from leadline.engines.engine import load_engine
from leadline.load.answer import read_exchange
from leadline.load.origin import request_head, resolve
from leadline.load.runner import Job, Shot, Turnstile, run_closed, run_open
from leadline.load.stream import Patience
from leadline.records import Strain

PATIENT = Patience(first_token_s=10, between_tokens_s=10)
SHORT: Sequence[Step] = (0.02, token("a", 1, "length"), usage(3, 1), DONE)
HOLD_S = 1.0


async def run_load(
    server: FakeServer, count: int, users: int = 0, arrivals_s: Sequence[float] = ()
) -> tuple[list[Shot], Strain]:
    shots: list[Shot] = []
    async with serving(server):
        origin = await resolve(server.url)
        head = request_head(origin, "/v1/completions", {}, 2)
        jobs = [Job(number, head, b"{}") for number in range(count)]
        if users:
            strain = await run_closed(origin, jobs, users, PATIENT, shots.append)
        else:
            strain = await run_open(origin, jobs, arrivals_s, PATIENT, shots.append)
    return shots, strain


def most_at_once(shots: list[Shot]) -> int:
    begun = [(shot.stream.start_ns, 1) for shot in shots]
    ended = [(shot.stream.end_ns, -1) for shot in shots]
    running = most = 0
    for _, change in sorted(begun + ended):
        running += change
        most = max(most, running)
    return most


def test_a_closed_loop_keeps_its_users_busy_and_no_more() -> None:
    shots, _ = uvloop.run(run_load(FakeServer(SHORT), 12, users=3))
    assert sorted(shot.job.number for shot in shots) == list(range(12))
    assert all(shot.stream.failure is None for shot in shots)
    assert most_at_once(shots) == 3


def test_an_open_loop_sends_on_time_though_nothing_is_answered() -> None:
    """No coordinated omission: the server holds every answer longer than the whole schedule."""
    server = FakeServer((HOLD_S, token("a", 1, "length"), usage(3, 1), DONE))
    arrivals_s = [0, 0.02, 0.02, 0.05, 0.1]
    shots, _ = uvloop.run(run_load(server, 5, arrivals_s=arrivals_s))
    assert most_at_once(shots) == 5
    shots.sort(key=lambda shot: shot.job.number)
    first = shots[0].intended_ns
    assert [(shot.intended_ns - first) / 1e9 for shot in shots] == pytest.approx(arrivals_s)
    late_s = [(shot.stream.start_ns - shot.intended_ns) / 1e9 for shot in shots]
    assert all(0 <= late < HOLD_S / 2 for late in late_s)
    clock = read_exchange(shots[0].stream, load_engine("vllm"), shots[0].intended_ns).clock
    assert clock.intended_ns == shots[0].intended_ns
    assert clock.start_ns >= clock.intended_ns


def test_what_has_ended_is_told_though_the_load_is_interrupted() -> None:
    shots: list[Shot] = []

    async def run() -> None:
        async with serving(FakeServer((HANG,))) as server:
            origin = await resolve(server.url)
            head = request_head(origin, "/v1/completions", {}, 2)
            jobs = [Job(number, head, b"{}") for number in range(4)]
            hasty = Patience(first_token_s=0.05, between_tokens_s=1)
            load = asyncio.ensure_future(run_closed(origin, jobs, 1, hasty, shots.append))
            while not shots:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            load.cancel()
            with pytest.raises(asyncio.CancelledError):
                await load

    uvloop.run(run())
    assert 1 <= len(shots) < 4
    assert gc.isenabled()


def test_the_clients_own_lag_is_seen() -> None:
    server = FakeServer(SHORT)

    async def hold_up() -> None:
        while not server.bodies:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        begun = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() - begun < 0.1:
            pass  # what a client must never do

    async def run() -> Strain:
        load = run_load(server, 8, users=1)
        (_, strain), _ = await asyncio.gather(load, hold_up())
        return strain

    strain = uvloop.run(run())
    assert strain.lag_max_s > 0.05
    assert strain.cpu_share > 0


def test_the_turnstile_lets_one_step_through_for_each_turn_of_the_loop() -> None:
    async def run() -> list[tuple[str, int]]:
        seen: list[tuple[str, int]] = []
        turn = 0
        turnstile = Turnstile()
        for name in "abc":
            turnstile.queue(lambda name=name: seen.append((name, turn)))
        for turn in range(1, 6):  # noqa: B007  (the steps read it)
            await asyncio.sleep(0)
        return seen

    seen = uvloop.run(run())
    assert [name for name, _ in seen] == ["a", "b", "c"]
    assert len({turn for _, turn in seen}) == 3
