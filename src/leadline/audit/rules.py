"""The objections that can be raised without running anything; each shows its arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from leadline.audit.claims import Claim, Claims, Comparison
from leadline.audit.context import Context
from leadline.audit.objection import Objection, Weight
from leadline.catalog.reading import read_table
from leadline.plan.neuron_rules import list_releases
from leadline.units import GIB, show_bytes, show_rate, show_seconds, show_tokens

_WINDOW_S = 10
"""vLLM's and SGLang's log lines count over ten seconds (VLLM_LOG_STATS_INTERVAL)."""
_CLOSE = 0.01
_LENGTH_SHARE = 0.005
_FEWEST = 3
_SHORT_STOP = 0.99

_LOG_SOURCE = "vLLM v1/metrics/stats.py: the whole prompt is booked when its first token appears"
_LIMIT_SOURCE = (
    "vLLM entrypoints/openai/serving_engine.py: prompt + output must fit into the window"
)


def raise_objections(claims: Claims) -> list[Objection]:
    """All objections, claim by claim, then those against the report as a whole."""
    found = [
        objection
        for claim in claims.claims
        for rule in CLAIM_RULES
        for objection in rule(Context(claim, claims))
    ]
    return found + [objection for rule in REPORT_RULES for objection in rule(claims)]


def titles() -> dict[str, str]:
    """Code to what the rule says, from the rules themselves."""
    lines = [(rule.__doc__ or "").splitlines()[0] for rule in (*CLAIM_RULES, *REPORT_RULES)]
    return {code: title for code, _, title in (line.partition(" ") for line in lines)}


Found = Iterator[Objection]


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
    yield _object(
        "AUD001",
        claim,
        "wrong",
        said=f"prompt throughput {rate:,.1f} tokens/s",
        arithmetic=f"{rate:,.1f} x {_WINDOW_S} s = {booked:,.0f} tokens: the prompt itself "
        f"({show_tokens(claim.input_tokens)})",
        right=right,
        source=_LOG_SOURCE,
    )


def generation_rate_of_a_log_window(context: Context) -> Found:
    """AUD002 The generation rate of a log line counts tokens within the log's window."""
    claim, rate = context.claim, context.claim.log_generation_tokens_per_s
    if not (rate and claim.output_tokens):
        return
    counted = rate * _WINDOW_S
    if abs(counted - round(counted)) > _CLOSE or counted > claim.output_tokens * (1 + _CLOSE):
        return
    yield _object(
        "AUD002",
        claim,
        "wrong",
        said=f"generation throughput {rate:g} tokens/s",
        arithmetic=f"{rate:g} x {_WINDOW_S} s = {counted:.0f} of the {claim.output_tokens} tokens: "
        "those that fell into one window",
        right="(output tokens - 1) / (last token's time - first token's time); this is a floor",
        source=_LOG_SOURCE,
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
    yield _object(
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
    yield _object(
        "AUD004",
        claim,
        "wrong" if claim.cold else "unsupported",
        said=f"{said}prefix cache hit rate {share:.1%}",
        arithmetic="any hit disqualifies the time; the log's rate is of the last 1,000 requests, "
        "not of this one",
        right="cached_tokens of this very request must be 0 (a fresh cache salt)",
        source="vLLM v1/metrics: rolling window of requests; usage.prompt_tokens_details",
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
        yield _object(
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
        yield _object(
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


def concurrency_below_one(context: Context) -> Found:
    """AUD006 Below 1.00x a legal request is admitted and never scheduled."""
    claim, concurrency = context.claim, context.claim.max_concurrency
    if concurrency is None or concurrency >= 1:
        return
    yield _object(
        "AUD006",
        claim,
        "wrong",
        said=f"works at {concurrency:g}x concurrency",
        arithmetic=f"{concurrency:g} < 1: one request of the whole window does not fit into the "
        "cache, and waits for ever",
        right="lower the window until the engine says at least 1.00x",
        source="vllm issues 39734, 35541, 26141",
    )


def capacity_times_concurrency(context: Context) -> Found:
    """AUD007 Concurrency counts requests of the whole window; it does not multiply the cache."""
    claim = context.claim
    if not (claim.request_tokens and claim.kv_tokens and claim.max_concurrency):
        return
    product = claim.kv_tokens * claim.max_concurrency
    if abs(claim.request_tokens / product - 1) > 0.02:  # noqa: PLR2004 - both were rounded
        return
    right = "concurrency x window tokens fit by memory"
    if window := context.window:
        pool = claim.max_concurrency * window
        right = f"{claim.max_concurrency:g} x {show_tokens(window)} = {pool:,.0f} tokens fit"
        if pool > window:
            right += f" by memory; one request is capped at the window of {show_tokens(window)}"
    yield _object(
        "AUD007",
        claim,
        "wrong",
        said=f"{show_tokens(claim.request_tokens)} tokens for one request",
        arithmetic=f"= {claim.max_concurrency:g} x {show_tokens(claim.kv_tokens)}, the cache's own "
        "size: the wrong factor",
        right=right,
        source="vLLM v1/core/kv_cache_utils.py",
    )


def capacity_times_devices(context: Context) -> Found:
    """AUD008 With tensor parallelism each device holds its share of every token."""
    claim, hardware = context.claim, context.hardware
    if not (claim.all_devices_tokens and claim.kv_tokens and hardware):
        return
    factor = claim.all_devices_tokens / claim.kv_tokens
    if abs(factor / hardware.devices - 1) > _CLOSE or hardware.devices == 1:
        return
    yield _object(
        "AUD008",
        claim,
        "wrong",
        said=f"{show_tokens(claim.all_devices_tokens)} tokens on all devices",
        arithmetic=f"= {hardware.devices} x {show_tokens(claim.kv_tokens)}; that figure already "
        "divides every token over the devices",
        right=f"{show_tokens(claim.kv_tokens)} tokens in all, if that figure is right",
        source="tensor parallelism shards the KV heads, not the tokens",
    )


def weights_of_active_parameters(context: Context) -> Found:
    """AUD009 All experts lie in memory, not only those that one token passes."""
    claim, plan = context.claim, context.plan
    if claim.weights_gb_per_device is None or plan is None:
        return
    right_gb = plan.memory.weights_gib * GIB / 1e9
    if abs(claim.weights_gb_per_device / right_gb - 1) < 0.1:  # noqa: PLR2004 - GB or GiB
        return
    active_gb = plan.active_parameters * 2 / plan.gpus / 1e9
    hint = ""
    if abs(claim.weights_gb_per_device / active_gb - 1) < 0.2:  # noqa: PLR2004 - rounded
        hint = f" ({plan.active_parameters / 1e9:.0f} B active x 2 B / {plan.gpus})"
    yield _object(
        "AUD009",
        claim,
        "wrong",
        said=f"{claim.weights_gb_per_device:g} GB of weights on each device{hint}",
        arithmetic=f"{plan.parameters / 1e9:.1f} B parameters x 2 B / {plan.gpus} = "
        f"{plan.parameters * 2 / plan.gpus / 1e9:.1f} GB",
        right=f"{right_gb:.1f} GB = {show_bytes(plan.memory.weights_gib * GIB)} on each device",
        source="every expert is resident; the plan's ledger has each term",
    )


def units_mixed(context: Context) -> Found:
    """AUD010 MiB divided by a thousand is neither GB nor GiB."""
    claim, hardware = context.claim, context.hardware
    if claim.device_gb is None or hardware is None or not hardware.device.board_mib:
        return
    mib = hardware.device.board_mib
    if abs(claim.device_gb - mib / 1000) > 1:
        return
    yield _object(
        "AUD010",
        claim,
        "wrong",
        said=f"{claim.device_gb:g} GB of device memory",
        arithmetic=f"{mib:,} MiB / 1,000 = {mib / 1000:.1f}, which is no unit",
        right=f"{mib / 1024:.1f} GiB = {mib * 2**20 / 1e9:.1f} GB",
        source="nvidia-smi prints MiB",
    )


def too_few_trials(context: Context) -> Found:
    """AUD011 One time says nothing of the next."""
    claim = context.claim
    timed = claim.response_s or claim.ttft_s
    if timed is None or claim.repeats is None or claim.repeats >= _FEWEST:
        return
    yield _object(
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
    yield _object(
        "AUD012",
        claim,
        "unsupported",
        said=f"response time {claim.response_s:g} s",
        arithmetic=f"prefill of the prompt and {claim.output_tokens} steps of decode in one number",
        right="stream the answer: TTFT and the time per output token apart",
        source="TTFT and TPOT are different resources: compute, and memory bandwidth",
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
    yield _object(
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
    yield _object(
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
    yield _object(
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
    yield _object(
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
        yield _object(
            "AUD017",
            claim,
            "wrong",
            said=f"{show_tokens(asked)} tokens of {what}",
            arithmetic=f"{mean:,.1f} on the average: {100 * (mean / asked - 1):+.2f} %",
            right="exact token ids, and ignore_eos where the output's length matters",
            source="vllm issues 17408, 24937; sglang issue 15732",
        )


def tail_of_means(context: Context) -> Found:
    """AUD018 The tail of per-request means hides every stall."""
    claim = context.claim
    if not claim.itl_is_request_mean or claim.itl_p99_ms is None:
        return
    yield _object(
        "AUD018",
        claim,
        "unsupported",
        said=f"ITL p99 {claim.itl_p99_ms:.4g} ms",
        arithmetic="this client averages the gaps of each request first: a stall of 200 ms every "
        "25 tokens shows as 16 ms",
        right="the p99 of the gaps themselves",
        source="measured: GuideLLM 0.8.1 and AIPerf 0.13.0 against a server with known stalls",
    )


def packages_never_released_together(claims: Claims) -> Found:
    """AUD019 The packages named were never released together."""
    named = {key: value for key, value in claims.versions.items() if value}
    releases = [release.model_dump() for release in list_releases()]
    if len(named) < 2 or any(_fits(release, named) for release in releases):  # noqa: PLR2004
        return
    known = [r for r in releases if _fits(r, {k: v for k, v in named.items() if k != "sdk"})]
    right = "; ".join(_name(release) for release in known) or "no release holds these packages"
    yield Objection(
        code="AUD019",
        claim="versions",
        weight="wrong",
        said=", ".join(f"{key} {value}" for key, value in named.items()),
        arithmetic="no release of the Neuron SDK holds them together",
        right=right,
        source="aws-neuron-sdk release notes and n2-manifest.json",
    )


def rate_that_grows_with_length(claims: Claims) -> Found:
    """AUD020 Prefill gets slower with length: attention grows with its square."""
    rated = sorted(
        (claim.input_tokens, claim.log_prompt_tokens_per_s, claim.name)
        for claim in claims.claims
        if claim.input_tokens and claim.log_prompt_tokens_per_s
    )
    if len(rated) < 2 or [r[1] for r in rated] != sorted(r[1] for r in rated):  # noqa: PLR2004
        return
    yield Objection(
        code="AUD020",
        claim=", ".join(name for *_, name in rated),
        weight="wrong",
        said="; ".join(f"{show_rate(rate)} tokens/s at {show_tokens(n)}" for n, rate, _ in rated),
        arithmetic="the rate grows with the prompt: it is the prompt over a fixed window",
        right="tokens per second fall with length, since attention grows with its square",
        source=_LOG_SOURCE,
    )


def unlike_compared(claims: Claims) -> Found:
    """AUD021 A ratio needs equal prompts, equal cache states and repeats on both sides."""
    by_name = {claim.name: claim for claim in claims.claims}
    for comparison in claims.comparisons:
        pair = [by_name.get(comparison.faster), by_name.get(comparison.slower)]
        faster, slower = pair
        if faster is None or slower is None:
            continue
        reasons = list(_differences(faster, slower))
        if reasons:
            yield Objection(
                code="AUD021",
                claim=f"{faster.name} against {slower.name}",
                weight="incomparable",
                said=f"{comparison.ratio:g} times as fast",
                arithmetic="; ".join(reasons),
                right=_right_ratio(claims, comparison, faster, slower),
                source="same token ids, same limits, cold, interleaved, repeated",
            )


def _differences(faster: Claim, slower: Claim) -> Iterator[str]:
    lengths = faster.input_tokens, slower.input_tokens
    if all(lengths) and lengths[0] != lengths[1]:
        share = abs(lengths[0] / lengths[1] - 1)  # type: ignore[operator]
        yield f"prompts differ: {lengths[0]:,} and {lengths[1]:,} tokens ({share:.1%})"
    hits = faster.cache_hit_share or 0, slower.cache_hit_share or 0
    if hits[0] != hits[1]:
        yield f"cache hits on one side: {max(hits):.1%}"
    fewest = min(faster.repeats or 1, slower.repeats or 1)
    if fewest < _FEWEST:
        yield f"n = {fewest}"


def _right_ratio(claims: Claims, comparison: Comparison, faster: Claim, slower: Claim) -> str:
    """Cold, by the plan, where the faster side's time cannot be a cold one."""
    context = Context(faster, claims)
    audit, plan = context.audit, context.plan
    if audit is None or audit.plausible_cold or not (plan and plan.time and slower.response_s):
        return "measure both cold, on the same ids, at least three times, interleaved"
    cold = plan.time.prefill_s
    ratios = (slower.response_s / cold.high, slower.response_s / cold.low)
    return (
        f"cold, {faster.name} is predicted to take {show_seconds(cold.low)} to "
        f"{show_seconds(cold.high)} before it decodes: {ratios[0]:.1f} to {ratios[1]:.1f} times, "
        f"not {comparison.ratio:g}"
    )


def _fits(release: dict[str, object], named: dict[str, str]) -> bool:
    plugins = [str(plugin) for plugin in release.get("plugins", [])]  # type: ignore[attr-defined]
    values = {key: str(value) for key, value in release.items()}
    return all(
        any(plugin.startswith(value) for plugin in plugins)
        if key == "plugin"
        else values.get(key, "").startswith(value)
        for key, value in named.items()
    )


def _name(release: dict[str, object]) -> str:
    return (
        f"vLLM {release['vllm']} is SDK {release['sdk']} (neuronx-cc {release['neuronx_cc']}, "
        f"NxDI {release['nxdi']})"
    )


def _object(
    code: str, claim: Claim, weight: Weight, *, said: str, arithmetic: str, right: str, source: str
) -> Objection:
    return Objection(
        code=code,
        claim=claim.name,
        weight=weight,
        said=said,
        arithmetic=arithmetic,
        right=right,
        source=source,
    )


CLAIM_RULES: Sequence[Callable[[Context], Found]] = (
    prompt_rate_of_a_log_window,
    generation_rate_of_a_log_window,
    faster_than_light,
    cached_and_called_cold,
    beyond_the_window,
    concurrency_below_one,
    capacity_times_concurrency,
    capacity_times_devices,
    weights_of_active_parameters,
    units_mixed,
    too_few_trials,
    prefill_and_decode_in_one,
    corpus_too_short,
    status_is_no_proof,
    client_counted,
    failures_left_out,
    lengths_not_as_asked,
    tail_of_means,
)
REPORT_RULES: Sequence[Callable[[Claims], Found]] = (
    packages_never_released_together,
    rate_that_grows_with_length,
    unlike_compared,
)
