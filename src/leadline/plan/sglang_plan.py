"""SGLang's plan: settings, ledger, pools, findings and time put together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from leadline.plan.architecture import Model
from leadline.plan.durations import plan_time
from leadline.plan.hardware import Hardware
from leadline.plan.options import list_ignored
from leadline.plan.releases import parse_version
from leadline.plan.request import Request
from leadline.plan.schema import CacheGroup, KvCache, Limits, Memory, Plan
from leadline.plan.sglang import SglangMemory, longest_input, plan_sglang_memory
from leadline.plan.sglang_settings import LONGER_VARIABLE, SglangSettings, read_sglang_settings
from leadline.plan.verdicts import check_request, check_sglang, choose_binding
from leadline.plan.vllm import Measured
from leadline.plan.weights import count_active_parameters, count_parameters
from leadline.units import GIB

READ_VERSION = (0, 5, 6)
"""The release whose source the formulas come from."""


def plan_sglang(
    model: Model,
    hardware: Hardware,
    version: str,
    *,
    given: Mapping[str, Any],
    env: Mapping[str, str],
    request: Request,
    known: Measured,
) -> Plan:
    settings = read_sglang_settings(given, model, hardware.device)
    memory = plan_sglang_memory(model, hardware, settings, known)
    limits = _limits(model, settings, memory, request)
    longer = env.get(LONGER_VARIABLE) in ("1", "true", "True")
    findings = (
        *check_sglang(model, hardware, settings, memory, longer_allowed=longer),
        *check_request(
            limits.input_tokens, limits.max_input_tokens, request.output_tokens, "context_length"
        ),
    )
    binding = choose_binding(findings)
    shards = settings.shards
    return Plan(
        model=model.name,
        hardware=str(hardware),
        engine=f"sglang=={version}",
        gpus=shards.tensor * shards.pipeline * settings.replicas,
        parameters=count_parameters(model),
        active_parameters=count_active_parameters(model),
        verdict=binding.code if binding else f"fits({limits.concurrent_requests})",
        binding=binding,
        findings=findings,
        kv=_cache(model, settings, memory, known),
        limits=limits,
        memory=Memory(
            device_gib=memory.device_bytes / GIB,
            budget_gib=memory.static_bytes / GIB,
            weights_gib=next(term.gib for term in memory.terms if term.name == "weights"),
            margin_gib=memory.margin_bytes / GIB,
            uncertainty_gib=memory.uncertainty_bytes / GIB,
            terms=tuple(memory.terms),
        ),
        time=plan_time(
            model,
            hardware.device,
            shards,
            "sglang",
            request=request,
            tokens=limits.input_tokens,
        ),
        warnings=tuple(_warnings(hardware, version, settings)),
    )


def _limits(
    model: Model, settings: SglangSettings, memory: SglangMemory, request: Request
) -> Limits:
    pools = memory.pools
    longest = longest_input(settings, pools, request.output_tokens)
    prompt = request.input_tokens or longest
    total = max(1, prompt + request.output_tokens)
    return Limits(
        max_model_len=settings.context_tokens,
        trained_context=model.max_position,
        max_startable_len=settings.context_tokens if pools.full_tokens > 0 else 0,
        output_tokens=request.output_tokens,
        max_input_tokens=longest,
        input_tokens=prompt,
        concurrent_requests=min(pools.full_tokens // total, pools.running_requests)
        * settings.replicas,
    )


def _cache(
    model: Model, settings: SglangSettings, memory: SglangMemory, known: Measured
) -> KvCache:
    pools = memory.pools
    chunk = max(reach.tokens for reach in model.reaches)
    full = sum(reach.kind == "full" for reach in model.reaches)
    groups = [CacheGroup(attention="full", reach_tokens=0, layers=len(model.layers))]
    per_token = pools.bytes_per_token
    if pools.local_tokens:
        local = CacheGroup(attention="chunked", reach_tokens=chunk, layers=len(model.layers) - full)
        groups = [CacheGroup(attention="full", reach_tokens=0, layers=full), local]
        per_token *= full / len(model.layers)
    return KvCache(
        bytes_per_token_per_gpu=per_token,
        available_gib=memory.available_bytes / GIB,
        uncertainty_gib=memory.uncertainty_bytes / GIB,
        capacity_tokens=pools.full_tokens,
        max_concurrency=pools.full_tokens / settings.context_tokens,
        max_request_tokens=max(0, pools.full_tokens - 1),
        blocks=pools.full_tokens // settings.page_tokens,
        block_tokens=settings.page_tokens,
        groups=tuple(groups),
        kind="recorded" if known.available_bytes is not None else "prior",
    )


def _warnings(hardware: Hardware, version: str, settings: SglangSettings) -> Iterator[str]:
    if parse_version(version)[:3] != READ_VERSION:
        yield f"the formulas are SGLang 0.5.6's; {version} may differ"
    used = settings.shards.tensor * settings.shards.pipeline * settings.replicas
    if used < hardware.devices:
        yield f"{hardware.devices - used} of {hardware.devices} devices stay idle"
    yield from list_ignored(settings.unplanned, "sglang")
    if not settings.fraction_given:
        yield f"mem_fraction_static is the engine's own choice, {settings.fraction:.3f}"
