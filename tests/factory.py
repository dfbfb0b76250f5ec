"""Records, findings and whole run directories as a campaign would leave them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from leadline.journal import Journal, Run, create_run
from leadline.records import Clock, Event, Exchange, Failure, Finding, Needle, Record, Sent
from leadline.spec import parse_campaign

MS = 1_000_000
ANSWER = "48213"


def make_clock(end_ms: float = 1000) -> Clock:
    return Clock(
        wall_start="2026-01-02T03:04:05.000+00:00",
        start_ns=0,
        written_ns=1 * MS,
        headers_ns=2 * MS,
        end_ns=int(end_ms * MS),
    )


def make_events(*pieces: tuple[float, str, int | None]) -> tuple[Event, ...]:
    """Events from (milliseconds after the start, text, running count)."""
    return tuple(Event(int(at_ms * MS), text, count) for at_ms, text, count in pieces)


def make_exchange(**changes: Any) -> Exchange:
    """A sound answer of three tokens to 100: first after 100 ms, then one each 50 ms."""
    facts: dict[str, Any] = {
        "clock": make_clock(),
        "status": 200,
        "events": make_events((100, " The", 1), (150, " number is ", 2), (200, ANSWER, 3)),
        "finish_reason": "length",
        "usage": {
            "prompt_tokens": 100,
            "completion_tokens": 3,
            "prompt_tokens_details": {"cached_tokens": 0},
        },
        "terminated": True,
    }
    return Exchange(**facts | changes)


def failed_exchange(kind: Any, message: str, status: int | None = None) -> Exchange:
    return Exchange(clock=make_clock(), status=status, failure=Failure(kind=kind, message=message))


def make_sent(tokens: int = 100, output_tokens: int = 3, answers: tuple[str, ...] = ()) -> Sent:
    return Sent(
        input_tokens=tokens,
        output_tokens=output_tokens,
        ids_sha256="0" * 64,
        corpus_sha256="1" * 64,
        corpus_start=17,
        needles=tuple(Needle(depth_tokens=9, answer=answer) for answer in answers),
    )


def make_record(exchange: Exchange | None = None, **changes: Any) -> Record:
    facts: dict[str, Any] = {
        "cell": "x/input_tokens=100",
        "deployment": "x",
        "trial": 1,
        "attempt": 1,
        "purpose": "trial",
        "sent": make_sent(answers=(ANSWER,)),
        "exchange": exchange or make_exchange(),
    }
    return Record(**facts | changes)


def answered(tokens: int, trial: int = 1, *, recalled: bool = True, **changes: Any) -> Record:
    """A trial of that length with every proof in order."""
    usage = {
        "prompt_tokens": tokens,
        "completion_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 0},
    }
    text = ANSWER if recalled else "no idea"
    events = make_events((100, " The", 1), (150, " number is ", 2), (200, text, 3))
    facts: dict[str, Any] = {
        "cell": f"x/input_tokens={tokens}",
        "trial": trial,
        "sent": make_sent(tokens, answers=(ANSWER,)),
        "exchange": make_exchange(usage=usage, events=events),
    }
    return make_record(**facts | changes)


def make_finding(**changes: Any) -> Finding:
    facts: dict[str, Any] = {
        "code": "RUN001",
        "title": "The server died during the request",
        "cause": "crashed",
        "explanation": "The connection was lost because the process behind it ended.",
        "evidence": ("the server ended: killed by SIGKILL",),
        "remedy": "read the last log lines",
        "source": "process exit status",
        "deployment": "x",
        "cell": "x/input_tokens=100",
        "attempt": 1,
    }
    return Finding(**facts | changes)


class RunWriter:
    """A run directory, written through the journal as a campaign would."""

    def __init__(self, root: Path, campaign_text: str) -> None:
        campaign = parse_campaign(campaign_text, source="test.yaml")
        facts = {"campaign": campaign.name, "digest": campaign.digest(), "seed": 7}
        self.path = create_run(root, campaign.name, facts, campaign_text)
        self.journal = Journal(self.path)

    def ready(self, **changes: Any) -> None:
        facts: dict[str, Any] = {
            "deployment": "x",
            "attempt": 1,
            "engine": "openai",
            "model": "tiny",
            "url": "http://127.0.0.1:1",
            "window_tokens": 4096,
            "edge_tokens": 4093,
            "start_s": 1.5,
        }
        self.journal.event("deployment_ready", **facts | changes)

    def close(self) -> Run:
        self.journal.event("run_finished")
        self.journal.close()
        return Run(self.path)
