"""A load from one process or several, its answers in one spool: with no seam between processes.

Closed loop: the users are divided, and all processes draw their next request from one row. Open
loop: arrivals are dealt out one by one, and all processes start at one instant of the one clock
that the processes of a machine share.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterator, Sequence
from itertools import chain
from time import perf_counter_ns
from typing import BinaryIO

import msgspec

from leadline.children import end_with_input
from leadline.errors import LoadError
from leadline.load.job_file import write_jobs
from leadline.load.origin import Origin
from leadline.load.runner import Job, conversations, run_closed, run_open
from leadline.load.spool import Spool, unnamed_file
from leadline.load.stream import Patience
from leadline.load.worker import TICKET_BYTES, Orders
from leadline.records import Strain

_READY_S = 60.0
_GRACE_S = 10.0
# From the word to start until everybody has heard it and is ready.
_NOTICE_NS = 200_000_000


async def load_closed(
    origin: Origin,
    jobs: Sequence[Job],
    users: int,
    patience: Patience,
    spool: Spool,
    processes: int = 1,
) -> list[Strain]:
    """As ``run_closed``; the strain of each process. The spool is finished, whatever happens.

    ``LoadError`` when a process has died; what all of them had by then is in the spool.
    """
    processes = min(processes, users)
    if processes == 1:
        try:
            return [await run_closed(origin, jobs, users, patience, spool.put)]
        finally:
            spool.finish()
    with unnamed_file() as tickets, write_jobs(jobs) as file:
        for place in (turns[0] for turns in _places(jobs)):
            tickets.write(place.to_bytes(TICKET_BYTES, "little"))
        tickets.seek(0)
        orders = [
            Orders(
                url=origin.url,
                patience=patience,
                jobs_fd=file.fileno(),
                users=users // processes + (number < users % processes),
                tickets_fd=tickets.fileno(),
            )
            for number in range(processes)
        ]
        return await _run_crew(orders, spool)


async def load_open(
    origin: Origin,
    jobs: Sequence[Job],
    arrivals_s: Sequence[float],
    patience: Patience,
    spool: Spool,
    processes: int = 1,
) -> list[Strain]:
    """As ``run_open``; the strain of each process. The rest as ``load_closed``."""
    processes = min(processes, max(1, len(jobs)))
    if processes == 1:
        try:
            return [await run_open(origin, jobs, arrivals_s, patience, spool.put)]
        finally:
            spool.finish()
    with write_jobs(jobs) as file:
        rows = list(_places(jobs))
        orders = [
            Orders(
                url=origin.url,
                patience=patience,
                jobs_fd=file.fileno(),
                places=list(chain(*rows[number::processes])),
                arrivals_s=list(arrivals_s[number::processes]),
            )
            for number in range(processes)
        ]
        return await _run_crew(orders, spool)


def _places(jobs: Sequence[Job]) -> Iterator[range]:
    """Of the jobs that go together."""
    begin = 0
    for turns in conversations(jobs):
        yield range(begin, begin + len(turns))
        begin += len(turns)


def worst(strains: Sequence[Strain]) -> Strain:
    """Of each figure the worst: a load is as sound as its most strained process."""
    return Strain(
        wall_s=max(strain.wall_s for strain in strains),
        cpu_share=max(strain.cpu_share for strain in strains),
        lag_p99_s=max(strain.lag_p99_s for strain in strains),
        lag_max_s=max(strain.lag_max_s for strain in strains),
    )


async def _run_crew(orders: list[Orders], spool: Spool) -> list[Strain]:
    crew: list[_Member] = []
    try:
        for number, order in enumerate(orders, start=1):
            file = unnamed_file()
            spool.adopt(file)
            crew.append(await _hire(order, file, f"client process {number} of {len(orders)}"))
        await _muster(crew)
        start_ns = perf_counter_ns() + _NOTICE_NS
        for member in crew:
            member.start(start_ns)
        return await asyncio.gather(*(member.strain() for member in crew))
    finally:
        spool.finish()
        await asyncio.shield(asyncio.gather(*(member.dismiss() for member in crew)))


async def _muster(crew: Sequence[_Member]) -> None:
    try:
        async with asyncio.timeout(_READY_S):
            await asyncio.gather(*(member.ready() for member in crew))
    except TimeoutError:
        raise LoadError(
            f"the {len(crew)} client processes were not ready within {_READY_S:g} s",
            where="this machine",
            cure="use fewer, or wait until it is less busy",
        ) from None


async def _hire(orders: Orders, spool_file: BinaryIO, name: str) -> _Member:
    orders = msgspec.structs.replace(orders, spool_fd=spool_file.fileno())
    fds = {orders.jobs_fd, orders.spool_fd, orders.tickets_fd} - {-1}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "leadline.load.worker"),
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        pass_fds=tuple(fds),
    )
    return _Member(process, name, msgspec.json.encode(orders))


class _Member:
    """A client process as its parent sees it. It ends when its input does, so never after us."""

    def __init__(self, process: Process, name: str, orders: bytes) -> None:
        assert process.stdin  # noqa: S101
        assert process.stdout  # noqa: S101
        self._process = process
        self._name = name
        self._input = process.stdin
        self._output = process.stdout
        self._input.write(orders + b"\n")

    async def ready(self) -> None:
        if not await self._output.readline():
            raise await self._death()

    def start(self, at_ns: int) -> None:
        self._input.write(b"%d\n" % at_ns)

    async def strain(self) -> Strain:
        line = await self._output.readline()
        if not line:
            raise await self._death()
        return Strain.model_validate_json(line)

    async def dismiss(self) -> None:
        """What it holds of ended requests is written before it goes."""
        await end_with_input(self._process, _GRACE_S)

    async def _death(self) -> LoadError:
        assert self._process.stderr  # noqa: S101
        words = (await self._process.stderr.read()).decode(errors="replace").strip()
        code = await self._process.wait()
        last = f": {words.splitlines()[-1]}" if words else ""
        return LoadError(
            f"{self._name} ended with code {code} before its load was over{last}",
            where="this machine",
            cure="see whether its memory was exhausted; what had been answered by then is kept",
        )
