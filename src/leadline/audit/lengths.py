"""Objections to lengths, and to what is offered as proof of them. Each shows its arithmetic."""

from __future__ import annotations

from leadline.audit.context import Context
from leadline.audit.objection import Found, raise_against
from leadline.units import show_tokens

_LENGTH_SHARE = 0.005
_LIMIT_SOURCE = (
    "vLLM entrypoints/openai/serving_engine.py: prompt + output must fit into the window"
)


def beyond_the_window(context: Context) -> Found:
    """AUD005 No engine accepts more than its window; there is no tolerance."""
    claim, window, engine = context.claim, context.window, context.engine
    if not (window and engine and claim.input_tokens):
        return
    output = claim.output_tokens or 1
    longest = engine.max_input_tokens(window, output)
    if claim.over_window_percent is not None:
        difference = claim.input_tokens - window
        yield raise_against(
            "AUD005",
            claim,
            "wrong",
            said=f"{claim.over_window_percent:g} % over the window, accepted with a tolerance",
            arithmetic=f"{show_tokens(claim.input_tokens)} - {show_tokens(window)} = "
            f"{difference:+,} tokens, {100 * difference / window:+.2f} %",
            right=f"there is no tolerance: with {output} of output at most {show_tokens(longest)}",
            source=_LIMIT_SOURCE,
        )
    if claim.input_tokens > longest and claim.accepted is not False:
        yield raise_against(
            "AUD005",
            claim,
            "wrong",
            said=f"{show_tokens(claim.input_tokens)} tokens in and {output} out",
            arithmetic=f"{show_tokens(claim.input_tokens)} + {output}"
            + (f" + {engine.reserve_tokens}" if engine.reserve_tokens else "")
            + f" > {show_tokens(window)}: the server refuses it",
            right=f"the longest prompt is {show_tokens(longest)}; the figure is the client's "
            "target, not a count",
            source=engine.source if engine.name != "vllm" else _LIMIT_SOURCE,
        )


def corpus_too_short(context: Context) -> Found:
    """AUD013 A text that is shorter than the prompt was repeated."""
    claim = context.claim
    if not (claim.corpus_bytes and claim.corpus_bytes_per_token and claim.input_tokens):
        return
    holds = claim.corpus_bytes / claim.corpus_bytes_per_token
    if holds >= claim.input_tokens:
        return
    needed = claim.input_tokens * claim.corpus_bytes_per_token / 1e6
    yield raise_against(
        "AUD013",
        claim,
        "wrong",
        said=f"a prompt of {show_tokens(claim.input_tokens)} tokens from "
        f"{claim.corpus_bytes / 1e6:.1f} MB of text",
        arithmetic=f"{claim.corpus_bytes / 1e6:.1f} MB / {claim.corpus_bytes_per_token:g} bytes a "
        f"token = {holds / 1e6:.2f}M tokens: the text was repeated",
        right=f"about {needed:.0f} MB of text are needed",
        source="division",
    )


def status_is_no_proof(context: Context) -> Found:
    """AUD014 HTTP 200 shows that something was answered, not that the prompt was read."""
    claim = context.claim
    if claim.evidence is None or set(claim.evidence) & {"answer"}:
        return
    offered = {"status": "HTTP 200", "length": "the server's count", "answer": "the answer"}
    yield raise_against(
        "AUD014",
        claim,
        "unsupported",
        said="works: " + (" and ".join(offered[item] for item in claim.evidence) or "no evidence"),
        arithmetic="engines truncate, garble and answer 200 all the same",
        right="the server's count equal to what was sent, and an answer that needs the text",
        source="vllm issue 20816; SGLang --allow-auto-truncate; `leadline prove`",
    )


def client_counted(context: Context) -> Found:
    """AUD015 A length that the client set is a target, not a measurement."""
    claim = context.claim
    if claim.counted_by != "client" or claim.input_tokens is None:
        return
    yield raise_against(
        "AUD015",
        claim,
        "unsupported",
        said=f"{show_tokens(claim.input_tokens)} tokens",
        arithmetic="a ratio of characters to tokens is off by percents, and templates add tokens",
        right="usage.prompt_tokens of the answer",
        source="sglang issue 15732: 92 % of generated prompts had a wrong length",
    )


def failures_left_out(context: Context) -> Found:
    """AUD016 Failed requests are results too."""
    claim = context.claim
    if not claim.failed:
        return
    total = claim.failed + (claim.requests or 0)
    yield raise_against(
        "AUD016",
        claim,
        "unsupported" if claim.requests else "wrong",
        said=f"times of {claim.requests or 0} requests",
        arithmetic=f"{claim.failed} of {total} failed and are in none of them",
        right="report failures by kind, and no percentile that leaves the slowest out",
        source="survivorship",
    )


def lengths_not_as_asked(context: Context) -> Found:
    """AUD017 What was sent or written is not what was asked for."""
    claim = context.claim
    for what, asked, mean in (
        ("prompt", claim.asked_input_tokens, claim.mean_input_tokens),
        ("output", claim.asked_output_tokens, claim.mean_output_tokens),
    ):
        if not asked or mean is None or abs(mean / asked - 1) <= _LENGTH_SHARE:
            continue
        yield raise_against(
            "AUD017",
            claim,
            "wrong",
            said=f"{show_tokens(asked)} tokens of {what}",
            arithmetic=f"{mean:,.1f} on the average: {100 * (mean / asked - 1):+.2f} %",
            right="exact token ids, and ignore_eos where the output's length matters",
            source="vllm issues 17408, 24937; sglang issue 15732",
        )
