"""From numbers to reasons: what is wrong, which flag binds, which way to turn it, how far."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import ceil

from leadline.plan.architecture import Model
from leadline.plan.hardware import Hardware
from leadline.plan.kv_cache import plan_pool
from leadline.plan.quantization import Quantization
from leadline.plan.releases import VllmRelease
from leadline.plan.schema import Finding
from leadline.plan.sglang import SglangMemory
from leadline.plan.sglang_settings import LONGER_VARIABLE as SGLANG_LONGER
from leadline.plan.sglang_settings import SglangSettings
from leadline.plan.vllm import VllmMemory, pool_settings
from leadline.plan.vllm_settings import HYBRID_VARIABLE, VllmSettings
from leadline.plan.vllm_settings import LONGER_VARIABLE as VLLM_LONGER
from leadline.plan.weights import Shards, padded_vocabulary
from leadline.units import GIB, show_bytes, show_tokens

# Worst first: what cannot start hides what would go wrong later.
_SEVERITY = (
    "invalid_parallelism",
    "exceeds_trained_context",
    "start_fail",
    "compile_fail",
    "bucket_missing",
    "starts_but_unusable",
    "request_too_long",
    "host_memory",
    "risk_oom_outside_budget",
)
HIGHEST_UTILIZATION = 0.95
"""Above it, what lies outside the budget no longer fits on an 80 GB device."""


def choose_binding(findings: Sequence[Finding]) -> Finding | None:
    """The worst finding, the first of its kind."""
    return min(findings, key=lambda finding: _SEVERITY.index(finding.code), default=None)


def check_parallelism(
    model: Model, hardware: Hardware, shards: Shards, *, replicas: int, flags: tuple[str, str, str]
) -> Iterator[Finding]:
    """Divisibility rules of tensor and pipeline parallelism, shared by vLLM and SGLang.

    Source: vLLM ``config/model.py verify_with_parallel_config``, ``distributed.divide``.
    """
    tensor, (tensor_flag, pipeline_flag, replica_flag) = shards.tensor, flags
    for what, count in _divided(model, shards):
        if count % tensor:
            valid = _largest_divisor(model, shards, tensor)
            reason = f"{count:,} {what} cannot be split over {tensor} ranks"
            yield _invalid(reason, tensor_flag, str(valid))
            break
    heads = model.layers[0].attention.kv_heads
    if not model.is_mla and max(heads, tensor) % min(heads, tensor):
        reason = f"{heads} KV heads are neither a multiple nor a divisor of {tensor} ranks"
        yield _invalid(reason, tensor_flag, str(_largest_divisor(model, shards, tensor)))
    if (quantization := model.quantization) is not None:
        yield from _check_tiles(model, quantization, shards, tensor_flag)
    if shards.pipeline > len(model.layers):
        reason = f"{len(model.layers)} layers cannot fill {shards.pipeline} stages"
        yield _invalid(reason, pipeline_flag, str(len(model.layers)))
    wanted = tensor * shards.pipeline * replicas
    if wanted > hardware.devices:
        reason = f"{wanted} ranks on {hardware.devices} devices"
        flag = replica_flag if wanted // replicas <= hardware.devices else tensor_flag
        yield _invalid(reason, flag, f"{wanted - hardware.devices} ranks too many")


def check_vllm(
    model: Model,
    hardware: Hardware,
    settings: VllmSettings,
    release: VllmRelease,
    memory: VllmMemory,
    *,
    longer_allowed: bool,
) -> Iterator[Finding]:
    flags = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
    yield from check_parallelism(
        model, hardware, settings.shards, replicas=settings.replicas, flags=flags
    )
    yield from _check_context_ranks(model, settings)
    if settings.max_model_tokens > model.max_position and not longer_allowed:
        yield _beyond_training(
            settings.max_model_tokens, model, "max_model_len", f"{VLLM_LONGER}=1"
        )
    yield from _check_start(settings, memory)
    if memory.pool.blocks and memory.pool.starts and memory.pool.concurrency < 1:
        yield _unusable(model, settings, release, memory)
    yield from _check_host(hardware, memory)
    yield from _check_margin(settings, memory)


def check_sglang(
    model: Model,
    hardware: Hardware,
    settings: SglangSettings,
    memory: SglangMemory,
    *,
    longer_allowed: bool,
) -> Iterator[Finding]:
    yield from check_parallelism(
        model,
        hardware,
        settings.shards,
        replicas=settings.replicas,
        flags=("tp_size", "pp_size", "dp_size"),
    )
    if settings.context_tokens > model.max_position and not longer_allowed:
        yield _beyond_training(
            settings.context_tokens, model, "context_length", f"{SGLANG_LONGER}=1"
        )
    if memory.pools.full_tokens <= 0:
        short = show_bytes(-memory.available_bytes)
        yield Finding(
            code="start_fail",
            reason=f"the static fraction {settings.fraction:.3f} does not even hold the weights",
            flag="mem_fraction_static",
            direction="raise",
            amount=f"{short} short",
        )
    elif memory.pools.full_tokens < settings.context_tokens:
        yield Finding(
            code="starts_but_unusable",
            reason=f"the pool holds {show_tokens(memory.pools.full_tokens)} tokens, less than one "
            f"request of context_length {show_tokens(settings.context_tokens)}",
            flag="context_length",
            direction="lower",
            amount=show_tokens(memory.pools.full_tokens),
        )
    if memory.margin_bytes < 0:
        yield _table_overflow(settings, memory)


def check_request(
    input_tokens: int, longest_tokens: int, output_tokens: int, flag: str
) -> Iterator[Finding]:
    if input_tokens > longest_tokens:
        yield Finding(
            code="request_too_long",
            reason=f"a prompt of {show_tokens(input_tokens)} with {output_tokens} out is longer "
            f"than the {show_tokens(longest_tokens)} that can be served",
            flag=flag,
            direction="raise",
            amount=f"{show_tokens(input_tokens - longest_tokens)} tokens",
        )


def _divided(model: Model, shards: Shards) -> Iterator[tuple[str, int]]:
    yield "attention heads", model.heads
    yield "rows of the padded vocabulary", padded_vocabulary(model)
    for layer, _ in model.kinds:
        feed = layer.feed_forward
        if not feed.experts:
            yield "intermediate features", feed.intermediate
        elif shards.expert == 1:
            yield "intermediate features of an expert", feed.intermediate
        if feed.shared:
            yield "intermediate features of the shared expert", feed.shared


def _largest_divisor(model: Model, shards: Shards, tensor: int) -> int:
    """The largest valid number of ranks below the one asked for."""
    counts = [count for _, count in _divided(model, shards)]
    heads = model.layers[0].attention.kv_heads
    return next(
        ranks
        for ranks in range(min(tensor - 1, *counts) or 1, 0, -1)
        if all(count % ranks == 0 for count in counts)
        and (model.is_mla or max(heads, ranks) % min(heads, ranks) == 0)
    )


def _check_tiles(
    model: Model, quantization: Quantization, shards: Shards, flag: str
) -> Iterator[Finding]:
    """Block-quantised experts: a rank's part must be whole tiles (vLLM ``Fp8MoEMethod``)."""
    rows = quantization.group_rows
    sparse = [layer.feed_forward for layer in model.layers if layer.feed_forward.experts]
    if rows <= 1 or not sparse or shards.expert > 1:
        return
    part = sparse[0].intermediate // shards.tensor
    if part % rows:
        reason = f"{part} expert features a rank are not a multiple of the {rows}-row tiles"
        yield Finding(
            code="invalid_parallelism",
            reason=f"{reason} that the weights are quantised in",
            flag=flag,
            direction="lower",
            amount="or set enable_expert_parallel",
        )


