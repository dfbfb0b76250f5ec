"""``python -m leadline.load.worker``: one of several client processes of a load.

The parent gives it open files and one line of orders on its standard input. When that ends, the
parent has gone or wants no more: the load is broken off, and what has ended is kept.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator

import msgspec
import uvloop

from leadline.errors import LeadlineError
from leadline.load.job_file import JobFile
from leadline.load.origin import Origin, resolve
from leadline.load.runner import Job, run_closed, run_open
from leadline.load.spool import Spool
from leadline.load.stream import Patience
from leadline.records import Strain

TICKET_BYTES = 4


class Orders(msgspec.Struct):
    url: str
    patience: Patience
    jobs_fd: int
    spool_fd: int = -1
    users: int = 0
    tickets_fd: int = -1
    """Closed loop: all processes draw the numbers of their next jobs from this one file."""
    places: list[int] = []
    """Open loop: the places of this process's jobs in the file, and when each is due."""
    arrivals_s: list[float] = []


async def work(orders: Orders, parent: asyncio.StreamReader) -> Strain | None:
    """``None`` if the parent had gone, or wanted no more, before all was done."""
    origin = await resolve(orders.url)
    jobs = JobFile(orders.jobs_fd)
    print("ready", flush=True)  # noqa: T201
    word = await parent.readline()
    if not word:
        return None
    with Spool(os.fdopen(orders.spool_fd, "wb", buffering=0)) as spool:
        load = asyncio.ensure_future(_run(orders, origin, jobs, spool, int(word)))
        gone = asyncio.ensure_future(parent.read())
        gone.add_done_callback(lambda _: load.cancel())
        try:
            return await load
        except asyncio.CancelledError:
            return None
        finally:
            gone.cancel()
            spool.finish()


async def _run(
    orders: Orders, origin: Origin, jobs: JobFile, spool: Spool, start_ns: int
) -> Strain:
    patience = Patience(*orders.patience)
    if orders.users:
        drawn = _draw(jobs, orders.tickets_fd)
        return await run_closed(origin, drawn, orders.users, patience, spool.put, start_ns)
    chosen = [jobs[place] for place in orders.places]
    return await run_open(origin, chosen, orders.arrivals_s, patience, spool.put, start_ns)


def _draw(jobs: JobFile, tickets_fd: int) -> Iterator[Job]:
    """The next job that no process has taken: the file's place is shared by all that inherit it."""
    while ticket := os.read(tickets_fd, TICKET_BYTES):
        place = int.from_bytes(ticket, "little")
        yield jobs[place]
        while jobs[place].more:
            place += 1
            yield jobs[place]


async def _main() -> int:
    loop = asyncio.get_running_loop()
    # The parent's Ctrl-C is the parent's: it closes our input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    reader = asyncio.StreamReader(limit=1 << 26)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    orders = msgspec.json.decode(await reader.readline(), type=Orders)
    try:
        strain = await work(orders, reader)
    except LeadlineError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return error.exit_code
    if strain:
        print(strain.model_dump_json(), flush=True)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(uvloop.run(_main()))
