"""The plan of vLLM on Neuron: one entry for both generations of the plugin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

from leadline.errors import PlanError
from leadline.plan.architecture import Model
from leadline.plan.durations import plan_time
from leadline.plan.hardware import Hardware
from leadline.plan.ledger import Kind
from leadline.plan.neuron_buckets import list_buckets
from leadline.plan.neuron_checks import check_neuron
from leadline.plan.neuron_memory import NeuronMemory, plan_neuron_memory, split_cores
from leadline.plan.neuron_native import (
    NativeSettings,
    check_native,
    note_native,
    plan_native_memory,
    read_native_settings,
)
from leadline.plan.neuron_notes import note_neuron
from leadline.plan.neuron_rules import NeuronRelease, find_neuron_release
from leadline.plan.neuron_settings import NeuronSettings, read_buckets, read_neuron_settings
from leadline.plan.request import Request
from leadline.plan.schema import CacheGroup, Finding, KvCache, Limits, Memory, Plan
from leadline.plan.verdicts import check_request
from leadline.plan.vllm import Measured
from leadline.plan.weights import Shards, count_active_parameters, count_parameters
from leadline.units import GIB

LENGTH_STEP_TOKENS = 1024
"""The longest startable length is searched in steps of it."""


@dataclass(frozen=True)
class _Answer:
    """What both generations come to, before it is put into words."""

    settings: NeuronSettings | NativeSettings
    hardware: Hardware
    memory: NeuronMemory
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    prompt_tokens: int
    """Longest prompt that has a graph."""
    startable_tokens: int
    budget_bytes: int
    kv_kind: Kind

    @property
    def blocks(self) -> int:
        return self.memory.pool_bytes // (self.settings.block_tokens * self.memory.token_bytes or 1)


def plan_neuron(
    model: Model,
    hardware: Hardware,
    version: str,
    *,
    given: Mapping[str, Any],
    env: Mapping[str, str],
    request: Request,
    known: Measured,
) -> Plan:
    release = find_neuron_release(version)
    _refuse_others(hardware)
    answer_generation = _answer_native if release.generation > 1 else _answer_first
    answer = answer_generation(model, hardware, release, given=given, env=env, known=known)
    limits = _limits(model, answer, request)
    longest = limits.max_input_tokens
    too_long = check_request(
        limits.input_tokens, longest, request.output_tokens, _binding_length(answer)
    )
    findings = (*answer.findings, *too_long)
    shards = Shards(answer.settings.tensor)
    return Plan(
        model=model.name,
        hardware=str(answer.hardware),
        engine=f"neuron=={release.plugins[0]}",
        gpus=shards.tensor,
        parameters=count_parameters(model),
        active_parameters=count_active_parameters(model),
        verdict=findings[0].code if findings else f"fits({limits.concurrent_requests})",
        binding=findings[0] if findings else None,
        findings=findings,
        kv=_cache(model, answer),
        limits=limits,
        memory=_memory(answer),
        time=plan_time(
            model,
            answer.hardware.device,
            shards,
            "vllm-neuron",
            request=request,
            tokens=limits.input_tokens,
        ),
        warnings=answer.notes,
    )


def _refuse_others(hardware: Hardware) -> None:
    if hardware.device.vendor != "neuron":
        raise PlanError(
            f"vLLM on Neuron does not run on {hardware.device.name}",
            where="hardware",
            cure="plan trn1.32xlarge, trn2.48xlarge or 4xtrn3-core, or another engine",
        )


def _answer_first(
    model: Model,
    hardware: Hardware,
    release: NeuronRelease,
    *,
    given: Mapping[str, Any],
    env: Mapping[str, str],
    known: Measured,
) -> _Answer:
    settings = read_neuron_settings(given, env, model, hardware.device, release)
    cores = split_cores(hardware, settings.core_size)
    memory = plan_neuron_memory(model, cores.device, settings, known)
    return _Answer(
        settings=settings,
        hardware=cores,
        memory=memory,
        findings=tuple(check_neuron(model, cores, settings, release, memory)),
        notes=tuple(note_neuron(model, cores.device, settings, release)),
        prompt_tokens=min(settings.max_prompt_tokens, settings.buckets.context[-1]),
        startable_tokens=_longest_startable(
            model, cores, settings, release, Measured(weights_bytes=memory.weights_bytes)
        ),
        budget_bytes=memory.core_bytes,
        kv_kind="derived",
    )


def _answer_native(
    model: Model,
    hardware: Hardware,
    release: NeuronRelease,
    *,
    given: Mapping[str, Any],
    env: Mapping[str, str],
    known: Measured,
) -> _Answer:
    settings = read_native_settings(given, env, model, hardware.device, release)
    cores = split_cores(hardware, settings.core_size)
    memory = plan_native_memory(model, cores.device, settings, known)
    return _Answer(
        settings=settings,
        hardware=cores,
        memory=memory,
        findings=tuple(check_native(model, cores, settings, memory)),
        notes=tuple(note_native(settings, release)),
        prompt_tokens=settings.max_model_tokens,
        startable_tokens=min(memory.pool_bytes // memory.token_bytes, model.max_position),
        budget_bytes=int(memory.core_bytes * settings.utilization),
        kv_kind="derived" if known.available_bytes is None else "recorded",
    )


def _longest_startable(
    model: Model,
    hardware: Hardware,
    settings: NeuronSettings,
    release: NeuronRelease,
    known: Measured,
) -> int:
    """Longest max_model_len that nothing speaks against, with NxDI's own buckets for it."""
    low, high = 0, model.max_position // LENGTH_STEP_TOKENS
    while low < high:
        middle = (low + high + 1) // 2
        shaped = _resize(settings, middle * LENGTH_STEP_TOKENS)
        memory = plan_neuron_memory(model, hardware.device, shaped, known)
        if any(check_neuron(model, hardware, shaped, release, memory)):
            high = middle - 1
        else:
            low = middle
    return low * LENGTH_STEP_TOKENS


