"""Structural proofs: no skill of the model is needed, only an honest server.

Each proof is ``pass``, ``fail``, or ``unknown`` where the server does not tell; unknown is never
counted as passed. Source of the list: proofs.md, section 3.1 (count, over-limit, edge, cold,
finish).
"""

from __future__ import annotations

from collections import Counter
from typing import Literal

from pydantic import BaseModel, ConfigDict

from leadline.engines.engine import Engine, pick
from leadline.records import Record
from leadline.units import show_tokens

Outcome = Literal["pass", "fail", "unknown"]

TRIAL_PROOFS = ("count", "cold", "finish", "output")
LIMIT_PROOFS = ("edge", "over_limit")

_MIN_PRINTABLE_SHARE = 0.9
_MAX_SAME_WORD_SHARE = 0.9
_MIN_WORDS_TO_JUDGE = 8
# No key, no such route, too slow, too often: says nothing about the length of a prompt.
_OTHER_REFUSALS = (401, 403, 404, 408, 429)


class Proof(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: str
    outcome: Outcome
    observed: str


def prove_trial(record: Record, engine: Engine, *, cold: bool = True) -> list[Proof]:
    """The proofs that one answered request gives. A failed request proves nothing."""
    if record.exchange.failure is not None:
        return []
    proofs = [prove_count(record), prove_finish(record), prove_output(record)]
    return [proofs[0], prove_cold(record, engine), *proofs[1:]] if cold else proofs


def prove_count(record: Record) -> Proof:
    """The server counted exactly the tokens that we sent: nothing cut, nothing added."""
    sent = record.sent.input_tokens
    counted = (record.exchange.usage or {}).get("prompt_tokens")
    if counted is None:
        return Proof(name="count", outcome="unknown", observed="the server sends no usage")
    outcome: Outcome = "pass" if counted == sent else "fail"
    return Proof(
        name="count",
        outcome=outcome,
        observed=f"sent {show_tokens(sent)}, server counted {show_tokens(counted)}",
    )


def prove_cold(record: Record, engine: Engine) -> Proof:
    """No token of this prompt came from a cache, by the server's word about this request."""
    witnesses = cached_tokens(record, engine)
    if not witnesses:
        return Proof(
            name="cold",
            outcome="unknown",
            observed="the server reports neither cached tokens nor counters",
        )
    witness, cached = max(witnesses.items(), key=lambda item: item[1])
    return Proof(
        name="cold",
        outcome="pass" if cached == 0 else "fail",
        observed=f"{show_tokens(cached)} cached tokens by {witness}",
    )


def cached_tokens(record: Record, engine: Engine) -> dict[str, int]:
    """Every witness of how many prompt tokens came from a cache."""
    witnesses = {}
    sent = record.sent.input_tokens
    by_usage = pick(record.exchange.usage, engine.cached_tokens_path)
    if isinstance(by_usage, int):
        witnesses["usage"] = by_usage
    if engine.processed_tokens_path:
        processed = pick(record.exchange.server, engine.processed_tokens_path)
        if isinstance(processed, int):
            witnesses["the server's timings"] = max(0, sent - processed)
    grown = record.counters
    # Counters are everybody's: they testify only if this request alone moved them.
    if "cached_tokens" in grown and grown.get("prompt_tokens") == sent:
        witnesses["the server's counters"] = int(grown["cached_tokens"])
    return witnesses


def prove_finish(record: Record) -> Proof:
    """It stopped for a stated reason, and at full length if it says so (no silent clamp)."""
    reason = record.exchange.finish_reason
    tokens = (record.exchange.usage or {}).get("completion_tokens")
    asked = record.sent.output_tokens
    observed = f"finish_reason {reason}, {tokens} of {asked} output tokens"
    if reason not in ("stop", "length") or tokens is None:
        return Proof(name="finish", outcome="fail", observed=observed)
    at_length = tokens == asked if reason == "length" else 0 < tokens <= asked
    return Proof(name="finish", outcome="pass" if at_length else "fail", observed=observed)


def prove_output(record: Record) -> Proof:
    """The answer is text: not empty, printable, not one word over and over."""
    text = record.exchange.text
    problem = _text_problem(text)
    shown = text if len(text) <= 60 else text[:60] + "…"  # noqa: PLR2004
    return Proof(
        name="output",
        outcome="fail" if problem else "pass",
        observed=f"{problem}: {shown!r}" if problem else repr(shown),
    )


def prove_edge(record: Record) -> Proof:
    """A prompt of exactly the longest length is accepted and counted whole."""
    sent = show_tokens(record.sent.input_tokens)
    failure = record.exchange.failure
    if failure is not None:
        return Proof(name="edge", outcome="fail", observed=f"{sent} tokens: {failure.message}")
    count = prove_count(record)
    return Proof(name="edge", outcome=count.outcome, observed=count.observed)


def prove_over_limit(record: Record) -> Proof:
    """A prompt longer than the window is refused, never cut and answered.

    By a 4xx status, or, as SGLang does, by an error in place of the stream's first token.
    """
    sent = show_tokens(record.sent.input_tokens)
    status = record.exchange.status
    failure = record.exchange.failure
    in_stream = failure is not None and failure.kind == "stream_error" and not record.exchange.text
    refused = status is not None and (400 <= status < 500 or in_stream)  # noqa: PLR2004
    settled = status is not None and status not in _OTHER_REFUSALS
    detail = failure.message if failure else "answered as if it fitted"
    if not settled:
        return Proof(name="over_limit", outcome="unknown", observed=f"{sent} tokens: {detail}")
    return Proof(
        name="over_limit",
        outcome="pass" if refused else "fail",
        observed=f"{sent} tokens: {detail}"
        if refused and not in_stream
        else f"{sent} tokens: HTTP {status}, {detail}",
    )


def _text_problem(text: str) -> str | None:
    if not text.strip():
        return "empty"
    readable = sum(char.isprintable() or char in "\n\t" for char in text) - text.count("\ufffd")
    if readable < _MIN_PRINTABLE_SHARE * len(text):
        return "unreadable"
    words = text.split()
    most = Counter(words).most_common(1)[0][1]
    if len(words) >= _MIN_WORDS_TO_JUDGE and most > _MAX_SAME_WORD_SHARE * len(words):
        return "one word repeated"
    if len(words) == 1 and len(text) >= _MIN_WORDS_TO_JUDGE and len(set(text.strip())) == 1:
        return "one character repeated"
    return None
