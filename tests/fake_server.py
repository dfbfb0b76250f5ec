"""An OpenAI server on 127.0.0.1 that does exactly what its script says and keeps its own log.

A script is what the server does with one completion request: bytes to send, seconds to pause,
``CUT`` to break the connection, ``HANG`` to say nothing more.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson
from aiohttp import web

CUT = "cut"
HANG = "hang"
DONE = b"data: [DONE]\n\n"
Step = bytes | float | str


class Answer(NamedTuple):
    """A fixed answer of one route."""

    body: Any
    status: int = 200
    after_s: float = 0.0

    @property
    def raw(self) -> bytes:
        return self.body.encode() if isinstance(self.body, str) else orjson.dumps(self.body)


def sse(**event: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + orjson.dumps(event) + b"\n\n"


def token(text: str, count: int | None = None, reason: str | None = None, **more: Any) -> bytes:
    """One event of the stream; ``count`` is vLLM's running usage."""
    usage = {} if count is None else {"usage": {"completion_tokens": count}}
    return sse(choices=[{"index": 0, "text": text, "finish_reason": reason}], **usage, **more)


def usage(prompt: int, completion: int, **more: Any) -> bytes:
    """The usage-only event that ``include_usage`` asks for."""
    return sse(choices=[], usage={"prompt_tokens": prompt, "completion_tokens": completion, **more})


def models(*names: str, **facts: Any) -> Answer:
    return Answer({"object": "list", "data": [{"id": name, **facts} for name in names]})


@dataclass
class FakeServer:
    script: Sequence[Step] = ()
    refusal: Answer | None = None
    """Sent instead of a stream."""
    routes: dict[str, Answer] = field(default_factory=dict)
    """Everything but completions, by path; others are 404."""
    url: str = ""
    sent: list[tuple[int, bytes]] = field(default_factory=list)
    """The send log: tick just before each piece was handed over, and the piece."""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    async def completions(self, request: web.Request) -> web.StreamResponse:
        self.headers.append(dict(request.headers))
        self.bodies.append(orjson.loads(await request.read()))
        if self.refusal:
            return self._fixed(self.refusal)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for step in self.script:
            await self._take(step, request, response)
        return response

    async def other(self, request: web.Request) -> web.StreamResponse:
        self.headers.append(dict(request.headers))
        if request.method == "POST":
            self.bodies.append(orjson.loads(await request.read()))
        answer = self.routes.get(request.path, Answer({"detail": "Not Found"}, 404))
        await asyncio.sleep(answer.after_s)
        return self._fixed(answer)

    async def _take(self, step: Step, request: web.Request, out: web.StreamResponse) -> None:
        if isinstance(step, float):
            await asyncio.sleep(step)
        elif isinstance(step, bytes):
            self.sent.append((time.perf_counter_ns(), step))
            await out.write(step)
        elif step == CUT and request.transport:
            await asyncio.sleep(0.01)  # what was written leaves first
            request.transport.abort()
        elif step == HANG:
            await asyncio.sleep(60)

    def _fixed(self, answer: Answer) -> web.Response:
        return web.Response(body=answer.raw, status=answer.status)


@asynccontextmanager
async def serving(server: FakeServer) -> AsyncIterator[FakeServer]:
    """The server in the running loop, gone at the end however many requests still hang."""
    app = web.Application(client_max_size=1 << 26)
    app.router.add_post("/v1/completions", server.completions)
    app.router.add_route("*", "/{path:.*}", server.other)
    runner = web.AppRunner(app, shutdown_timeout=0, handler_cancellation=True, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


@contextmanager
def serving_apart(server: FakeServer) -> Iterator[FakeServer]:
    """The server in a thread of its own, for callers that run their own loop."""
    loop = asyncio.new_event_loop()
    ready, over = threading.Event(), asyncio.Event()

    async def live() -> None:
        async with serving(server):
            ready.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(live(),))
    thread.start()
    assert ready.wait(10)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(10)
        loop.close()
