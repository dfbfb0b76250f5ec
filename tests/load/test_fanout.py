"""Loads put away in a spool, by one client process and by several."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import uvloop
from aiohttp import web
from tests.fake_server import DONE, HANG, FakeServer, Step, serving, serving_apart, token, usage

from leadline.engines.engine import load_engine
from leadline.errors import LoadError
from leadline.load import fanout, limits
from leadline.load.answer import read_exchange
from leadline.load.fanout import load_closed, load_open, worst
from leadline.load.job_file import JobFile, write_jobs
from leadline.load.limits import allow_connections
from leadline.load.origin import request_head, resolve
from leadline.load.runner import Job, Shot
from leadline.load.spool import Spool, unnamed_file
from leadline.load.stream import Patience
from leadline.load.take import Take
from leadline.records import Strain

PATIENT = Patience(first_token_s=10, between_tokens_s=10)
SHORT: Sequence[Step] = (0.02, token("a", 1), token("b", 2, "length"), usage(3, 2), DONE)


async def make_jobs(url: str, count: int) -> list[Job]:
    origin = await resolve(url)
    jobs = []
    for number in range(count):
        body = f'{{"number": {number}}}'.encode()
        jobs.append(Job(number, request_head(origin, "/v1/completions", {}, len(body)), body))
    return jobs


async def run_load(
    server: FakeServer,
    count: int,
    processes: int,
    users: int = 0,
    arrivals_s: Sequence[float] = (),
) -> tuple[list[Shot], list[Strain]]:
    with Spool() as spool:
        async with serving(server):
            origin, jobs = await resolve(server.url), await make_jobs(server.url, count)
            if users:
                strains = await load_closed(origin, jobs, users, PATIENT, spool, processes)
            else:
                strains = await load_open(origin, jobs, arrivals_s, PATIENT, spool, processes)
        return list(spool), strains


@pytest.mark.parametrize("processes", [1, 3])
def test_a_closed_loop_sends_every_request_once_and_loses_no_answer(processes: int) -> None:
    server = FakeServer(SHORT)
    shots, strains = uvloop.run(run_load(server, 14, processes, users=4))
    assert sorted(body["number"] for body in server.bodies) == list(range(14))
    assert sorted(shot.job.number for shot in shots) == list(range(14))
    assert len(strains) == processes
    for shot in shots:
        exchange = read_exchange(shot.stream, load_engine("vllm"), shot.intended_ns)
        assert exchange.failure is None
        assert [event.text for event in exchange.events] == ["a", "b"]
        assert exchange.clock.start_ns < exchange.events[0].t_ns


@pytest.mark.parametrize("processes", [1, 3])
def test_what_was_put_away_comes_back_in_the_order_of_sending(processes: int) -> None:
    shots, _ = uvloop.run(run_load(FakeServer(SHORT), 9, processes, users=3))
    starts = [shot.stream.start_ns for shot in shots]
    assert len(starts) == 9
    assert starts == sorted(starts)


def test_several_processes_keep_one_time_table() -> None:
    arrivals_s = [0.0, 0.01, 0.01, 0.05, 0.08, 0.1]
    shots, _ = uvloop.run(run_load(FakeServer(SHORT), 6, 2, arrivals_s=arrivals_s))
    shots.sort(key=lambda shot: shot.job.number)
    first = shots[0].intended_ns
    assert [(shot.intended_ns - first) / 1e9 for shot in shots] == pytest.approx(arrivals_s)
    assert all(shot.stream.start_ns >= shot.intended_ns for shot in shots)


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("users", [0, 2])
def test_turns_of_a_conversation_wait_for_the_answer_before_in_order(
    processes: int, users: int
) -> None:
    async def run() -> list[Shot]:
        with Spool() as spool:
            async with serving(FakeServer(SHORT)) as server:
                origin, jobs = await resolve(server.url), await make_jobs(server.url, 9)
                jobs = [job._replace(more=job.number % 3 < 2) for job in jobs]
                if users:
                    await load_closed(origin, jobs, users, PATIENT, spool, processes)
                else:
                    times = [0.0, 0.01, 0.02]
                    await load_open(origin, jobs, times, PATIENT, spool, processes)
            return sorted(spool, key=lambda shot: shot.job.number)

    shots = uvloop.run(run())
    assert [shot.job.number for shot in shots] == list(range(9))
    for first, second, third in zip(shots[::3], shots[1::3], shots[2::3], strict=True):
        assert first.stream.end_ns <= second.stream.start_ns
        assert second.stream.end_ns <= third.stream.start_ns
    # Conversations themselves do not wait for each other.
    assert shots[3].stream.start_ns < shots[2].stream.start_ns


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def hanging_load(url: str, spool: Spool) -> None:
    """Its first answers come, the later ones never: see ``HALF``."""
    await load_closed(await resolve(url), await make_jobs(url, 8), 4, PATIENT, spool, 2)


class Half(FakeServer):
    """Answers the first two requests, then nobody."""

    async def completions(self, request: web.Request) -> web.StreamResponse:
        if len(self.bodies) >= 2:
            self.script = (HANG,)
        return await super().completions(request)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  (other processes know no event of ours)
        await asyncio.sleep(0.02)


def test_a_dead_process_is_a_clear_failure_and_the_answers_so_far_are_kept() -> None:
    async def run(spool: Spool) -> None:
        async with serving(Half(SHORT)) as server:
            load = asyncio.ensure_future(hanging_load(server.url, spool))
            await until(lambda: len(server.bodies) >= 6)
            os.kill(children(os.getpid())[0], signal.SIGKILL)
            await load

    with Spool() as spool:
        with pytest.raises(LoadError, match=r"client process 1 of 2 ended with code -9"):
            uvloop.run(run(spool))
        assert len(spool) == 2
        assert {shot.stream.failure for shot in spool} == {None}
    assert children(os.getpid()) == []


def test_an_interrupted_load_leaves_no_process_and_keeps_what_had_ended() -> None:
    async def run(spool: Spool) -> None:
        async with serving(Half(SHORT)) as server:
            load = asyncio.ensure_future(hanging_load(server.url, spool))
            await until(lambda: len(server.bodies) >= 6)
            load.cancel()
            with pytest.raises(asyncio.CancelledError):
                await load

    with Spool() as spool:
        uvloop.run(run(spool))
        assert len(spool) == 2
    assert children(os.getpid()) == []


PARENT = """
import asyncio, sys
from tests.load.test_fanout import hanging_load
from leadline.load.spool import Spool
with Spool() as spool:
    asyncio.run(hanging_load(sys.argv[1], spool))
