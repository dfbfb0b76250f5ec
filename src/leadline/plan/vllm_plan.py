"""vLLM's plan: settings, ledger, pool, findings and time put together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from leadline.plan.architecture import Model
from leadline.plan.durations import plan_time
from leadline.plan.hardware import Hardware
from leadline.plan.kv_cache import NULL_BLOCKS, count_request_blocks
from leadline.plan.ledger import Kind
from leadline.plan.options import list_ignored
from leadline.plan.releases import VllmRelease, find_vllm_release, is_newer_than_read
from leadline.plan.request import Request
from leadline.plan.schema import CacheGroup, Finding, KvCache, Limits, Memory, Plan
from leadline.plan.verdicts import check_request, check_vllm, choose_binding
from leadline.plan.vllm import (
    Measured,
    VllmMemory,
    count_activation_bytes,
    plan_vllm_memory,
    pool_settings,
)
from leadline.plan.vllm_settings import LONGER_VARIABLE, VllmSettings, read_vllm_settings
from leadline.plan.weights import count_active_parameters, count_parameters
from leadline.units import GIB, show_bytes

LONG_CONTEXT_TOKENS = 200_000
FEW_SEQUENCES = 8
WORTH_SAVING_BYTES = GIB


def plan_vllm(
    model: Model,
    hardware: Hardware,
    version: str,
    *,
    given: Mapping[str, Any],
    env: Mapping[str, str],
    request: Request,
    known: Measured,
) -> Plan:
    release = find_vllm_release(version)
    settings = read_vllm_settings(given, env, model, hardware.device, release)
    memory = plan_vllm_memory(model, hardware, settings, release, known)
    if settings.fit_length and 0 < memory.pool.startable_tokens < settings.max_model_tokens:
        settings = replace(settings, max_model_tokens=memory.pool.startable_tokens)
        memory = plan_vllm_memory(model, hardware, settings, release, known)
    limits = _limits(model, settings, release, memory, request)
    longer = env.get(LONGER_VARIABLE) == "1"
    findings = (
        *check_vllm(model, hardware, settings, release, memory, longer_allowed=longer),
        *check_request(
            limits.input_tokens, limits.max_input_tokens, request.output_tokens, "max_model_len"
        ),
    )
    binding = choose_binding(findings)
    shards = settings.shards
    return Plan(
        model=model.name,
        hardware=str(hardware),
        engine=f"vllm=={version}",
        gpus=shards.tensor * shards.pipeline * settings.replicas,
        parameters=count_parameters(model),
        active_parameters=count_active_parameters(model),
        verdict=_verdict(binding, limits),
        binding=binding,
        findings=findings,
        kv=_cache(memory, known, settings),
        limits=limits,
        memory=_memory(memory),
        time=plan_time(
            model,
            hardware.device,
            shards,
            "vllm",
            request=request,
            tokens=limits.input_tokens,
        ),
        warnings=tuple(
            _warnings(model, hardware, version, settings=settings, release=release, memory=memory)
        ),
    )


def _verdict(binding: Finding | None, limits: Limits) -> str:
    return binding.code if binding else f"fits({limits.concurrent_requests})"


def _limits(
    model: Model,
    settings: VllmSettings,
    release: VllmRelease,
    memory: VllmMemory,
    request: Request,
) -> Limits:
    """A request is admitted up to max_model_len, and runs only as far as the pool reaches."""
    pool = memory.pool
    longest = min(settings.max_model_tokens, pool.max_request_tokens) - request.output_tokens
    prompt = request.input_tokens or max(longest, 0)
    total = max(1, prompt + request.output_tokens)
    each = count_request_blocks(pool.groups, pool_settings(settings), release, total)
    at_once = min(max(0, pool.blocks - NULL_BLOCKS) // each, settings.max_seqs)
    return Limits(
        max_model_len=settings.max_model_tokens,
        trained_context=model.max_position,
        max_startable_len=pool.startable_tokens,
        output_tokens=request.output_tokens,
        max_input_tokens=max(longest, 0),
        input_tokens=prompt,
        concurrent_requests=at_once * settings.replicas,
    )


def _cache(memory: VllmMemory, known: Measured, settings: VllmSettings) -> KvCache:
    pool = memory.pool
    kind: Kind = "derived"
    if known.available_bytes is not None or settings.kv_bytes:
        kind = "recorded"
    elif memory.uncertainty_bytes:
        kind = "calibrated"
    return KvCache(
        bytes_per_token_per_gpu=pool.bytes_per_token,
        available_gib=memory.available_bytes / GIB,
        uncertainty_gib=memory.uncertainty_bytes / GIB,
        capacity_tokens=pool.capacity_tokens,
        max_concurrency=pool.concurrency,
        max_request_tokens=pool.max_request_tokens,
        blocks=pool.blocks,
        block_tokens=pool.block_tokens,
        groups=tuple(
            CacheGroup(
                attention=group.reach.kind,
                reach_tokens=group.reach.tokens,
                layers=len(group.layers),
            )
            for group in pool.groups
        ),
        kind=kind,
    )


def _memory(memory: VllmMemory) -> Memory:
    return Memory(
        device_gib=memory.device_bytes / GIB,
        budget_gib=memory.budget_bytes / GIB,
        weights_gib=next(term.gib for term in memory.terms if term.name == "weights"),
        margin_gib=memory.margin_bytes / GIB,
        uncertainty_gib=memory.uncertainty_bytes / GIB,
        terms=tuple(memory.terms),
    )


def _warnings(
    model: Model,
    hardware: Hardware,
    version: str,
    *,
    settings: VllmSettings,
    release: VllmRelease,
    memory: VllmMemory,
) -> Iterator[str]:
    if is_newer_than_read(version):
        yield f"vLLM {version} is newer than the newest release whose source was read"
    used = settings.shards.tensor * settings.shards.pipeline * settings.replicas
    if used < hardware.devices:
        yield f"{hardware.devices - used} of {hardware.devices} devices stay idle"
    yield from list_ignored(settings.unplanned, "vllm")
    local = any(reach.kind != "full" for reach in model.reaches)
    if local and settings.hybrid_reason:
        yield (
            f"the hybrid KV cache manager is off ({settings.hybrid_reason}): "
            "local layers keep every token"
        )
    if settings.max_model_tokens >= LONG_CONTEXT_TOKENS:
        yield from _savings(model, hardware, settings, release, memory)


def _savings(
    model: Model,
    hardware: Hardware,
    settings: VllmSettings,
    release: VllmRelease,
    memory: VllmMemory,
) -> Iterator[str]:
    """What long contexts need not pay for: rows of the sampler, tables, unused positions."""
    few = replace(settings, max_seqs=min(FEW_SEQUENCES, settings.max_seqs))
    stage = settings.shards.pipeline - 1
    saved = count_activation_bytes(model, hardware.device, settings, release, stage)
    saved -= count_activation_bytes(model, hardware.device, few, release, stage)
    tables = next(term.gib for term in memory.terms if term.name == "block tables") * GIB
    if saved > WORTH_SAVING_BYTES:
        yield (
            f"max_num_seqs {FEW_SEQUENCES} instead of {settings.max_seqs} leaves "
            f"{show_bytes(saved)} more for the KV cache and {show_bytes(tables)} of block tables"
        )
    rope = sum(term.gib for term in memory.terms if term.name == "RoPE cache") * GIB
    used = settings.max_model_tokens / model.rope.positions[0]
    if rope * (1 - used) > WORTH_SAVING_BYTES:
        yield (
            f"the RoPE cache of {show_bytes(rope)} covers {model.rope.positions[0]:,} positions; "
            f"an override of max_position_embeddings to max_model_len saves "
            f"{show_bytes(rope * (1 - used))}"
        )
