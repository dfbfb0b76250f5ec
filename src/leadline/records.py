"""What is written down of every request: raw ticks, raw usage, raw text. No figure is stored.

All ticks are ``perf_counter_ns`` of one process; ``wall_start`` ties them to the calendar.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, computed_field

RECORD_SCHEMA = "leadline.record/1"
FINDING_SCHEMA = "leadline.finding/1"

# The time of a request among others says nothing of one that is alone: "load" is no "trial".
Purpose = Literal["warmup", "trial", "edge", "over_limit", "load_warmup", "load"]

FailureKind = Literal[
    "unreachable",  # no connection could be made
    "refused",  # an HTTP status of 400 and above
    "stream_error",  # HTTP 200 and then an error inside the stream
    "disconnected",  # the connection ended before the stream did
    "timeout",  # no first token within the planned time
    "stalled",  # tokens came, then none for longer than planned
    "aborted",  # the stream ends well-formed, and says that the server gave the request up
    "malformed",  # the answer is not what the API promises
    "prompt",  # we could not build the prompt
]


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Failure(_Line):
    kind: FailureKind
    message: str


class Event(NamedTuple):
    """One content event of the stream."""

    t_ns: int
    text: str
    completion_tokens: int | None
    """Output tokens so far by the server's own count, if it sends one with each event."""


class Clock(_Line):
    wall_start: str
    """UTC, ISO 8601."""
    intended_ns: int | None = None
    """When a load pattern wanted it sent, whatever else was going on."""
    start_ns: int
    """Just before the connection was opened; each request has its own."""
    connected_ns: int | None = None
    """TCP's handshake was begun, on a local connection also done; with TLS, its handshake too."""
    written_ns: int | None = None
    """After the kernel took the last byte of the request."""
    headers_ns: int | None = None
    end_ns: int


class Strain(_Line):
    """How hard the client itself was at work during a load."""

    wall_s: float
    cpu_share: float
    """CPU time of the process by wall time: 1 is one core, fully."""
    lag_p99_s: float
    """Of the event loop, sampled each 10 ms: how late it came to what was due."""
    lag_max_s: float
    kernel_stamps: bool = False
    """What arrived was stamped by the kernel, so that being late blurs no tick."""


class SelfCheck(_Line):
    """The client's own error against a server of known truth: reported minus true, without sign."""

    users: int
    rate: float
    """Requests a second of an open loop; 0 for a closed one."""
    processes: int
    requests: int
    output_tokens: int
    itl_s: float
    failures: int
    ttft_error_p50_s: float
    ttft_error_p99_s: float
    itl_error_p50_s: float
    """Of each gap between two tokens."""
    itl_error_p99_s: float
    itl_p99_error_s: float
    """Of the 99th percentile of all gaps."""
    truth_p99_s: float
    """The log's own: from the tick before a token is sent to the tick after."""
    events_per_s: float
    strain: Strain
    """Of the most strained process."""


class Needle(_Line):
    depth_tokens: int
    """Tokens before the needle."""
    answer: str


class Sent(_Line):
    input_tokens: int
    """As the server should count them: for text and chat, what it adds itself included."""
    prompt_as: str = "ids"
    output_tokens: int
    ids_sha256: str
    corpus_sha256: str
    corpus_start: int
    """Character of the corpus at which the prompt's text starts."""
    needles: tuple[Needle, ...] = ()
    cached_tokens: tuple[int, int] | None = None
    """(least, most) that a prefix cache should find of it; ``None``: that was not asked for."""
    replayed_tokens: int | None = None
    """Of a trace with prefixes: what a cache that forgets nothing finds of it, had all requests
    before it been read."""


class Exchange(_Line):
    """One request and its streamed answer, as seen from outside the server."""

    clock: Clock
    status: int | None = None
    events: tuple[Event, ...] = ()
    finish_reason: str | None = None
    usage: dict[str, Any] | None = None
    server: dict[str, Any] | None = None
    """Whatever else the server says of this request (llama.cpp: ``timings``)."""
    streamed: bool = True
    """``False``: the answer came whole, so that nothing is known of its first token."""
    terminated: bool = False
    """The stream's own end marker was seen."""
    failure: Failure | None = None

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events)


class Record(_Line):
    """One line of ``records.jsonl``."""

    cell: str
    deployment: str
    trial: int
    attempt: int
    """Which start of the deployment served it, from 1."""
    purpose: Purpose
    step: int = 0
    """Which load of its cell: 1 for the only one, up to the last step of a sweep."""
    sent: Sent
    exchange: Exchange
    counters: dict[str, float] = {}
    """Growth of the engine's own counters across the request, by canonical name."""


class Comparison(_Line):
    """A figure that the plan foretold and the engine then stated."""

    name: str
    unit: str
    engine: float
    plan: float
    tolerance: float = 0.0
    """Share of the plan's figure that rounding in the engine's words may hide."""
    source: str
    """What the plan's figure follows from."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def difference(self) -> float:
        """(engine - plan) / plan."""
        return (self.engine - self.plan) / self.plan if self.plan else float(bool(self.engine))

    @computed_field  # type: ignore[prop-decorator]
    @property
    def equal(self) -> bool:
        return abs(self.difference) <= self.tolerance * (1 + 1e-9)  # 11.375 is printed as 11.38


class EngineWords(_Line):
    """What an engine said of itself when it was ready, beside what was asked and foretold."""

    version: str = ""
    figures: dict[str, float | int | str] = {}
    quotes: dict[str, str] = {}
    """The log line of each figure."""
    settings: dict[str, str] = {}
    """As the engine resolved them."""
    differing: dict[str, tuple[str, str]] = {}
    """Settings it resolved to another value: (asked, resolved)."""
    comparisons: tuple[Comparison, ...] = ()
    max_request_tokens: int | None = None
    """The longest request its KV cache can ever hold, by the plan."""
    remedy: str = ""
    """For a cache that cannot hold one request of the whole window."""


class Turn(_Line):
    """One setting, and which way it is to be turned."""

    setting: str
    way: Literal["lower", "raise", "set", "remove"]
    to: str | None = None
    """How far, where that can be computed."""


class Finding(_Line):
    """A diagnosis: what happened, on what evidence, which way to turn which setting."""

    code: str
    title: str
    cause: str
    """Short class of the failure: ``oom``, ``port_in_use``, …"""
    explanation: str
    evidence: tuple[str, ...]
    """Lines quoted word for word."""
    line_numbers: tuple[int, ...] = ()
    """Of the quoted lines, from 1, where they stand in one log."""
    remedy: str
    turns: tuple[Turn, ...] = ()
    """The remedy for machines."""
    source: str
    versions: str = ""
    """For which the rule holds, where not for all."""
    deployment: str = ""
    cell: str = ""
    attempt: int = 0
