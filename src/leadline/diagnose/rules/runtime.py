"""Failures of a request to a server that was ready."""

from __future__ import annotations

import re

from leadline.diagnose.rule import Evidence, Quote, Rule, always
from leadline.records import Turn
from leadline.units import show_tokens

_TOO_LONG = re.compile(
    r"exceeds? the (available|model's maximum) context|"
    r"maximum context length|"
    r"longer than the model's context length|"
    r"exceed_context_size|"
    r"exceeds the maximum allowed length",
    re.IGNORECASE,
)


_ALLOWED = re.compile(r"exceeds the maximum allowed length \((\d+) tokens", re.IGNORECASE)
# SGLang 0.5.6 takes a prompt of at most min(window, pool) - 7 tokens: managers/tp_worker.py.
_PROMPT_RESERVE = 7


def _failed(evidence: Evidence, *kinds: str) -> Quote:
    failure = evidence.failure
    return (failure.message,) if failure and failure.kind in kinds else ()


def _died(evidence: Evidence) -> Quote:
    """However the request came to know of it: vLLM words the death of its core as an answer."""
    if not evidence.failure or evidence.exit_status is None:
        return ()
    ended = f"the server ended: {evidence.exit_status}"
    return tuple(dict.fromkeys((ended, evidence.failure.message, *evidence.log[-2:])))


def _too_long(evidence: Evidence) -> Quote:
    if _exceeds(evidence, evidence.window_tokens) and (quote := _failed(evidence, "aborted")):
        return quote
    quote = _failed(evidence, "refused", "stream_error")
    return quote if quote and _TOO_LONG.search(quote[0]) else ()


def _never_scheduled(evidence: Evidence) -> Quote:
    """Waiting for its first token, while the engine has one request waiting and runs none.

    The gauges are the witness; where the engine shows none, the last line of its own statistics.
    One that spins may starve its own server until neither is to be had, which proves nothing, and
    is told beside the sizes. With prefix caching off the engine prefills the same request again and
    again: then it runs at times, and only the sizes tell.
    """
    quote = _failed(evidence, "timeout")
    if not quote:
        return ()
    seen = _idle_gauges(evidence) or evidence.log_lines(r"Running: 0 reqs, Waiting: [1-9]")[-1:]
    size = _larger_than_pool(evidence)
    return (*quote, *size, *(seen or _unanswered(evidence))) if seen or size else ()


def _late(evidence: Evidence) -> Quote:
    quote = _failed(evidence, "timeout")
    return (*quote, *_unanswered(evidence)) if quote else ()


def _unanswered(evidence: Evidence) -> Quote:
    looks, missed = len(evidence.waiting), sum(not look for look in evidence.waiting)
    return (f"the engine's metrics: {missed} of {looks} looks not answered",) if missed else ()


def _idle_gauges(evidence: Evidence) -> Quote:
    looks = [look for look in evidence.waiting if {"running", "waiting"} <= look.keys()]
    if not looks or any(look["running"] or not look["waiting"] for look in looks):
        return ()
    shown = ", ".join(f"{name} {value:g}" for name, value in sorted(looks[-1].items()))
    return (f"the engine's gauges, {len(looks)} looks alike: {shown}",)


def _larger_than_pool(evidence: Evidence) -> Quote:
    if not (evidence.pool_tokens and evidence.input_tokens):
        return ()
    total = evidence.input_tokens + (evidence.output_tokens or 0)
    if total <= evidence.pool_tokens:
        return ()
    held = show_tokens(evidence.pool_tokens)
    return (f"the request takes {show_tokens(total)} of KV cache, which holds {held} at most",)


def _fit_request(evidence: Evidence) -> str:
    if not _larger_than_pool(evidence):
        return (
            "compare the request with the KV cache size in the start-up log; if it is smaller, "
            "look for what holds the cache (max_num_seqs, other users)"
        )
    return (
        f"lower input_tokens + output_tokens to at most {show_tokens(evidence.pool_tokens or 0)} "
        "and max_model_len with them, so that the engine refuses what it cannot serve; or give "
        "the KV cache more memory"
    )


def _shorten(evidence: Evidence) -> str:
    if not (evidence.window_tokens and evidence.input_tokens and evidence.output_tokens):
        return "lower workload.input_tokens, or raise the server's context window"
    over = evidence.input_tokens + evidence.output_tokens - evidence.window_tokens
    if over <= 0:
        return "the server's real window is shorter than it says: lower workload.input_tokens"
    return (
        f"lower workload.input_tokens by {show_tokens(over)} to "
        f"{show_tokens(evidence.window_tokens - evidence.output_tokens)}, or raise the window from "
        f"{show_tokens(evidence.window_tokens)} by as much"
    )