"""


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def test_no_process_outlives_a_parent_that_was_killed() -> None:
    async def run(url: str, server: FakeServer) -> None:
        parent = subprocess.Popen([sys.executable, "-c", PARENT, url], cwd=Path.cwd())  # noqa: ASYNC220
        try:
            await until(lambda: len(server.bodies) >= 6)
            workers = children(parent.pid)
            assert len(workers) == 2
        finally:
            parent.kill()
            parent.wait()
        async with asyncio.timeout(10):
            await until(lambda: not any(is_alive(pid) for pid in workers))

    with serving_apart(Half(SHORT)) as server:
        asyncio.run(run(server.url, server))


def test_processes_that_never_become_ready_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "_READY_S", 0.001)
    with pytest.raises(LoadError, match="the 2 client processes were not ready"):
        uvloop.run(run_load(FakeServer(SHORT), 4, 2, users=2))
    assert children(os.getpid()) == []


def test_the_worst_of_each_figure_is_judged() -> None:
    first = Strain(wall_s=2, cpu_share=0.9, lag_p99_s=0.001, lag_max_s=0.2)
    second = Strain(wall_s=3, cpu_share=0.2, lag_p99_s=0.004, lag_max_s=0.1)
    assert worst([first, second]) == Strain(wall_s=3, cpu_share=0.9, lag_p99_s=0.004, lag_max_s=0.2)


# --- the files ------------------------------------------------------------------------------


def take(start_ns: int, chunk: bytes = b"x") -> Take:
    return Take(
        wall_start="2026-01-01T00:00:00.000+00:00",
        start_ns=start_ns,
        connected_ns=None,
        written_ns=start_ns + 1,
        headers_ns=None,
        end_ns=start_ns + 9,
        status=503,
        headers={"retry-after": "7"},
        trouble=("stalled", "no further chunk"),
        chunks=[(start_ns + 5, chunk), (start_ns + 7, b"")],
    )


def test_a_spool_gives_back_what_was_put_away() -> None:
    with Spool() as spool:
        for start_ns in (30, 10, 20):
            spool.put(Shot(Job(start_ns, b"", b""), start_ns - 1, take(start_ns)))
        spool.finish()
        shots = list(spool)
    assert shots == [Shot(Job(n, b"", b""), n - 1, take(n)) for n in (10, 20, 30)]
    assert shots[0].stream.failure is not None
    assert shots[0].stream.failure.kind == "stalled"


def test_a_line_that_a_killed_process_left_unfinished_is_passed_over() -> None:
    file = unnamed_file()
    with Spool() as whole, Spool(file) as part:
        for spool in (whole, part):
            spool.put(Shot(Job(1, b"", b""), 0, take(1)))
            spool.put(Shot(Job(2, b"", b""), 0, take(2, b"y" * 1000)))
            spool.finish()
        os.truncate(file.fileno(), os.fstat(file.fileno()).st_size - 1)
        assert [len(whole), len(part)] == [2, 1]
        whole.adopt(file)
        assert [shot.job.number for shot in whole] == [1, 1, 2]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a disk that is always full")
def test_a_full_disk_is_told_and_does_not_end_the_load() -> None:
    with Path("/dev/full").open("wb", buffering=0) as full, Spool(full) as spool:
        spool.put(Shot(Job(1, b"", b""), 0, take(1)))
        spool.put(Shot(Job(2, b"", b""), 0, take(2)))
        with pytest.raises(LoadError, match="No space left on device"):
            spool.finish()


def test_jobs_come_back_from_their_file_as_they_were() -> None:
    jobs = [Job(7, b"head", b"body" * 1000), Job(3, b"", b"", more=True), Job(5, b"x", b"y")]
    with write_jobs(jobs) as file:
        read = JobFile(file.fileno())
        found = [read[place] for place in range(len(read))]
    assert [(*job[:1], bytes(job.head), bytes(job.body), job.more) for job in found] == jobs


# --- the limits -----------------------------------------------------------------------------


def test_the_limit_on_open_files_is_raised_as_far_as_a_load_needs() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
        allow_connections(1000)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (1064, hard)
        allow_connections(10)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (1064, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_more_connections_than_files_are_refused_with_the_number_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
    with pytest.raises(LoadError, match="5000 connections at once need 5064 open files, 4096"):
        allow_connections(5000)
    allow_connections(5000, all_at_once=False)
    assert asked == [(4096, 4096)] * 2


def test_more_connections_than_ports_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ports = tmp_path / "range"
    ports.write_text("40000\t40099\n")
    monkeypatch.setattr(limits, "_PORT_RANGE", ports)
    allow_connections(100)
    with pytest.raises(LoadError, match="there are 100"):
        allow_connections(101)
