"""One request on the wire, with the clock as close to the socket as Python allows.

The tick of what has arrived is taken before anything looks into it; while the clock runs, only
HTTP's own framing is read. What the bytes mean is ``answer``'s work, after the clock has stopped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from time import perf_counter_ns
from typing import NamedTuple, cast

import httptools

from leadline.load.dial import Call, dial
from leadline.load.origin import Origin
from leadline.records import Failure, FailureKind

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
    origin: Origin, head: bytes, body: bytes, patience: Patience, on_chunk: OnChunk | None = None
) -> Stream:
    """Send a request and keep all that comes back. Never raises for what a server does."""
    stream = Stream(patience, on_chunk)
    try:
        await stream.run(origin, head, body)
    finally:
        stream.close()
    return stream


class Stream(asyncio.Protocol):
    """Ticks and bytes of one exchange."""

    def __init__(self, patience: Patience, on_chunk: OnChunk | None = None) -> None:
        self.patience = patience
        self.chunks: list[tuple[int, bytes]] = []
        self.events_seen = 0
        """Chunks that completed an event."""
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        """Those that say what to do after a refusal."""
        self.failure: Failure | None = None
        self.connected_ns: int | None = None
        self.written_ns: int | None = None
        self.headers_ns: int | None = None
        self.wall_start = datetime.now(UTC).isoformat(timespec="milliseconds")
        self.start_ns = self.end_ns = self._tick_ns = self._progress_ns = perf_counter_ns()
        self._on_chunk = on_chunk
        self._line_head = b""
        self._is_framed = False
        self._unsent: bytes | memoryview = b""
        self._parser = httptools.HttpResponseParser(self)
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None

    async def run(self, origin: Origin, head: bytes, body: bytes) -> None:
        try:
            call = await dial(origin, head, body)
            self._note_call(call)
            await self._attach(call, origin)
        except TimeoutError:
            self._end("unreachable", f"Connection timeout to host {origin.url}")
        except OSError as error:
            reason = error.strerror or str(error)
            self._end(
                "unreachable", f"Cannot connect to host {origin.host}:{origin.port}: {reason}"
            )
        await self._over

    def close(self) -> None:
        """Let go of the connection, also when nobody waits for the answer any more."""
        if self._timer:
            self._timer.cancel()
        if self._transport:
            self._transport.abort()
        self._timer = self._transport = None

    # --- the request ------------------------------------------------------------------------

    def _note_call(self, call: Call) -> None:
        self.start_ns = self._progress_ns = call.start_ns
        self.connected_ns = call.connected_ns
        self._unsent = call.unsent
        if not call.unsent:
            self.written_ns = call.sent_ns

    async def _attach(self, call: Call, origin: Origin) -> None:
        try:
            await self._loop.create_connection(
                lambda: self,
                sock=call.sock,
                ssl=origin.tls,
                server_hostname=origin.host if origin.tls else None,
            )
        except BaseException:
            call.sock.close()
            raise

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if transport.get_extra_info("ssl_object"):
            self.connected_ns = perf_counter_ns()
        self._watch_patience()
        if self.written_ns is None:
            # Without a buffer of its own, the transport resumes us when the kernel has it all.
            self._transport.set_write_buffer_limits(high=0)
            self._transport.write(self._unsent)
            self._unsent = b""
            if not self._transport.get_write_buffer_size():
                self.resume_writing()

    def resume_writing(self) -> None:
        self.written_ns = self.written_ns or perf_counter_ns()

    # --- the answer -------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self._tick_ns = perf_counter_ns()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._end("disconnected", f"the answer is not HTTP: {error}")

    def on_header(self, name: bytes, value: bytes) -> None:
        key = name.decode("latin-1").lower()
        if key in _KEPT_HEADERS:
            self.headers[key] = value.decode("latin-1")
        self._is_framed |= key in {"content-length", "transfer-encoding"}

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= _INTERIM:
            self.status = status
            self.headers_ns = self._tick_ns

    def on_body(self, body: bytes) -> None:
        self.chunks.append((self._tick_ns, body))
        if not self._completes_event(body):
            return  # a keep-alive comment is no progress
        self._progress_ns = self._tick_ns
        self.events_seen += 1
        if self.events_seen == 1:
            self._watch_patience()
        if self._on_chunk:
            self._on_chunk(self.events_seen)

    def _completes_event(self, body: bytes) -> bool:
        if not self._line_head and body.startswith(EVENT) and body.endswith(b"\n"):
            return True  # as nearly all are
        *lines, open_line = (self._line_head + body).split(b"\n")
        self._line_head = open_line[: len(EVENT)]
        return any(line.startswith(EVENT) for line in lines)

    def on_message_complete(self) -> None:
        if self.status is not None:
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._tick_ns = perf_counter_ns()
        if exc is None and self.status is not None and not self._is_framed:
            self._end()  # an answer without a length ends with its connection
        elif exc is not None:
            self._end("disconnected", f"{type(exc).__name__}: {exc}")
        else:
            part = "in the middle of the answer" if self.status else "without an answer"
            self._end("disconnected", f"the server closed the connection {part}")

    # --- the end ----------------------------------------------------------------------------

    def _watch_patience(self) -> None:
        """One timer, set anew only when it runs out: nothing to do for each chunk."""
        if self._timer:
            self._timer.cancel()
        allowed_s = self.patience.between_tokens_s if self.events_seen else self._first_s
        left_s = allowed_s - (perf_counter_ns() - self._progress_ns) * _NS
        if left_s > 0:
            self._timer = self._loop.call_later(left_s, self._watch_patience)
        elif self.events_seen:
            self._end(
                "stalled",
                f"no further chunk within {allowed_s:g} s after {self.events_seen} chunks",
            )
        else:
            self._end("timeout", f"no first token within {allowed_s:g} s")

    @property
    def _first_s(self) -> float:
        return self.patience.first_token_s

    def _end(self, kind: FailureKind | None = None, message: str = "") -> None:
        if self._over.done():
            return
        self.end_ns = max(self._tick_ns, self.start_ns) if kind is None else perf_counter_ns()
        self.failure = Failure(kind=kind, message=message) if kind else None
        self._over.set_result(None)
