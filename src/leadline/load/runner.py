"""Many requests at once: a closed loop of users, or an open loop that waits for nobody.

While the load runs, nothing is parsed and nothing is written: streams are kept as they came.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from functools import partial
from time import perf_counter_ns
from typing import NamedTuple

from leadline.load.limits import allow_connections
from leadline.load.origin import Bytes, Origin
from leadline.load.strain import Vigil, no_collection
from leadline.load.stream import Patience, Stream
from leadline.load.take import Take
from leadline.records import Strain

_NS = 1_000_000_000
# The event loop's timers count milliseconds; the last one is waited for awake.
_AWAKE_NS = 1_500_000


class Job(NamedTuple):
    """One request, ready to be sent."""

    number: int
    head: Bytes
    body: Bytes
    more: bool = False
    """The same user sends the next job of the row too, when this one's answer has ended."""


class Shot(NamedTuple):
    """A request that has ended, one way or another."""

    job: Job
    """Without its bytes: they may be many, and are sent."""
    intended_ns: int
    stream: Take


OnDone = Callable[[Shot], None]


async def run_closed(
    origin: Origin,
    jobs: Iterable[Job],
    users: int,
    patience: Patience,
    on_done: OnDone,
    start_ns: int = 0,
) -> Strain:
    """``users`` at a time: each sends its next request as soon as its last one has ended, and all
    that go with it one after the other.

    Nobody starts before ``start_ns``.
    """
    allow_connections(users)
    queue = conversations(jobs)
    turnstile = Turnstile()

    async def use() -> None:
        await _sleep_until(start_ns)
        for turns in queue:
            for job in turns:
                on_done(await _shoot(origin, job, perf_counter_ns(), patience, turnstile))

    return await _watched([use() for _ in range(users)])


async def run_open(
    origin: Origin,
    jobs: Sequence[Job],
    arrivals_s: Sequence[float],
    patience: Patience,
    on_done: OnDone,
    start_ns: int = 0,
) -> Strain:
    """Each request at its time after ``start_ns`` (or now), however many are still under way.

    Of those that go together the first has a time; the others follow the answers.
    """
    allow_connections(len(jobs), all_at_once=False)
    turnstile = Turnstile()

    async def send(turns: Sequence[Job], due_ns: int) -> None:
        for job in turns:
            on_done(await _shoot(origin, job, due_ns, patience, turnstile))
            due_ns = perf_counter_ns()

    async def pace() -> None:
        begin_ns = start_ns or perf_counter_ns()
        async with asyncio.TaskGroup() as group:
            for turns, at_s in zip(conversations(jobs), arrivals_s, strict=True):
                due_ns = begin_ns + int(at_s * _NS)
                await _sleep_until(due_ns)
                group.create_task(send(turns, due_ns))

    return await _watched([pace()])


def conversations(jobs: Iterable[Job]) -> Iterator[list[Job]]:
    """Jobs that go together; nearly always each alone."""
    turns: list[Job] = []
    for job in jobs:
        turns.append(job)
        if not job.more:
            yield turns
            turns = []
    if turns:
        yield turns


async def _watched(work: list[Coroutine[None, None, None]]) -> Strain:
    vigil = Vigil()
    with no_collection():
        vigil.start()
        try:
            async with asyncio.TaskGroup() as group:
                for part in work:
                    group.create_task(part)
        finally:
            strain = vigil.stop()
    return strain


async def _shoot(
    origin: Origin, job: Job, intended_ns: int, patience: Patience, turnstile: Turnstile
) -> Shot:
    await turnstile.wait()
    stream = Stream(patience)
    try:
        await stream.run(origin, job.head, job.body)
    finally:
        turnstile.queue(stream.close)
    return Shot(job._replace(head=b"", body=b""), intended_ns, stream.taken())


class Turnstile:
    """Lets one connection be opened or closed each time the event loop turns.

    Where many streams end in one step, as an engine ends them, the last tokens of some would wait
    for the ends of others: in between, what has arrived gets its tick.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._steps: deque[Callable[[], None]] = deque()

    async def wait(self) -> None:
        turn: asyncio.Future[None] = self._loop.create_future()
        self.queue(partial(_wake, turn))
        await turn

    def queue(self, step: Callable[[], None]) -> None:
        self._steps.append(step)
        if len(self._steps) == 1:
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._steps[0]()
        self._steps.popleft()
        if self._steps:
            self._loop.call_soon(self._turn)


def _wake(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)


async def _sleep_until(due_ns: int) -> None:
    left_ns = due_ns - perf_counter_ns()
    if left_ns > _AWAKE_NS:
        await asyncio.sleep((left_ns - _AWAKE_NS) / _NS)
    while perf_counter_ns() < due_ns:  # noqa: ASYNC110  (no event tells the time)
        await asyncio.sleep(0)
