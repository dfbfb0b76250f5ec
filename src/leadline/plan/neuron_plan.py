"""Neuron's plan: what compiles, what loads, what fits; each finding says how it is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from leadline.catalog.reading import read_table
from leadline.errors import PlanError
from leadline.plan.architecture import Model
from leadline.plan.durations import plan_time
from leadline.plan.hardware import Device, Hardware
from leadline.plan.ledger import Term
from leadline.plan.neuron import (
    NeuronRelease,
    NeuronSettings,
    cache_slots,
    core_terms,
    count_core_token_bytes,
    find_neuron_release,
    graph_room_mib,
    read_neuron_settings,
    score_row_bytes,
)
from leadline.plan.releases import parse_version
from leadline.plan.request import Request
from leadline.plan.schema import CacheGroup, Finding, KvCache, Limits, Memory, Plan
from leadline.plan.verdicts import check_parallelism, check_request, choose_binding
from leadline.plan.vllm import Measured
from leadline.plan.weights import Shards, count_active_parameters, count_parameters
from leadline.units import GIB, show_tokens


def plan_neuron(
    model: Model,
    hardware: Hardware,
    version: str,
    *,
    given: Mapping[str, Any],
    env: Mapping[str, str],  # noqa: ARG001 - one signature for all engines
    request: Request,
    known: Measured,
) -> Plan:
    release = find_neuron_release(version)
    _require_generation_1(release, hardware)
    settings = read_neuron_settings(given, model)
    terms = core_terms(model, settings, known)
    limits = _limits(model, settings, request)
    findings = (
        *check_neuron(model, hardware, settings, release, terms),
        *check_request(
            limits.input_tokens, limits.max_input_tokens, request.output_tokens, "max_model_len"
        ),
    )
    binding = choose_binding(findings)
    shards = Shards(settings.cores)
    return Plan(
        model=model.name,
        hardware=str(hardware),
        engine=f"vllm-neuron=={release.plugin}",
        gpus=settings.cores,
        parameters=count_parameters(model),
        active_parameters=count_active_parameters(model),
        verdict=binding.code if binding else f"fits({limits.concurrent_requests})",
        binding=binding,
        findings=findings,
        kv=_cache(model, settings, terms),
        limits=limits,
        memory=_memory(hardware.device, terms),
        time=plan_time(
            model,
            hardware.device,
            shards,
            "vllm-neuron",
            request=request,
            tokens=limits.input_tokens,
        ),
        warnings=tuple(_warnings(settings, release, hardware.device)),
    )


def check_neuron(
    model: Model,
    hardware: Hardware,
    settings: NeuronSettings,
    release: NeuronRelease,
    terms: list[Term],
) -> Iterator[Finding]:
    flags = ("tensor_parallel_size", "pipeline_parallel_size")
    yield from check_parallelism(model, hardware, Shards(settings.cores), replicas=1, flags=flags)
    if settings.max_model_tokens > model.max_position:
        yield Finding(
            code="exceeds_trained_context",
            reason=f"{show_tokens(settings.max_model_tokens)} tokens, trained to "
            f"{show_tokens(model.max_position)}; the plugin does not check it",
            flag="max_model_len",
            direction="lower",
            amount=show_tokens(model.max_position),
        )
    yield from _check_blocks(settings)
    if settings.kernel and parse_version(release.nxdi) <= parse_version(
        read_table("neuron")["kernel"]["last_nxdi"]
    ):
        yield from _check_kernel(settings, hardware.device)
    yield from _check_compiler(settings)
    yield from _check_memory(settings, hardware.device, terms)


def _require_generation_1(release: NeuronRelease, hardware: Hardware) -> None:
    if release.generation != 1:
        raise PlanError(
            f"vllm-neuron {release.plugin} is of generation {release.generation}, whose buckets "
            "and memory this planner does not model yet",
            where="engine",
            cure="plan a generation 1 version, for example vllm-neuron==0.4.1",
        )
    if hardware.device.vendor != "neuron":
        raise PlanError(
            f"{hardware} has no Neuron cores",
            where="hardware",
            cure="write trn2.48xlarge or trn1.32xlarge",
        )


def _check_blocks(settings: NeuronSettings) -> Iterator[Finding]:
    if not settings.prefix_caching:
        return
    if settings.prefix_buckets_missing:
        yield Finding(
            code="bucket_missing",
            reason="context_encoding_buckets with prefix caching but without prefix_buckets: "
            "NxDI ends in a TypeError",
            flag="prefix_buckets",
            direction="set",
            amount="for example 512, 1024, 2048",
        )
    if not settings.block_tokens:
        yield Finding(
            code="start_fail",
            reason="prefix caching is on (vLLM's default) and needs a block size",
            flag="block_size",
            direction="set",
            amount="32, or enable_prefix_caching=False",
        )
    elif settings.blocks < settings.least_blocks:
        yield Finding(
            code="start_fail",
            reason=f"{settings.blocks:,} blocks cannot hold {settings.batch} sequences of "
            f"{show_tokens(settings.max_model_tokens)} tokens",
            flag="num_gpu_blocks_override",
            direction="raise",
            amount=f"{settings.least_blocks:,}",
        )


def _check_kernel(settings: NeuronSettings, device: Device) -> Iterator[Finding]:
    """The token-generation kernel shards the context over the physical cores of a logical one."""
    multiple = read_table("neuron")["kernel"]["context_multiple"] * device.physical_cores
    wrong = [bucket for bucket in settings.buckets.decode if bucket % multiple]
    # With an odd batch the kit's runs passed nonetheless (recorded; the closed kernel of that
    # release seems to shard the batch first), so only an even batch is called a failure.
    if wrong and settings.batch % 2 == 0:
        yield Finding(
            code="bucket_missing",
            reason=f"the token-generation kernel needs buckets that are multiples of {multiple}; "
            f"{wrong[0]} is not (sharded context length must be a multiple of 128)",
            flag="token_generation_buckets",
            direction="change",
            amount=f"start at {multiple}",
        )
    row = score_row_bytes(settings, device)
    if device.sbuf_bytes_per_partition and row > device.sbuf_bytes_per_partition:
        ceiling = settings.max_model_tokens * device.sbuf_bytes_per_partition // row
        yield Finding(
            code="compile_fail",
            reason=f"one row of scores takes {row / 1024:.1f} KB of a partition's "
            f"{device.sbuf_bytes_per_partition / 1024:.1f} KB of SBUF: this kernel's limit, not "
            "the hardware's",
            flag="max_model_len",
            direction="lower",
            amount=f"{show_tokens(ceiling)} at most by arithmetic (98,304 is a sensible probe), "
            "or switch the kernel off, or use NxDI 0.9",
        )


def _check_compiler(settings: NeuronSettings) -> Iterator[Finding]:
    facts = read_table("neuron")["recorded"]
    cell = settings.buckets.largest_cell_tokens
    if settings.prefix_caching and cell >= facts["cached_cell_fails_tokens"]:
        yield Finding(
            code="compile_fail",
            reason=f"the largest prompt x prefix graph covers {show_tokens(cell)} tokens: such "
            "a graph was recorded not to serialise (module proto over 2 GiB)",
            flag="prefix_buckets",
            direction="lower",
            amount=f"largest cell of {show_tokens(facts['cached_cell_passes_tokens'])} compiled",
            kind="recorded",
        )


def _check_memory(settings: NeuronSettings, device: Device, terms: list[Term]) -> Iterator[Finding]:
    """Room per graph below the fitted constant's interval fails; inside it nobody knows."""
    facts, graphs = read_table("neuron")["memory"], settings.buckets.graphs
    room = graph_room_mib(device, terms, graphs)
    if room >= facts["most_graph_mib"]:
        return
    most = max(1, int(room * graphs / facts["most_graph_mib"]))
    sure = room <= facts["least_graph_mib"] + 0.5
    yield Finding(
        code="start_fail" if sure else "risk_oom_outside_budget",
        reason=f"{graphs} compiled graphs have {room:.0f} MiB each beside weights and cache; "
        f"they were fitted to need {facts['least_graph_mib']} to {facts['most_graph_mib']}",
        flag="context_encoding_buckets, prefix_buckets, token_generation_buckets",
        direction="lower",
        amount=f"to {most} graphs in all (prune the lists), or fewer blocks",
        kind="calibrated",
    )