def _check_context_ranks(model: Model, settings: VllmSettings) -> Iterator[Finding]:
    """Decode context parallelism shares the KV heads' copies among ranks."""
    ranks, tensor = settings.context_ranks, settings.shards.tensor
    heads = model.kv_heads
    if ranks > 1 and (tensor % ranks or ranks > max(1, tensor // heads)):
        reason = f"{ranks} context ranks need {ranks} copies of the {heads} KV heads"
        most = max(1, tensor // heads)
        reason += f"; {tensor} ranks keep {most}"
        yield _invalid(reason, "decode_context_parallel_size", str(most))


def _check_start(settings: VllmSettings, memory: VllmMemory) -> Iterator[Finding]:
    free = memory.free_bytes
    if memory.budget_bytes > free and not settings.kv_bytes:
        yield Finding(
            code="start_fail",
            reason=f"{show_bytes(free)} are free at start, less than the "
            f"{show_bytes(memory.budget_bytes)} asked for",
            flag="gpu_memory_utilization",
            direction="lower",
            amount=f"{free / memory.device_bytes:.3f}",
        )
    if memory.pool.starts:
        return
    missing = memory.pool.needed_bytes - memory.available_bytes
    yield _start_cure(settings, memory, missing)


def _start_cure(settings: VllmSettings, memory: VllmMemory, missing_bytes: int) -> Finding:
    """A shorter maximum where one is possible, else more memory for the engine."""
    one = f"one request of {show_tokens(settings.max_model_tokens)} tokens"
    if memory.available_bytes <= 0:
        reason = f"no memory is left for the KV cache: {show_bytes(-memory.available_bytes)} short"
    else:
        reason = f"{one} needs {show_bytes(memory.pool.needed_bytes)} of KV cache, "
        reason += f"{show_bytes(memory.available_bytes)} are available"
    utilization = settings.utilization + missing_bytes / memory.device_bytes
    if utilization <= HIGHEST_UTILIZATION:
        amount = f"{ceil(utilization * 1000) / 1000:.3f}"
        return Finding(
            code="start_fail",
            reason=reason,
            flag="gpu_memory_utilization",
            direction="raise",
            amount=f"{amount} (+{show_bytes(missing_bytes)})",
        )
    if memory.pool.startable_tokens:
        return Finding(
            code="start_fail",
            reason=reason,
            flag="max_model_len",
            direction="lower",
            amount=show_tokens(memory.pool.startable_tokens),
        )
    return Finding(
        code="start_fail",
        reason=reason,
        flag="tensor_parallel_size",
        direction="raise",
        amount=f"{show_bytes(missing_bytes)} short on each device",
    )


def _unusable(
    model: Model, settings: VllmSettings, release: VllmRelease, memory: VllmMemory
) -> Finding:
    """The pool is smaller than one request: it starts, and a long request then waits for ever."""
    pool = memory.pool
    reason = (
        f"concurrency {pool.concurrency:.2f}x: requests beyond "
        f"{show_tokens(pool.max_request_tokens)} tokens are accepted and never scheduled"
    )
    if settings.hybrid_reason == HYBRID_VARIABLE:
        better = plan_pool(
            model,
            settings.shards,
            replace(pool_settings(settings), hybrid=True),
            release,
            [memory.available_bytes] * settings.shards.pipeline,
        )
        if better.concurrency >= 1:
            return Finding(
                code="starts_but_unusable",
                reason=reason,
                flag=HYBRID_VARIABLE,
                direction="set",
                amount=f"1 (then {better.concurrency:.2f}x; about 2 ms more a step, vLLM PR 21761)",
            )
    return Finding(
        code="starts_but_unusable",
        reason=reason,
        flag="max_model_len",
        direction="lower",
        amount=show_tokens(pool.max_request_tokens),
    )


def _check_host(hardware: Hardware, memory: VllmMemory) -> Iterator[Finding]:
    """Pinned tables are taken at once; token buffers only as far as they are used."""
    pinned = next(t.gib for t in memory.terms if t.name == "pinned block tables") * GIB
    if hardware.host_bytes and pinned > hardware.host_bytes:
        yield Finding(
            code="host_memory",
            reason=f"{show_bytes(pinned)} of pinned block tables on a node with "
            f"{show_bytes(hardware.host_bytes)}",
            flag="max_num_seqs",
            direction="lower",
            amount=f"to {hardware.host_bytes / pinned:.2f} of its value",
        )


def _check_margin(settings: VllmSettings, memory: VllmMemory) -> Iterator[Finding]:
    """The sampler warm-up asks for tensors after the pool is taken; see the gpt-oss-20b log."""
    if settings.kv_bytes or memory.margin_bytes >= memory.warm_up_bytes:
        return
    missing = memory.warm_up_bytes - memory.margin_bytes
    lower = settings.utilization - missing / memory.device_bytes
    yield Finding(
        code="risk_oom_outside_budget",
        reason=f"{show_bytes(memory.margin_bytes)} stay outside the budget for the sampler "
        f"warm-up's {show_bytes(memory.warm_up_bytes)} tensors and fragments",
        flag="gpu_memory_utilization",
        direction="lower",
        amount=f"{int(lower * 1000) / 1000:.3f} (or lower max_num_seqs)",
        kind="calibrated",
    )


def _table_overflow(settings: SglangSettings, memory: SglangMemory) -> Finding:
    """Names the largest table outside the static pool, which is what to make smaller."""
    tables = ("req_to_token", "graph page table", "graph local block table")
    sizes = {term.name: term.gib for term in memory.terms if term.name in tables}
    worst = max(sizes, key=lambda name: sizes[name])
    names = " + ".join(f"{name} {gib:.1f}" for name, gib in sizes.items())
    flag = "max_running_requests" if worst == "req_to_token" else "cuda_graph_max_bs"
    held = memory.pools.table_requests if worst == "req_to_token" else settings.graph_batch
    return Finding(
        code="risk_oom_outside_budget",
        reason=f"{names} GiB grow with context_length and live outside the static pool: "
        f"{show_bytes(-memory.margin_bytes)} too much ({worst} is the largest)",
        flag=flag,
        direction="lower",
        amount=f"8 (from {held}); with cuda_graph_max_bs 8",
    )


def _beyond_training(tokens: int, model: Model, flag: str, variable: str) -> Finding:
    return Finding(
        code="exceeds_trained_context",
        reason=f"{show_tokens(tokens)} tokens, trained to {show_tokens(model.max_position)}",
        flag=flag,
        direction="lower",
        amount=f"{show_tokens(model.max_position)} (the engine refuses more without {variable})",
    )


def _invalid(reason: str, flag: str, amount: str) -> Finding:
    return Finding(
        code="invalid_parallelism", reason=reason, flag=flag, direction="lower", amount=amount
    )
