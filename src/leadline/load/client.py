"""One streamed completion, stamped as it arrives and parsed only when it is over.

Every chunk is stamped before anything looks into it; an event carries the time of the chunk
that completed it. Whatever goes wrong becomes part of the answer: a failed request is a result.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from io import BytesIO
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeVar

import aiohttp
import orjson

from leadline.engines.engine import Engine, pick
from leadline.launch import Endpoint
from leadline.prompts.haystack import Prompt
from leadline.records import Clock, Event, Exchange, Failure, FailureKind
from leadline.spec import PromptForm

# Form of the prompt to the route that takes it.
ROUTES: dict[PromptForm, str] = {
    "ids": "/v1/completions",
    "text": "/v1/completions",
    "chat": "/v1/chat/completions",
}
# A long prompt makes a long line when a server echoes it in an error.
_ERROR_BYTES = 4000
_EVENT = b"data:"

# Completions, chat, and what reasoning models say before they answer.
_TEXT_PATHS = (
    "choices.0.text",
    "choices.0.delta.content",
    "choices.0.delta.reasoning_content",
    "choices.0.delta.reasoning",
)

OnChunk = Callable[[int], None]


class Patience(NamedTuple):
    """How long to wait, in seconds: for the first token and between two chunks after it."""

    first_token_s: float
    between_tokens_s: float


def open_session() -> aiohttp.ClientSession:
    """A session without limits of its own: time limits come from the plan."""
    tracing = aiohttp.TraceConfig()
    tracing.on_request_chunk_sent.append(_note_written)
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=30),
        # A kept connection that the server closes while we pause would look like its failure.
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
        trace_configs=[tracing],
        read_bufsize=1 << 20,
    )


def request_body(
    endpoint: Endpoint,
    engine: Engine,
    prompt: Prompt,
    output_tokens: int,
    *,
    form: PromptForm,
    cold: bool,
    salt: str,
) -> bytes:
    """The request as bytes, ready before the clock starts."""
    body: dict[str, Any] = {
        "model": endpoint.model,
        **_prompt_fields(prompt, form),
        "max_tokens": output_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
        **engine.request_fields,
    }
    if cold:
        body |= engine.cold_fields
        if engine.salt_field:
            body[engine.salt_field] = _cache_salt(salt)
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)


def _cache_salt(salt: str) -> str:
    """Hex of fixed length: vLLM 0.32 refuses '@', '/', backslashes and over 128 characters."""
    return hashlib.sha256(salt.encode()).hexdigest()[:32]


def _prompt_fields(prompt: Prompt, form: PromptForm) -> dict[str, Any]:
    if form == "ids":
        return {"prompt": prompt.ids}
    if form == "text":
        return {"prompt": prompt.text}
    return {"messages": [{"role": "user", "content": prompt.text}]}


async def stream_completion(
    session: aiohttp.ClientSession,
    endpoint: Endpoint,
    engine: Engine,
    route: str,
    body: bytes,
    patience: Patience,
    on_chunk: OnChunk = lambda _: None,
) -> Exchange:
    """Send ``body`` and follow the answer to its end. Never raises for what a server does."""
    stream = _Stream(patience, on_chunk)
    failure: Failure | None = None
    try:
        await stream.run(session, endpoint, route, body)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        failure = Failure(kind="unreachable", message=str(error))
    except TimeoutError:
        failure = stream.lost_patience()
    except (aiohttp.ClientError, ConnectionError) as error:
        failure = Failure(kind="disconnected", message=f"{type(error).__name__}: {error}")
    return _parse(stream, engine, failure)


class _Stream:
    """Ticks and bytes of one exchange, before any parsing."""

    def __init__(self, patience: Patience, on_chunk: OnChunk) -> None:
        self.patience = patience
        self.on_chunk = on_chunk
        self.chunks: list[tuple[int, bytes]] = []
        self.events_seen = 0
        """Chunks that completed an event."""
        self.status: int | None = None
        self.written_ns: int | None = None
        self.headers_ns: int | None = None
        self.wall_start = datetime.now(UTC).isoformat(timespec="milliseconds")
        self.start_ns = time.perf_counter_ns()
        self.end_ns = self.start_ns

    async def run(
        self, session: aiohttp.ClientSession, endpoint: Endpoint, route: str, body: bytes
    ) -> None:
        headers = {"Content-Type": "application/json", **endpoint.headers}
        self.start_ns = time.perf_counter_ns()
        deadline = asyncio.timeout(self.patience.first_token_s)
        try:
            async with (
                deadline,
                session.post(
                    endpoint.url + route,
                    data=BytesIO(body),
                    headers=headers,
                    trace_request_ctx=self,
                ) as response,
            ):
                self.headers_ns = time.perf_counter_ns()
                self.status = response.status
                await self._read(response, deadline)
        finally:
            self.end_ns = time.perf_counter_ns()

    async def _read(self, response: aiohttp.ClientResponse, deadline: asyncio.Timeout) -> None:
        loop = asyncio.get_running_loop()
        line_head = b""
        while chunk := await response.content.readany():
            self.chunks.append((time.perf_counter_ns(), chunk))
            *lines, open_line = (line_head + chunk).split(b"\n")
            line_head = open_line[: len(_EVENT)]
            if not any(line.startswith(_EVENT) for line in lines):
                continue  # a keep-alive comment is no progress
            deadline.reschedule(loop.time() + self.patience.between_tokens_s)
            self.events_seen += 1
            self.on_chunk(self.events_seen)

    def lost_patience(self) -> Failure:
        if not self.events_seen:
            return Failure(
                kind="timeout",
                message=f"no first token within {self.patience.first_token_s:g} s",
            )
        return Failure(
            kind="stalled",
            message=f"no further chunk within {self.patience.between_tokens_s:g} s "
            f"after {self.events_seen} chunks",
        )


async def _note_written(
    _session: aiohttp.ClientSession,
    context: SimpleNamespace,
    _params: aiohttp.TraceRequestChunkSentParams,
) -> None:
    stream = getattr(context, "trace_request_ctx", None)
    if isinstance(stream, _Stream):
        stream.written_ns = time.perf_counter_ns()


# --- after the clock has stopped ------------------------------------------------------------


def _parse(stream: _Stream, engine: Engine, failure: Failure | None) -> Exchange:
    clock = Clock(
        wall_start=stream.wall_start,
        start_ns=stream.start_ns,
        written_ns=stream.written_ns,
        headers_ns=stream.headers_ns,
        end_ns=stream.end_ns,
    )
    if failure is None and stream.status is not None and stream.status >= 400:  # noqa: PLR2004
        failure = _refusal(stream)
    if stream.status is None or (failure and failure.kind == "refused"):
        return Exchange(clock=clock, status=stream.status, failure=failure)
    answer = _read_events(stream.chunks, engine)
    return Exchange(
        clock=clock,
        status=stream.status,
        events=tuple(answer.events),
        finish_reason=answer.finish_reason,
        usage=answer.usage,
        server=answer.timings,
        terminated=answer.terminated,
        failure=failure or answer.problem(),
    )


def _refusal(stream: _Stream) -> Failure:
    text = b"".join(chunk for _, chunk in stream.chunks)[:_ERROR_BYTES].decode(errors="replace")
    return Failure(kind="refused", message=f"HTTP {stream.status}: {error_text(text)}")


def error_text(body: str) -> str:
    """The message inside an error answer, in whichever of the usual places it stands."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body.strip() or "(empty answer)"
    for path in ("error.message", "message", "detail", "error"):
        found = pick(parsed, path)
        if isinstance(found, str):
            return found
    return body.strip()


