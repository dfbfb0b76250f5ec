"""Measures of one request, derived from its ticks. Times in seconds, rates per second.

A chunk is not a token: gaps between chunks and time per token are different measures with
different names, and a measure that the ticks do not support is ``None``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

from pydantic import BaseModel, ConfigDict

from leadline.records import Event, Exchange

NS = 1e-9


class Measures(BaseModel):
    """Definitions: start is just before the connection for the request is opened."""

    model_config = ConfigDict(frozen=True)

    ttft_s: float | None
    """Start to the first event that carries output."""
    e2e_s: float | None
    """Start to the last event."""
    send_s: float | None
    """Start to the request's last byte handed over."""
    tpot_s: float | None
    """(last output event - first) / (output tokens - tokens in the first event)."""
    itl_s: tuple[float, ...]
    """Per token: each gap divided among the tokens it brought, by the server's running count."""
    chunk_gaps_s: tuple[float, ...]
    """Between consecutive output events that came apart, however many tokens each holds."""
    prompt_tokens: int | None
    completion_tokens: int | None
    prefill_tokens_per_s: float | None
    """Prompt tokens / TTFT: a floor of the prefill rate, queueing and transport included."""
    decode_tokens_per_s: float | None
    """1 / TPOT, for this one request."""


def measure(exchange: Exchange) -> Measures:
    """All measures of one exchange; a failed one keeps what its ticks still show."""
    start_ns = exchange.clock.start_ns
    events = _output_events(exchange) if exchange.streamed else []
    usage = exchange.usage or {}
    prompt_tokens = _count(usage.get("prompt_tokens"))
    completion_tokens = _count(usage.get("completion_tokens"))
    ttft_s = (events[0].t_ns - start_ns) * NS if events else None
    tpot_s = _tpot_s(events, completion_tokens)
    complete = exchange.failure is None and exchange.events
    return Measures(
        ttft_s=ttft_s,
        e2e_s=(exchange.events[-1].t_ns - start_ns) * NS if complete else None,
        send_s=(exchange.clock.written_ns - start_ns) * NS if exchange.clock.written_ns else None,
        tpot_s=tpot_s,
        itl_s=_itl_s(events),
        chunk_gaps_s=tuple((b.t_ns - a.t_ns) * NS for a, b in pairwise(events)),
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        prefill_tokens_per_s=prompt_tokens / ttft_s if prompt_tokens and ttft_s else None,
        decode_tokens_per_s=1 / tpot_s if tpot_s else None,
    )


def merged_share(exchanges: Iterable[Exchange]) -> float:
    """Of all events that brought output, those that came at one tick with the one before."""
    events = [list(_output(exchange)) for exchange in exchanges if exchange.streamed]
    merged = sum(a.t_ns == b.t_ns for each in events for a, b in pairwise(each))
    return merged / max(1, sum(map(len, events)))


def _output_events(exchange: Exchange) -> list[Event]:
    """What came at one tick is one event: nobody saw time pass between its tokens."""
    return list({event.t_ns: event for event in _output(exchange)}.values())


def _output(exchange: Exchange) -> Iterator[Event]:
    """Events that brought output: text, or a token whose text is still incomplete."""
    seen = 0
    for event in exchange.events:
        grew = event.completion_tokens is not None and event.completion_tokens > seen
        if event.text or grew:
            yield event
        seen = event.completion_tokens or seen


def _tpot_s(events: list[Event], completion_tokens: int | None) -> float | None:
    if len(events) < 2 or not completion_tokens:  # noqa: PLR2004
        return None
    later_tokens = completion_tokens - (events[0].completion_tokens or 1)
    if later_tokens < 1:
        return None
    return (events[-1].t_ns - events[0].t_ns) * NS / later_tokens


def _itl_s(events: list[Event]) -> tuple[float, ...]:
    gaps: list[float] = []
    for earlier, later in pairwise(events):
        if earlier.completion_tokens is None or later.completion_tokens is None:
            return ()
        tokens = later.completion_tokens - earlier.completion_tokens
        if tokens > 0:
            gaps += [(later.t_ns - earlier.t_ns) * NS / tokens] * tokens
    return tuple(gaps)


def _count(value: object) -> int | None:
    return value if isinstance(value, int) else None
