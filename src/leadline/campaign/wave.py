"""Requests that go out together: all made ready first, all read only when the last has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from leadline.campaign.request import Request, Sender
from leadline.load.answer import read_exchange
from leadline.load.client import ROUTES, Patience
from leadline.load.origin import Origin, request_head
from leadline.load.runner import Job, Shot, run_closed, run_open
from leadline.load.strain import no_collection
from leadline.records import Record, Strain

_SHOW_PERIOD_S = 1.0


@dataclass
class Wave:
    sender: Sender
    origin: Origin
    patience: Patience
    requests: Sequence[Request]
    """Their trials are numbered from 1, in order."""
    shots: list[Shot] = field(default_factory=list)

    async def run(self, users: int | None, arrivals_s: Sequence[float]) -> Strain:
        """A closed loop of ``users``, else each request at its time."""
        jobs = [self._job(request) for request in self.requests]
        showing = asyncio.create_task(self._show())
        try:
            if users:
                return await run_closed(self.origin, jobs, users, self.patience, self.shots.append)
            return await run_open(self.origin, jobs, arrivals_s, self.patience, self.shots.append)
        finally:
            showing.cancel()

    def collect(self) -> list[Record]:
        """The records of all that has ended, in the order of sending."""
        with no_collection():
            records = [self._record(shot) for shot in self.shots]
        self.shots.clear()
        return sorted(records, key=lambda record: record.trial)

    def _job(self, request: Request) -> Job:
        body = self.sender.body(request)
        headers = self.sender.served.server.endpoint.headers
        head = request_head(self.origin, ROUTES[request.form], headers, len(body))
        return Job(request.trial, head, body)

    def _record(self, shot: Shot) -> Record:
        exchange = read_exchange(shot.stream, self.sender.served.engine, shot.intended_ns)
        return self.sender.record(self.requests[shot.job.number - 1], exchange, counters={})

    async def _show(self) -> None:
        while True:
            await asyncio.sleep(_SHOW_PERIOD_S)
            self.sender.work.watcher.load_progress(len(self.shots), len(self.requests))