def _beyond_pool(evidence: Evidence) -> Quote:
    quote = _failed(evidence, "aborted", "refused", "stream_error")
    named = _ALLOWED.search(quote[0]) if quote else None
    if not named and not _failed(evidence, "aborted"):
        return ()
    if evidence.pool_tokens:
        return quote if _exceeds(evidence, evidence.pool_tokens) else ()
    window = evidence.window_tokens
    return quote if named and window and int(named[1]) + _PROMPT_RESERVE < window else ()


def _exceeds(evidence: Evidence, limit: int | None) -> bool:
    """The stream of an aborted request says nothing of the reason; the lengths do."""
    sent = evidence.input_tokens
    return sent is not None and limit is not None and sent + _PROMPT_RESERVE > limit


def _fit_to_pool(evidence: Evidence) -> str:
    larger = (
        "raise max_total_tokens (where it is given) or mem_fraction_static, so that the KV pool "
        "holds the prompt and its answer"
    )
    if not evidence.pool_tokens:
        return f"lower workload.input_tokens, or {larger}"
    room = evidence.pool_tokens - max((evidence.output_tokens or 0) + 2, _PROMPT_RESERVE)
    return (
        f"lower workload.input_tokens to at most {show_tokens(max(room, 0))}, or {larger}: it now "
        f"holds {show_tokens(evidence.pool_tokens)} tokens"
    )


def _cut_short(evidence: Evidence) -> Quote:
    answered, asked = evidence.answered_tokens, evidence.output_tokens
    if evidence.failure or answered is None or not asked or answered >= asked:
        return ()
    return (f"finish_reason length after {answered} of {asked} output tokens",)


def _make_room(evidence: Evidence) -> str:
    limits = [limit for limit in (evidence.window_tokens, evidence.pool_tokens) if limit]
    sent, answered = evidence.input_tokens or 0, evidence.answered_tokens or 0
    missing = (evidence.output_tokens or 0) - answered
    reached = f"the server stops at {show_tokens(sent + answered)} tokens in all"
    if evidence.pool_tokens and evidence.pool_tokens == min(limits):
        setting = (
            f"raise max_total_tokens or mem_fraction_static: the KV pool holds "
            f"{show_tokens(evidence.pool_tokens)}"
        )
    else:
        setting = "raise the context window"
    return f"{reached}: lower workload.input_tokens by {show_tokens(missing)}, or {setting}"


def _wait_longer(evidence: Evidence) -> str:
    length = show_tokens(evidence.input_tokens) if evidence.input_tokens else "this many"
    return (
        f"if the log shows prefill progress, {length} tokens simply take longer: raise "
        "timeouts.first_token_s; if it shows none, the request was never scheduled: compare its "
        "length with the KV pool in the start-up log"
    )


def _pool_full(evidence: Evidence) -> Quote:
    """llama.cpp gives every request up when the next batch finds no place."""
    quote = _failed(evidence, "stream_error", "refused")
    return quote if quote and re.search("Context size has been exceeded", quote[0]) else ()


def _make_pool(evidence: Evidence) -> str:
    each = (evidence.input_tokens or 0) + (evidence.output_tokens or 0)
    if not evidence.input_tokens:
        return "fewer requests at once, shorter prompts, or a larger KV cache"
    needed = f"{evidence.at_once} requests of {show_tokens(each)} tokens with their answers need "
    setting = f"raise {evidence.window_setting or 'the KV cache'} to that"
    total = show_tokens(evidence.at_once * each)
    return f"{needed}{total} tokens: {setting}, or send fewer at once, or shorter prompts"


def _raise_window(evidence: Evidence) -> tuple[Turn, ...]:
    """So that one such request fits."""
    return _turn_window(evidence, evidence.window_parts)


def _raise_pool(evidence: Evidence) -> tuple[Turn, ...]:
    """So that all that were under way fit together."""
    return _turn_window(evidence, evidence.at_once)


def _turn_window(evidence: Evidence, requests: int) -> tuple[Turn, ...]:
    if not (evidence.window_setting and evidence.input_tokens and evidence.output_tokens):
        return ()
    total = (evidence.input_tokens + evidence.output_tokens) * requests
    return (Turn(setting=evidence.window_setting, way="raise", to=str(total)),)