def _limits(model: Model, settings: NeuronSettings, request: Request) -> Limits:
    longest = settings.max_model_tokens - request.output_tokens
    longest = min(longest, max(settings.buckets.prefill))
    return Limits(
        max_model_len=settings.max_model_tokens,
        trained_context=model.max_position,
        max_startable_len=settings.max_model_tokens,
        output_tokens=request.output_tokens,
        max_input_tokens=max(0, longest),
        input_tokens=request.input_tokens or max(0, longest),
        concurrent_requests=settings.batch,
    )


def _cache(model: Model, settings: NeuronSettings, terms: list[Term]) -> KvCache:
    slots = cache_slots(settings)
    return KvCache(
        bytes_per_token_per_gpu=count_core_token_bytes(model, settings),
        available_gib=next(term.gib for term in terms if term.name == "KV cache"),
        uncertainty_gib=0.0,
        capacity_tokens=slots,
        max_concurrency=slots / settings.max_model_tokens,
        max_request_tokens=min(slots, settings.max_model_tokens),
        blocks=settings.blocks or settings.batch,
        block_tokens=settings.block_tokens,
        groups=(CacheGroup(attention="full", reach_tokens=0, layers=len(model.layers)),),
        kind="derived",
    )


def _memory(device: Device, terms: list[Term]) -> Memory:
    return Memory(
        device_gib=device.memory_bytes / GIB,
        budget_gib=device.memory_bytes / GIB,
        weights_gib=next(term.gib for term in terms if term.name == "weights"),
        margin_gib=device.memory_bytes / GIB - sum(term.gib for term in terms),
        uncertainty_gib=sum(term.uncertainty_gib**2 for term in terms) ** 0.5,
        terms=tuple(terms),
    )


def _warnings(settings: NeuronSettings, release: NeuronRelease, device: Device) -> Iterator[str]:
    yield (
        f"packages: SDK {release.sdk}, NxDI {release.nxdi}, plugin {release.plugin}, "
        f"vLLM {release.vllm}; memory per graph is fitted on five runs of one kit"
    )
    multiple = read_table("neuron")["kernel"]["context_multiple"] * device.physical_cores
    if settings.kernel and settings.batch % 2 and settings.buckets.decode[0] % multiple:
        yield (
            f"a token-generation bucket of {settings.buckets.decode[0]} breaks the kernel's rule "
            f"(multiples of {multiple}); odd batches were recorded to run with it"
        )
    if settings.unplanned:
        yield "not looked at by the plan: " + ", ".join(settings.unplanned)
