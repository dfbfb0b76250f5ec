"""What the bytes of a stream say: read after the clock has stopped.

Whatever went wrong becomes part of the answer: a failed request is a result.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from leadline.engines.engine import Engine, NativeRoute, pick, place
from leadline.load.plain import COUNT_PATH, read_plain
from leadline.load.stream import EVENT
from leadline.load.take import Take
from leadline.records import Clock, Event, Exchange, Failure, FailureKind

if TYPE_CHECKING:
    from leadline.spec import Api

_REFUSED = 300
"""Redirects too: following one would be measured as the server's time."""
# A long prompt makes a long line when a server echoes it in an error.
_ERROR_BYTES = 4000

# Not of the OpenAI API: SGLang's word, after a token that the model never chose.
_ABORTED = "abort"

# The last events of a stream say how it ended: they are read one by one.
_TAIL = 4
_BEGIN, _BETWEEN = b"data: ", b"\n\ndata: "
# What chat and reasoning models send instead of a completion's ``text``.
_DELTA_TEXTS = ("content", "reasoning_content", "reasoning")


def read_exchange(
    stream: Take, engine: Engine, intended_ns: int | None = None, api: Api = "openai"
) -> Exchange:
    """All that one stream holds; ``intended_ns`` is when it should have been sent."""
    clock = Clock(
        wall_start=stream.wall_start,
        intended_ns=intended_ns,
        start_ns=stream.start_ns,
        connected_ns=stream.connected_ns,
        written_ns=stream.written_ns,
        headers_ns=stream.headers_ns,
        end_ns=stream.end_ns,
    )
    failure = stream.failure
    if failure is None and stream.status is not None and stream.status >= _REFUSED:
        failure = _refusal(stream)
    if stream.status is None or (failure and failure.kind == "refused"):
        return Exchange(clock=clock, status=stream.status, failure=failure)
    answer = read_events(stream.chunks, engine, api)
    # Built without validation: every field is of our own making, and there are many events.
    return Exchange.model_construct(
        clock=clock,
        status=stream.status,
        events=tuple(answer.events),
        finish_reason=answer.finish_reason,
        usage=answer.usage,
        server=answer.timings,
        terminated=answer.terminated,
        failure=failure or answer.problem(),
    )


def _refusal(stream: Take) -> Failure:
    text = b"".join(chunk for _, chunk in stream.chunks)[:_ERROR_BYTES].decode(errors="replace")
    advice = "".join(f" ({name.title()}: {value})" for name, value in stream.headers.items())
    return _failure("refused", f"HTTP {stream.status}: {error_text(text)}{advice}")


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


def read_events(chunks: list[tuple[int, bytes]], engine: Engine, api: Api = "openai") -> Answer:
    """Server-sent events: ``data:`` lines; comments and empty lines mean nothing here.

    An event carries the tick of the chunk that completed its line.
    """
    answer = _begin(engine, api)
    ticks, payloads = _payloads(chunks)
    begun = answer.take_plain(ticks[:-_TAIL], payloads[:-_TAIL])
    for t_ns, payload in zip(ticks[begun:], payloads[begun:], strict=True):
        answer.take(t_ns, payload)
    answer.finish()
    if not payloads and chunks and chunks[0][1].lstrip().startswith(b"{"):
        answer.error = _failure("malformed", "the server ignores `stream`: it answered all at once")
    return answer


def _begin(engine: Engine, api: Api) -> Answer:
    if api == "native" and engine.native:
        return _NativeAnswer(engine, engine.native)
    return Answer(engine)


def _payloads(chunks: list[tuple[int, bytes]]) -> tuple[list[int], list[bytes]]:
    """Of each event its tick and its data."""
    ticks: list[int] = []
    payloads: list[bytes] = []
    rest = b""
    for t_ns, chunk in chunks:
        text = rest + chunk if rest else chunk
        cut = text.rfind(b"\n") + 1
        rest = text[cut:]
        found = _split(text[:cut])
        ticks += [t_ns] * len(found)
        payloads += found
    if rest.startswith(EVENT):
        ticks.append(chunks[-1][0])
        payloads.append(rest[len(EVENT) :].strip())
    return ticks, payloads


def _split(lines: bytes) -> list[bytes]:
    """The data of events in whole lines: at once where they are nothing but that, as nearly all."""
    inside = lines.strip(b"\n")
    if inside.startswith(_BEGIN):
        found = inside[len(_BEGIN) :].split(_BETWEEN)
        if inside.count(b"\n") == 2 * (len(found) - 1):
            return found
    each = lines.split(b"\n")
    return [line[len(EVENT) :].strip() for line in each if line.startswith(EVENT)]