RULES = (
    Rule(
        code="RUN001",
        title="The server died during the request",
        cause="crashed",
        explanation="No answer can come any more: its process ended, or one that it needs.",
        check=_died,
        remedy=always(
            "read the last log lines; SIGKILL without a person means out of memory: "
            "then lower the context window or the batch"
        ),
        source="process exit status, seen by the parent",
    ),
    Rule(
        code="RUN020",
        title="The prompt is longer than the KV pool holds",
        cause="too_long",
        explanation="It fits the context window, not the KV cache. SGLang refuses it if the answer "
        "is not streamed; streamed, it answers HTTP 200 and one token that no model chose.",
        check=_beyond_pool,
        remedy=_fit_to_pool,
        source="sglang 0.5.6 managers/scheduler.py; seen live on 0.5.6.post2",
    ),
    Rule(
        code="RUN002",
        title="The prompt is longer than the window allows",
        cause="too_long",
        explanation="input + output must fit into the context window; the server refused.",
        check=_too_long,
        remedy=_shorten,
        turns=_raise_window,
        source="the server's own message",
    ),
    Rule(
        code="RUN023",
        title="The KV cache that all slots share was full",
        cause="kv_full",
        explanation="Each request fits into the window, all that were under way did not fit "
        "together. llama.cpp then gives up every one of them.",
        check=_pool_full,
        remedy=_make_pool,
        turns=_raise_pool,
        source="llama.cpp tools/server, update_slots; seen live on xllamacpp 2026.10 with "
        "--kv-unified",
    ),
    Rule(
        code="RUN021",
        title="The server gave the request up",
        cause="aborted",
        explanation="The stream is well-formed and says abort: what came before it is no answer.",
        check=lambda evidence: _failed(evidence, "aborted"),
        remedy=always(
            "the server's log has the reason: a prompt beyond the KV pool, /abort_request, or a "
            "shutdown"
        ),
        source="sglang 0.5.6, finish_reason abort",
    ),
    Rule(
        code="RUN022",
        title="The answer was cut short without a word",
        cause="truncated",
        explanation="The request was accepted with its output length, and the answer claims to "
        "have that length. SGLang cuts it to what window and KV pool leave.",
        check=_cut_short,
        remedy=_make_room,
        source="sglang 0.5.6 managers/scheduler.py init_req_max_new_tokens; seen live",
    ),
    Rule(
        code="RUN003",
        title="The server refused the request",
        cause="rejected",
        explanation="It answered with an HTTP error status.",
        check=lambda evidence: _failed(evidence, "refused"),
        remedy=always("the message says what it did not accept"),
        source="the server's own message",
    ),
    Rule(
        code="RUN010",
        title="The request never ran: the engine admits it and cannot place it in its KV cache",
        cause="hang",
        explanation="The scheduler tries at every step and finds too few free blocks, for ever: "
        "the request stays waiting, the engine spins, nothing is logged as an error, and /health "
        "answers 200.",
        check=_never_scheduled,
        remedy=_fit_request,
        source="vLLM 0.12.0 with a request larger than the pool, reproduced; vLLM issue 39734",
    ),
    Rule(
        code="RUN004",
        title="No first token within the planned time",
        cause="hang",
        explanation="The request was accepted and nothing came back.",
        check=_late,
        remedy=_wait_longer,
        source="our own clock against the time limit from the plan",
    ),
    Rule(
        code="RUN005",
        title="The stream stopped in the middle",
        cause="stalled",
        explanation="Tokens had come, then none for longer than the planned gap.",
        check=lambda evidence: _failed(evidence, "stalled"),
        remedy=always(
            "look for preemption or another long prefill in the server's log; if it was "
            "busy with one, raise timeouts.between_tokens_s"
        ),
        source="our own clock against the time limit from the plan",
    ),
    Rule(
        code="RUN006",
        title="An error came inside a 200 answer",
        cause="stream_error",
        explanation="The status said success, the stream said otherwise. It is a failure.",
        check=lambda evidence: _failed(evidence, "stream_error"),
        remedy=always("the message says what went wrong; the server's log has the trace"),
        source="the server's own message",
    ),
    Rule(
        code="RUN007",
        title="The connection was lost",
        cause="disconnected",
        explanation="The stream ended without its end marker although the server still runs.",
        check=lambda evidence: _failed(evidence, "disconnected"),
        remedy=always(
            "look for a proxy or load balancer between us and the server: its idle or "
            "total time limit must exceed the planned time to the first token"
        ),
        source="HTTP stream without [DONE]",
    ),
    Rule(
        code="RUN008",
        title="The server cannot be reached",
        cause="unreachable",
        explanation="No connection could be made.",
        check=lambda evidence: _failed(evidence, "unreachable"),
        remedy=always("check that the server is up and the address is right"),
        source="connect(2)",
    ),
    Rule(
        code="RUN009",
        title="The answer is not a token stream",
        cause="malformed",
        explanation="HTTP 200, but not what the completions API promises.",
        check=lambda evidence: _failed(evidence, "malformed"),
        remedy=always(
            "check that the address is that of the model server, not of a web page or "
            "of a proxy that buffers streams"
        ),
        source="OpenAI completions API, stream=true",
    ),
)
