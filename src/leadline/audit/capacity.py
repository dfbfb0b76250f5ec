"""Objections to what is said to fit. Each shows its arithmetic."""

from __future__ import annotations

from leadline.audit.context import Context
from leadline.audit.objection import Found, raise_against
from leadline.units import GIB, show_bytes, show_tokens

_CLOSE = 0.01


def concurrency_below_one(context: Context) -> Found:
    """AUD006 Below 1.00x a legal request is admitted and never scheduled."""
    claim, concurrency = context.claim, context.claim.max_concurrency
    if concurrency is None or concurrency >= 1:
        return
    yield raise_against(
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
    yield raise_against(
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
    yield raise_against(
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
    yield raise_against(
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
    yield raise_against(
        "AUD010",
        claim,
        "wrong",
        said=f"{claim.device_gb:g} GB of device memory",
        arithmetic=f"{mib:,} MiB / 1,000 = {mib / 1000:.1f}, which is no unit",
        right=f"{mib / 1024:.1f} GiB = {mib * 2**20 / 1e9:.1f} GB",
        source="nvidia-smi prints MiB",
    )