class Answer:
    """What the events of one stream add up to."""

    def __init__(self, engine: Engine) -> None:
        self.events: list[Event] = []
        self.finish_reason: str | None = None
        self.usage: dict[str, Any] | None = None
        self.timings: dict[str, Any] | None = None
        self.terminated = False
        self.error: Failure | None = None
        self._timings_path = engine.timings_path
        self._count_path = engine.token_count_path

    def problem(self) -> Failure | None:
        if self.error:
            return self.error
        if not self.events:
            return _failure("malformed", "the answer holds no event of a token stream")
        if not self.terminated:
            return _failure("disconnected", "the stream ended without its end marker")
        if self.finish_reason == _ABORTED:
            return _failure("aborted", self._abort_message())
        return None

    def _abort_message(self) -> str:
        usage = self.usage or {}
        return (
            f"HTTP 200, but finish_reason {_ABORTED} after {usage.get('completion_tokens', '?')} "
            f"output tokens, and {usage.get('prompt_tokens', '?')} prompt tokens counted"
        )

    def finish(self) -> None:
        """Nothing more comes."""

    def take_plain(self, ticks: list[int], payloads: list[bytes]) -> int:
        """How many payloads were taken at once: all, if they are nothing but tokens, or none."""
        if self._timings_path or self._count_path not in {None, COUNT_PATH}:
            return 0
        events = read_plain(ticks, payloads, counted=self._count_path is not None)
        self.events = events or []
        return len(self.events)

    def take(self, t_ns: int, payload: bytes) -> None:
        if payload.strip() == b"[DONE]":
            self.terminated = True
            return
        try:
            event = orjson.loads(payload)
        except orjson.JSONDecodeError:
            self.error = _failure("malformed", f"not JSON: {_show(payload)}")
            return
        if not isinstance(event, dict):
            return
        if event.get("error"):
            message = error_text(payload[:_ERROR_BYTES].decode(errors="replace"))
            self.error = _failure("stream_error", message)
            return
        try:
            self._take_event(t_ns, event)
        except TypeError:
            self.error = _failure(
                "malformed", f"not an event of the completions API: {_show(payload)}"
            )

    def _take_event(self, t_ns: int, event: dict[str, Any]) -> None:
        """Of all that is read here there are as many as tokens: hence no detours."""
        usage = event.get("usage")
        if usage:
            self.usage = _require(dict, usage)
        if self._timings_path:
            self.timings = _require(dict, pick(event, self._timings_path)) or self.timings
        choices = event.get("choices")
        if not choices:
            return
        choice = choices[0] if type(choices) is list and type(choices[0]) is dict else {}
        if reason := choice.get("finish_reason"):
            self.finish_reason = _require(str, reason)
        text = choice.get("text") or _delta_text(choice)
        if type(text) is not str:
            raise TypeError
        self.events.append(Event(t_ns, text, self._count(event, usage)))

    def _count(self, event: dict[str, Any], usage: Any) -> int | None:
        """Tokens so far, by the server's own count."""
        path = self._count_path
        if path is None:
            return None
        count = usage.get(path[6:]) if usage and path.startswith("usage.") else pick(event, path)
        return count if type(count) is int else None


class _NativeAnswer(Answer):
    """The same of an engine's own route."""

    def __init__(self, engine: Engine, route: NativeRoute) -> None:
        super().__init__(engine)
        self._route = route
        self._count_path = route.count_path

    def finish(self) -> None:
        texts = [event.text for event in self.events]
        # A server may be set to send only what is new: then they do not all begin the same.
        if self._route.is_cumulative and all(b.startswith(a) for a, b in pairwise(texts)):
            news = [b[len(a) :] for a, b in pairwise(["", *texts])]
            self.events = [
                event._replace(text=new) for event, new in zip(self.events, news, strict=True)
            ]

    def _take_event(self, t_ns: int, event: dict[str, Any]) -> None:
        route = self._route
        text = pick(event, route.text_path)
        if text is None:
            return
        if self._timings_path:
            self.timings = _require(dict, pick(event, self._timings_path)) or self.timings
        count = _require(int, pick(event, route.count_path))
        self.usage = {}
        for name, path in route.usage_paths.items():
            if (found := pick(event, path)) is not None:
                place(self.usage, name, found)
        self.events.append(Event(t_ns, _require(str, text) or "", count))
        if route.end_path and pick(event, route.end_path):
            self.terminated = True
        if reason := _require(str, pick(event, route.reason_path)):
            self._take_reason(reason, event)

    def _take_reason(self, reason: str, event: dict[str, Any]) -> None:
        self.finish_reason = self._route.reasons.get(reason, reason)
        if reason == self._route.abort_reason:
            message = pick(event, self._route.abort_message_path) or "it says no more"
            self.error = _failure("stream_error", f"the server aborted the request: {message}")


def _delta_text(choice: dict[str, Any]) -> Any:
    delta = choice.get("delta")
    if type(delta) is not dict:
        return ""
    return next((found for name in _DELTA_TEXTS if (found := delta.get(name))), "")


T = TypeVar("T")


def _require(kind: type[T], value: Any) -> T | None:
    """The value if it is of that kind or absent; ``TypeError`` otherwise."""
    if value is None or isinstance(value, kind):
        return value
    raise TypeError


def _failure(kind: FailureKind, message: str) -> Failure:
    return Failure(kind=kind, message=message)


def _show(payload: bytes) -> str:
    return payload[:200].decode(errors="replace")