def _resize(settings: NeuronSettings, tokens: int) -> NeuronSettings:
    """The same deployment at another max_model_len: own buckets, just enough blocks."""
    lists = ("context_encoding_buckets", "prefix_buckets", "token_generation_buckets")
    override = {key: value for key, value in settings.override.items() if key not in lists}
    decode = settings.buckets.decode[0]
    buckets = read_buckets(override, tokens, tokens, caching=settings.prefix_caching)
    if settings.override.get("token_generation_buckets") and decode < tokens:
        buckets = replace(buckets, decode=list_buckets(decode, tokens))
    shaped = replace(
        settings,
        max_model_tokens=tokens,
        max_prompt_tokens=tokens,
        block_tokens=settings.block_tokens if settings.prefix_caching else tokens,
        override=override,
        buckets=buckets,
    )
    return replace(shaped, blocks=shaped.least_blocks if shaped.prefix_caching else shaped.max_seqs)


def _binding_length(answer: _Answer) -> str:
    whole = answer.prompt_tokens >= answer.settings.max_model_tokens
    return "max_model_len" if whole else "context_encoding_buckets"


def _limits(model: Model, answer: _Answer, request: Request) -> Limits:
    """A prompt needs a prefill graph; prompt and output together need blocks."""
    settings = answer.settings
    held = answer.blocks * settings.block_tokens
    room = min(settings.max_model_tokens, held) - request.output_tokens
    longest = max(0, min(room, answer.prompt_tokens))
    prompt = request.input_tokens or longest
    each = ceil(max(1, prompt + request.output_tokens) / (settings.block_tokens or 1))
    return Limits(
        max_model_len=settings.max_model_tokens,
        trained_context=model.max_position,
        max_startable_len=answer.startable_tokens,
        output_tokens=request.output_tokens,
        max_input_tokens=longest,
        input_tokens=prompt,
        concurrent_requests=min(settings.max_seqs, answer.blocks // each),
    )


def _cache(model: Model, answer: _Answer) -> KvCache:
    settings, memory = answer.settings, answer.memory
    held = answer.blocks * settings.block_tokens
    return KvCache(
        bytes_per_token_per_gpu=memory.token_bytes,
        available_gib=memory.pool_bytes / GIB,
        uncertainty_gib=0.0,
        capacity_tokens=held,
        max_concurrency=held / settings.max_model_tokens,
        max_request_tokens=min(held, settings.max_model_tokens),
        blocks=answer.blocks,
        block_tokens=settings.block_tokens,
        groups=(CacheGroup(attention="full", reach_tokens=0, layers=len(model.layers)),),
        kind=answer.kv_kind,
    )


def _memory(answer: _Answer) -> Memory:
    memory = answer.memory
    return Memory(
        device_gib=memory.core_bytes / GIB,
        budget_gib=answer.budget_bytes / GIB,
        weights_gib=memory.weights_bytes / GIB,
        margin_gib=memory.margin_bytes / GIB,
        uncertainty_gib=memory.uncertainty_bytes / GIB,
        terms=memory.terms,
    )
