"""Objections to a report as a whole. Each shows its arithmetic."""

from __future__ import annotations

from collections.abc import Iterator

from leadline.audit.claims import Claim, Claims, Comparison
from leadline.audit.context import Context
from leadline.audit.objection import Found, Objection
from leadline.audit.sources import LOG_SOURCE
from leadline.plan.neuron_rules import list_releases
from leadline.units import show_rate, show_seconds, show_tokens

_FEWEST = 3


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
        source=LOG_SOURCE,
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
