"""Requests that go out together: all made ready first, read one by one when the last has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from leadline.campaign.request import Request, Sender
from leadline.errors import LoadError
from leadline.load.answer import read_exchange
from leadline.load.client import Patience, route_for
from leadline.load.fanout import load_closed, load_open, worst
from leadline.load.origin import Origin, request_head
from leadline.load.runner import Job, Shot
from leadline.load.spool import Spool
from leadline.load.stamps import has_stamps
from leadline.records import Record, Strain

_SHOW_PERIOD_S = 1.0


@dataclass
class Wave:
    """Leave it as a context: what was answered lies in a file until then."""

    sender: Sender
    origin: Origin
    patience: Patience
    requests: Sequence[Request]
    """Their trials are numbered from 1, in order."""
    spool: Spool = field(default_factory=Spool)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.spool.__exit__()

    async def run(
        self, users: int | None, arrivals_s: Sequence[float], processes: int = 1
    ) -> Strain:
        """A closed loop of ``users``, else each request at its time; the worst strain of any
        process.
        """
        jobs = [self._job(request) for request in self.requests]
        to = (self.patience, self.spool, processes)
        if users:
            loading = load_closed(self.origin, jobs, users, *to)
        else:
            loading = load_open(self.origin, jobs, arrivals_s, *to)
        strains = await self._guarded(loading)
        by_kernel = has_stamps() and self.origin.tls is None
        return worst(strains).model_copy(update={"kernel_stamps": by_kernel})

    def records(self) -> Iterator[Record]:
        """Of all that has ended, in the order of sending; read one at a time."""
        return map(self._record, self.spool)

    def _job(self, request: Request) -> Job:
        served = self.sender.served
        body = self.sender.body(request)
        route = route_for(served.engine, *request.way)
        head = request_head(self.origin, route, served.server.endpoint.headers, len(body))
        return Job(request.trial, head, body, request.more)

    def _record(self, shot: Shot) -> Record:
        request = self.requests[shot.job.number - 1]
        exchange = read_exchange(
            shot.stream, self.sender.served.engine, shot.intended_ns, request.way.api
        )
        return self.sender.record(request, exchange, counters={})

    async def _guarded(self, loading: Coroutine[Any, Any, list[Strain]]) -> list[Strain]:
        """``LoadError`` if the server is lost meanwhile: the rest would wait for nothing."""
        showing = asyncio.create_task(self._show())
        running = asyncio.create_task(loading)
        lost = asyncio.create_task(self.sender.served.wait_end())
        try:
            await asyncio.wait({running, lost}, return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                raise LoadError(f"the server ended: {lost.result()}")
            return running.result()
        finally:
            tasks = {showing, running, lost}
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _show(self) -> None:
        while True:
            await asyncio.sleep(_SHOW_PERIOD_S)
            self.sender.work.watcher.load_progress(len(self.spool), len(self.requests))
