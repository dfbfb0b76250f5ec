"""One request on the wire, with the clock as close to the socket as Python allows.

While the clock runs, only HTTP's own framing is read. What the bytes mean is ``answer``'s work,
after the clock has stopped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from time import perf_counter_ns
from typing import NamedTuple

import httptools

from leadline.load.dial import Call, dial
from leadline.load.limits import CURES
from leadline.load.origin import Bytes, Origin
from leadline.load.take import Take
from leadline.load.wire import Wire, attach
from leadline.records import FailureKind

EVENT = b"data:"
OnChunk = Callable[[int], None]

_INTERIM = 200
"""Statuses below it announce an answer (100 Continue) and are none."""
_KEPT_HEADERS = frozenset({"retry-after", "location"})
_NS = 1e-9


class Patience(NamedTuple):
    """How long to wait, in seconds: for the first token and between two chunks after it."""

    first_token_s: float
    between_tokens_s: float


async def follow(
    origin: Origin,
    head: Bytes,
    body: Bytes,
    patience: Patience,
    on_chunk: OnChunk | None = None,
    lost: asyncio.Future[str] | None = None,
) -> Take:
    """Send a request and keep all that comes back. Never raises for what a server does.

    ``lost``: as soon as it is known why no answer can come any more.
    """
    stream = Stream(patience, on_chunk)
    if lost:
        lost.add_done_callback(stream.give_up)
    try:
        await stream.run(origin, head, body)
        return stream.taken()
    finally:
        stream.close()


class Stream:
    """Ticks and bytes of one exchange while it lasts."""

    def __init__(self, patience: Patience, on_chunk: OnChunk | None = None) -> None:
        self.patience = patience
        self.chunks: list[tuple[int, bytes]] = []
        self.events_seen = 0
        """Chunks that completed an event, as far as anybody has looked."""
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.trouble: tuple[FailureKind, str] | None = None
        self.connected_ns: int | None = None
        self.written_ns: int | None = None
        self.headers_ns: int | None = None
        self.wall_start = datetime.now(UTC).isoformat(timespec="milliseconds")
        self.start_ns = self.end_ns = self._tick_ns = self._progress_ns = perf_counter_ns()
        self._on_chunk = on_chunk
        self._bodies: list[bytes] = []
        # The parser's own call for each piece of the body: C calls C.
        self.on_body = self._bodies.append
        self._looked = 0
        self._line_head = b""
        self._is_framed = False
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        self._wire: Wire | None = None

    async def run(self, origin: Origin, head: Bytes, body: Bytes) -> None:
        try:
            call = await dial(origin, head, body)
            self._note_call(call)
            self._wire = await attach(call, origin, self)
            self._watch_patience()
        except TimeoutError:
            self._end("unreachable", f"Connection timeout to host {origin.url}")
        except OSError as error:
            reason = CURES.get(error.errno or 0) or error.strerror or str(error)
            self._end(
                "unreachable", f"Cannot connect to host {origin.host}:{origin.port}: {reason}"
            )
        await self._over

    def taken(self) -> Take:
        return Take(
            wall_start=self.wall_start,
            start_ns=self.start_ns,
            connected_ns=self.connected_ns,
            written_ns=self.written_ns,
            headers_ns=self.headers_ns,
            end_ns=self.end_ns,
            status=self.status,
            headers=self.headers,
            trouble=self.trouble,
            chunks=self.chunks,
        )

    def give_up(self, lost: asyncio.Future[str]) -> None:
        if not lost.cancelled():
            self._end("disconnected", lost.result())

    def close(self) -> None:
        """Let go of the connection, also when nobody waits for the answer any more."""
        if self._timer:
            self._timer.cancel()
        if self._wire:
            self._wire.close()
        # The parser knows us: without it, we are no cycle and need no garbage collection.
        self._timer = self._wire = self._parser = None

    # --- the request ------------------------------------------------------------------------

    def _note_call(self, call: Call) -> None:
        self.start_ns = self._progress_ns = call.start_ns
        self.connected_ns = call.connected_ns
        if not call.unsent:
            self.written_ns = call.sent_ns

    def handshaken(self, t_ns: int) -> None:
        self.connected_ns = t_ns

    def written(self, t_ns: int) -> None:
        self.written_ns = t_ns

    # --- the answer -------------------------------------------------------------------------

    def received(self, t_ns: int, data: Bytes) -> None:
        if self._parser is None:
            return
        self._tick_ns = t_ns
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._end("disconnected", f"the answer is not HTTP: {error}")
        bodies = self._bodies
        if bodies:
            self.chunks.append((t_ns, bodies[0] if len(bodies) == 1 else b"".join(bodies)))
            bodies.clear()
            if not self.events_seen or self._on_chunk:
                self._look()

    def on_header(self, name: bytes, value: bytes) -> None:
        key = name.decode("latin-1").lower()
        if key in _KEPT_HEADERS:
            self.headers[key] = value.decode("latin-1")
        self._is_framed |= key in {"content-length", "transfer-encoding"}

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code() if self._parser else 0
        if status >= _INTERIM:
            self.status = status
            self.headers_ns = self._tick_ns

    def on_message_complete(self) -> None:
        if self.status is not None:
            self._end()

    def lost(self, error: Exception | None) -> None:
        self._tick_ns = max(self._tick_ns, perf_counter_ns())
        if error is None and self.status is not None and not self._is_framed:
            self._end()  # an answer without a length ends with its connection
        elif error is not None:
            self._end("disconnected", f"{type(error).__name__}: {error}")
        else:
            part = "in the middle of the answer" if self.status else "without an answer"
            self._end("disconnected", f"the server closed the connection {part}")

    # --- progress: looked for as seldom as will do --------------------------------------------

    def _look(self) -> None:
        """What has come since the last look: a keep-alive comment is no progress."""
        for t_ns, chunk in self.chunks[self._looked :]:
            if self._completes_event(chunk):
                self._progress_ns = t_ns
                self.events_seen += 1
                if self.events_seen == 1:
                    self._watch_patience()
                if self._on_chunk:
                    self._on_chunk(self.events_seen)
        self._looked = len(self.chunks)

    def _completes_event(self, chunk: bytes) -> bool:
        if not self._line_head and chunk.startswith(EVENT) and chunk.endswith(b"\n"):
            return True  # as nearly all are
        *lines, open_line = (self._line_head + chunk).split(b"\n")
        self._line_head = open_line[: len(EVENT)]
        return any(line.startswith(EVENT) for line in lines)

    def _run_out(self) -> None:
        self._look()
        self._watch_patience()

    def _watch_patience(self) -> None:
        """One timer, set anew only when it runs out: nothing to do for each chunk."""
        if self._over.done():
            return
        if self._timer:
            self._timer.cancel()
        first_s, between_s = self.patience
        allowed_s = between_s if self.events_seen else first_s
        left_s = allowed_s - (perf_counter_ns() - self._progress_ns) * _NS
        if left_s > 0:
            self._timer = self._loop.call_later(left_s, self._run_out)
        elif self.events_seen:
            seen = self.events_seen
            self._end("stalled", f"no further chunk within {allowed_s:g} s after {seen} chunks")
        else:
            self._end("timeout", f"no first token within {allowed_s:g} s")

    def _end(self, kind: FailureKind | None = None, message: str = "") -> None:
        if self._over.done():
            return
        self.end_ns = max(self._tick_ns, self.start_ns) if kind is None else perf_counter_ns()
        self.trouble = (kind, message) if kind else None
        self._over.set_result(None)
