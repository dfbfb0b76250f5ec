"""The second generation: the native plugin, whose cache is sized by free memory like vLLM's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import Any

from leadline.catalog.reading import read_table
from leadline.errors import PlanError
from leadline.plan.architecture import Model
from leadline.plan.hardware import Device, Hardware
from leadline.plan.ledger import make_term
from leadline.plan.neuron_buckets import double_buckets
from leadline.plan.neuron_checks import check_cores, check_trained_context
from leadline.plan.neuron_memory import NeuronMemory, count_token_bytes, graph_term, weight_term
from leadline.plan.neuron_rules import NeuronRelease, find_rule
from leadline.plan.neuron_settings import is_on, read_core_size, read_mapping, spell_option
from leadline.plan.options import list_ignored, read_tokens
from leadline.plan.releases import find_vllm_release
from leadline.plan.schema import Finding
from leadline.plan.vllm import Measured
from leadline.units import GIB, parse_tokens, show_bytes, show_tokens

CAP_VARIABLE = "VLLM_NEURON_KV_GMU_BUDGET_CAP_FRACTION"
LEAST_VARIABLE = "VLLM_NEURON_MIN_KV_BUDGET_GIB"

_PLANNED = {
    "additional_config",
    "block_size",
    "dtype",
    "enable_prefix_caching",
    "gpu_memory_utilization",
    "kv_cache_dtype",
    "max_model_len",
    "max_num_batched_tokens",
    "max_num_seqs",
    "tensor_parallel_size",
}


@dataclass(frozen=True)
class NativeSettings:
    neuron_config: Mapping[str, Any]
    tensor: int
    core_size: int
    max_model_tokens: int
    batched_tokens: int
    max_seqs: int
    block_tokens: int
    utilization: float
    kv_fraction: float
    """Share of the budget that the KV cache may take."""
    least_kv_gib: float
    kv_element_bytes: int
    segment_tokens: int
    """Tokens of one prefill step; 0: the whole prompt at once."""
    unplanned: tuple[str, ...]

    @property
    def graphs(self) -> int:
        """A graph for each prefill length, and for each pair of batch and decode length."""
        config = self.neuron_config
        prefill = config.get("num_batched_tokens_buckets") or (
            [self.segment_tokens]
            if self.segment_tokens
            else double_buckets(find_rule("native")["first_batched_bucket"], self.batched_tokens)
        )
        batches = config.get("num_seqs_buckets") or double_buckets(1, self.max_seqs)
        lengths = len(config.get("decode_context_length_buckets") or ()) + 1
        return len(prefill) + len(batches) * lengths


def read_native_settings(
    given: Mapping[str, Any],
    env: Mapping[str, str],
    model: Model,
    device: Device,
    release: NeuronRelease,
) -> NativeSettings:
    known = {spell_option(key): value for key, value in given.items()}
    additional = read_mapping(known.get("additional_config"), "additional_config")
    config = read_mapping(additional.get("neuron_config"), "neuron_config")
    rule, defaults = find_rule("native"), read_table("neuron")["defaults"]
    length = read_tokens("max_model_len", known.get("max_model_len") or model.max_position)
    batched = parse_tokens(known.get("max_num_batched_tokens", defaults["max_num_batched_tokens"]))
    segments = config.get("kv_segment_size_buckets")
    utilization = known.get("gpu_memory_utilization")
    eight_bit = str(known.get("kv_cache_dtype", "auto")).startswith("fp8")
    return NativeSettings(
        neuron_config=config,
        tensor=int(known.get("tensor_parallel_size", 1)),
        core_size=read_core_size(env, {}, device),
        max_model_tokens=length,
        batched_tokens=batched,
        max_seqs=parse_tokens(known.get("max_num_seqs", defaults["max_num_seqs"])),
        block_tokens=int(known.get("block_size") or rule["block_tokens"]),
        utilization=float(utilization or find_vllm_release(release.vllm).utilization),
        kv_fraction=_read_number(env, CAP_VARIABLE, rule["kv_fraction"]),
        least_kv_gib=_read_number(env, LEAST_VARIABLE, rule["least_kv_gib"]),
        kv_element_bytes=1 if eight_bit else model.dtype_bytes,
        segment_tokens=int(segments[-1]) if segments else batched if batched < length else 0,
        unplanned=tuple(sorted(set(known) - _PLANNED)),
    )


def _read_number(env: Mapping[str, str], name: str, default: float) -> float:
    text = env.get(name, default)
    try:
        return float(text)
    except ValueError:
        raise PlanError(
            f"{text!r} is not a number", where=name, cure="write a fraction or GiB, or leave it out"
        ) from None


def plan_native_memory(
    model: Model, device: Device, settings: NativeSettings, known: Measured
) -> NeuronMemory:
    """KV cache: what the weights leave of the budget, and at most a fixed share of it."""
    rule = find_rule("native")
    token_bytes = count_token_bytes(model, settings.tensor, settings.kv_element_bytes)
    weights = weight_term(model, settings.tensor, known)
    budget = int(device.memory_bytes * settings.utilization)
    free = max(0, budget - int(weights.gib * GIB))
    available = min(free, int(budget * settings.kv_fraction))
    if known.available_bytes is not None:
        available = known.available_bytes
    blocks = available // (settings.block_tokens * token_bytes)
    pool = make_term(
        "KV cache",
        blocks * settings.block_tokens * token_bytes,
        kind=rule.kind,
        formula=f"min(budget - weights, {settings.kv_fraction:g} x budget)",
        source=rule.source,
    )
    left = device.memory_bytes - int((weights.gib + pool.gib) * GIB)
    return NeuronMemory(
        core_bytes=device.memory_bytes,
        token_bytes=token_bytes,
        pool_bytes=int(pool.gib * GIB),
        graphs=settings.graphs,
        left_bytes=left,
        terms=(weights, pool, graph_term(find_rule("native_graph_memory"), settings.graphs)),
    )


def check_native(
    model: Model, hardware: Hardware, settings: NativeSettings, memory: NeuronMemory
) -> Iterator[Finding]:
    yield from check_cores(settings.tensor, hardware)
    yield from check_trained_context(settings.max_model_tokens, model, find_rule("native"))
    yield from _check_prefill(settings)
    yield from _check_lists(settings)
    yield from _check_segments(settings)
    yield from _check_pool(settings, memory)
    if memory.margin_bytes < 0:
        yield find_rule("native_graph_memory").find(
            "risk_oom_outside_budget",
            f"{memory.graphs} graphs and KV cache exceed {show_bytes(memory.core_bytes)} a core",
            "gpu_memory_utilization",
            "lower",
            f"{show_bytes(-memory.margin_bytes)} too much (NCC_EVRF009)",
        )


def note_native(settings: NativeSettings, release: NeuronRelease) -> Iterator[str]:
    yield f"packages: {release}"
    yield find_rule("native").note("rules of the native plugin")
    yield find_rule("native_graph_memory").note("memory of the compiled graphs is assumed")
    yield from list_ignored(settings.unplanned, "neuron")


def _check_prefill(settings: NativeSettings) -> Iterator[Finding]:
    """Whole prompts only up to 16,384 tokens; beyond, one of five segment sizes."""
    rule, batched = find_rule("native"), settings.batched_tokens
    sizes, whole = rule["segment_sizes"], settings.batched_tokens >= settings.max_model_tokens
    if whole and settings.max_model_tokens > rule["single_shot_tokens"]:
        reason = f"prompts of {show_tokens(settings.max_model_tokens)} cannot be prefilled at once"
        yield rule.find("start_fail", reason, "max_num_batched_tokens", "lower", str(sizes[-1]))
    elif not whole and batched not in sizes:
        reason = f"{show_tokens(batched)} is not a segment size"
        amount = f"one of {sizes}"
        yield rule.find("start_fail", reason, "max_num_batched_tokens", "change", amount)


def _check_lists(settings: NativeSettings) -> Iterator[Finding]:
    config, rule = settings.neuron_config, find_rule("native")
    for flag, limit in (
        ("num_batched_tokens_buckets", settings.batched_tokens),
        ("num_seqs_buckets", settings.max_seqs),
    ):
        found = config.get(flag)
        if found and (not _is_ascending(found) or found[-1] != limit):
            reason = f"{flag} {found} does not ascend to {limit}"
            yield rule.find("bucket_missing", reason, flag, "change", f"end with {limit}")
    decode = config.get("decode_context_length_buckets") or []
    multiple, limit = rule["decode_multiple"], settings.max_model_tokens
    bad = [size for size in decode if size % multiple or size >= limit]
    if bad or not _is_ascending(decode):
        reason = f"decode buckets {decode}: ascending multiples of {multiple} below {limit} wanted"
        flag = "decode_context_length_buckets"
        yield rule.find("start_fail", reason, flag, "change", f"without {bad}")


def _check_segments(settings: NativeSettings) -> Iterator[Finding]:
    config, rule = settings.neuron_config, find_rule("native")
    flag = "kv_segment_size_buckets"
    segments = config.get(flag) or []
    bad = [s for s in segments if s not in rule["segment_sizes"] or s % settings.block_tokens]
    if bad or len(segments) > 1:
        reason = f"{segments}: one size of {rule['segment_sizes']}, in whole blocks of "
        reason += f"{settings.block_tokens}"
        yield rule.find("start_fail", reason, flag, "change", "one size")
    batched = config.get("num_batched_tokens_buckets")
    if segments and batched and list(batched) != list(segments):
        reason = f"{flag} {segments} and num_batched_tokens_buckets {batched} differ"
        yield rule.find("start_fail", reason, flag, "set", str(batched))
    packed = is_on(config.get("fp8_packed_kv"))
    if settings.segment_tokens and settings.kv_element_bytes == 1 and not packed:
        reason = "an FP8 KV cache with segmented prefill must be packed"
        yield rule.find("start_fail", reason, "fp8_packed_kv", "set", "true")


def _check_pool(settings: NativeSettings, memory: NeuronMemory) -> Iterator[Finding]:
    rule = find_rule("native")
    need = ceil(settings.max_model_tokens / settings.block_tokens) * settings.block_tokens
    missing = int(settings.least_kv_gib * GIB) - memory.pool_bytes
    if missing > 0:
        reason = f"{show_bytes(memory.pool_bytes)} of KV cache, {settings.least_kv_gib:g} GiB at "
        reason += "least wanted"
        enough = missing <= memory.left_bytes
        flag = "gpu_memory_utilization" if enough else "tensor_parallel_size"
        yield rule.find("start_fail", reason, flag, "raise", f"{show_bytes(missing)} more")
    elif memory.pool_bytes < need * memory.token_bytes:
        held = memory.pool_bytes // memory.token_bytes
        reason = f"the KV cache holds {show_tokens(held)} tokens, one request may have "
        reason += show_tokens(settings.max_model_tokens)
        yield rule.find("start_fail", reason, "max_model_len", "lower", show_tokens(held))


def _is_ascending(values: Sequence[int]) -> bool:
    return all(low < high for low, high in pairwise(values))