class _Answer:
    """What the events of one stream add up to."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.finish_reason: str | None = None
        self.usage: dict[str, Any] | None = None
        self.timings: dict[str, Any] | None = None
        self.terminated = False
        self.error: Failure | None = None

    def problem(self) -> Failure | None:
        if self.error:
            return self.error
        if not self.events:
            return _failure("malformed", "the answer holds no event of a token stream")
        if not self.terminated:
            return _failure("disconnected", "the stream ended without its end marker")
        return None

    def take(self, t_ns: int, payload: bytes, engine: Engine) -> None:
        if payload == b"[DONE]":
            self.terminated = True
            return
        try:
            event = orjson.loads(payload)
        except orjson.JSONDecodeError:
            self.error = _failure(
                "malformed", f"not JSON: {payload[:200].decode(errors='replace')}"
            )
            return
        if isinstance(event, Mapping) and event.get("error"):
            message = error_text(payload[:_ERROR_BYTES].decode(errors="replace"))
            self.error = _failure("stream_error", message)
            return
        try:
            self._take_event(t_ns, event, engine)
        except TypeError:
            shown = payload[:200].decode(errors="replace")
            self.error = _failure("malformed", f"not an event of the completions API: {shown}")

    def _take_event(self, t_ns: int, event: Any, engine: Engine) -> None:
        self.usage = _require(dict, pick(event, "usage")) or self.usage
        if engine.timings_path:
            self.timings = _require(dict, pick(event, engine.timings_path)) or self.timings
        if not pick(event, "choices"):
            return
        reason = _require(str, pick(event, "choices.0.finish_reason"))
        self.finish_reason = reason or self.finish_reason
        found = next((found for path in _TEXT_PATHS if (found := pick(event, path))), None)
        text = _require(str, found) or ""
        count = pick(event, engine.token_count_path) if engine.token_count_path else None
        self.events.append(Event(t_ns, text, count if isinstance(count, int) else None))


T = TypeVar("T")


def _require(kind: type[T], value: Any) -> T | None:
    """The value if it is of that kind or absent; ``TypeError`` otherwise."""
    if value is not None and not isinstance(value, kind):
        raise TypeError
    return value


def _failure(kind: FailureKind, message: str) -> Failure:
    return Failure(kind=kind, message=message)


def _read_events(chunks: list[tuple[int, bytes]], engine: Engine) -> _Answer:
    """Server-sent events: ``data:`` lines; comments and empty lines mean nothing here."""
    answer = _Answer()
    rest = b""
    for t_ns, chunk in chunks:
        lines = (rest + chunk).split(b"\n")
        rest = lines.pop()
        for line in lines:
            if line.startswith(_EVENT):
                answer.take(t_ns, line[len(_EVENT) :].strip(), engine)
    if rest.startswith(_EVENT) and chunks:
        answer.take(chunks[-1][0], rest[len(_EVENT) :].strip(), engine)
    return answer
