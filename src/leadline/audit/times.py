"""Objections to times and rates. Each shows its arithmetic."""

from __future__ import annotations

from leadline.audit.context import Context
from leadline.audit.objection import Found, raise_against
from leadline.audit.sources import LOG_SOURCE
from leadline.catalog.reading import read_table
from leadline.units import show_rate, show_seconds, show_tokens

_WINDOW_S = 10
"""vLLM's and SGLang's log lines count over ten seconds (VLLM_LOG_STATS_INTERVAL)."""
_CLOSE = 0.01
_FEWEST = 3


def prompt_rate_of_a_log_window(context: Context) -> Found:
    """AUD001 The prompt rate of a log line is the prompt divided by the log's window."""
    claim, rate = context.claim, context.claim.log_prompt_tokens_per_s
    if not (rate and claim.input_tokens):
        return
    booked = rate * _WINDOW_S
    if abs(booked / claim.input_tokens - 1) > _CLOSE:
        return
    whole_s = claim.ttft_s or claim.response_s
    right = "divide the prompt by the time to its first token"
    if whole_s:
        rate_s = show_rate(claim.input_tokens / whole_s)
        right = f"{show_tokens(claim.input_tokens)} / {whole_s:g} s = {rate_s} tokens/s" + (
            "" if claim.ttft_s else " over the whole answer, decode included"
        )
    yield raise_against(
        "AUD001",
        claim,
        "wrong",
        said=f"prompt throughput {rate:,.1f} tokens/s",
        arithmetic=f"{rate:,.1f} x {_WINDOW_S} s = {booked:,.0f} tokens: the prompt itself "
        f"({show_tokens(claim.input_tokens)})",
        right=right,
        source=LOG_SOURCE,
    )


def generation_rate_of_a_log_window(context: Context) -> Found:
    """AUD002 The generation rate of a log line counts tokens within the log's window."""
    claim, rate = context.claim, context.claim.log_generation_tokens_per_s
    if not (rate and claim.output_tokens):
        return
    counted = rate * _WINDOW_S
    if abs(counted - round(counted)) > _CLOSE or counted > claim.output_tokens * (1 + _CLOSE):
        return
    yield raise_against(
        "AUD002",
        claim,
        "wrong",
        said=f"generation throughput {rate:g} tokens/s",
        arithmetic=f"{rate:g} x {_WINDOW_S} s = {counted:.0f} of the {claim.output_tokens} tokens: "
        "those that fell into one window",
        right="(output tokens - 1) / (last token's time - first token's time); this is a floor",
        source=LOG_SOURCE,
    )


def faster_than_light(context: Context) -> Found:
    """AUD003 A cold prefill cannot beat the peak of the devices, nor come close to it."""
    claim, audit = context.claim, context.audit
    if audit is None or audit.plausible_cold or claim.input_tokens is None:
        return
    verb = "cannot be" if not audit.possible_cold else "is not plausible as"
    expected = context.plan.time.prefill_s if context.plan and context.plan.time else None
    right = f"about {audit.cached_share:.0%} of the prompt came from a cache" + (
        f"; cold it is predicted to take {show_seconds(expected.expected)} "
        f"({show_seconds(expected.low)} to {show_seconds(expected.high)})"
        if expected
        else ""
    )
    yield raise_against(
        "AUD003",
        claim,
        "wrong",
        said=f"{show_tokens(claim.input_tokens)} tokens in {audit.measured_s:g} s",
        arithmetic=f"that {verb} a cold prefill: {audit.share_of_peak:.0%} of the dense peak of "
        f"{context.claims.hardware} over the whole time, decode included",
        right=right,
        source=str(read_table("time")["audit"]["source"]),
    )


def cached_and_called_cold(context: Context) -> Found:
    """AUD004 A time with cache hits is not a cold one, and a logged rate is not this request's."""
    claim, share = context.claim, context.claim.cache_hit_share
    if not share:
        return
    said = "cold, " if claim.cold else ""
    yield raise_against(
        "AUD004",
        claim,
        "wrong" if claim.cold else "unsupported",
        said=f"{said}prefix cache hit rate {share:.1%}",
        arithmetic="any hit disqualifies the time; the log's rate is of the last 1,000 requests, "
        "not of this one",
        right="cached_tokens of this very request must be 0 (a fresh cache salt)",
        source="vLLM v1/metrics: rolling window of requests; usage.prompt_tokens_details",
    )


def too_few_trials(context: Context) -> Found:
    """AUD011 One time says nothing of the next."""
    claim = context.claim
    timed = claim.response_s or claim.ttft_s
    if timed is None or claim.repeats is None or claim.repeats >= _FEWEST:
        return
    yield raise_against(
        "AUD011",
        claim,
        "unsupported",
        said=f"{timed:g} s",
        arithmetic=f"n = {claim.repeats}: no spread, no interval",
        right=f"at least {_FEWEST} cold repeats, median with lowest and highest",
        source="vllm issue 52884: one warm run inflates by up to 86 %",
    )


def prefill_and_decode_in_one(context: Context) -> Found:
    """AUD012 A response time mixes prefill and decode."""
    claim = context.claim
    if claim.response_s is None or claim.ttft_s is not None or (claim.output_tokens or 0) <= 1:
        return
    yield raise_against(
        "AUD012",
        claim,
        "unsupported",
        said=f"response time {claim.response_s:g} s",
        arithmetic=f"prefill of the prompt and {claim.output_tokens} steps of decode in one number",
        right="stream the answer: TTFT and the time per output token apart",
        source="TTFT and TPOT are different resources: compute, and memory bandwidth",
    )


def tail_of_means(context: Context) -> Found:
    """AUD018 The tail of per-request means hides every stall."""
    claim = context.claim
    if not claim.itl_is_request_mean or claim.itl_p99_ms is None:
        return
    yield raise_against(
        "AUD018",
        claim,
        "unsupported",
        said=f"ITL p99 {claim.itl_p99_ms:.4g} ms",
        arithmetic="this client averages the gaps of each request first: a stall of 200 ms every "
        "25 tokens shows as 16 ms",
        right="the p99 of the gaps themselves",
        source="measured: GuideLLM 0.8.1 and AIPerf 0.13.0 against a server with known stalls",
    )
