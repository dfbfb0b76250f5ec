"""vLLM's settings as the plan needs them: the engine's own names, with its release's defaults."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from leadline.catalog.reading import read_table
from leadline.errors import PlanError
from leadline.plan.architecture import DTYPE_BYTES, Model
from leadline.plan.hardware import Device
from leadline.plan.options import is_on, spell_options
from leadline.plan.releases import VllmRelease
from leadline.plan.weights import Shards
from leadline.units import GIB, parse_tokens

HYBRID_VARIABLE = "VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE"
GRAPH_VARIABLE = "VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS"
LONGER_VARIABLE = "VLLM_ALLOW_LONG_MAX_MODEL_LEN"

_ALIASES = {"tp": "tensor_parallel_size", "pp": "pipeline_parallel_size"}
_PLANNED = {
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "data_parallel_size",
    "decode_context_parallel_size",
    "prefill_context_parallel_size",
    "enable_expert_parallel",
    "max_model_len",
    "gpu_memory_utilization",
    "max_num_batched_tokens",
    "max_num_seqs",
    "block_size",
    "kv_cache_dtype",
    "kv_cache_memory_bytes",
    "num_gpu_blocks_override",
    "dtype",
    "quantization",
    "enforce_eager",
    "cudagraph_capture_sizes",
    "max_cudagraph_capture_size",
    "disable_hybrid_kv_cache_manager",
    "kv_transfer_config",
    "kv_events_config",
    "limit_mm_per_prompt",
    "language_model_only",
}
# Bytes of one cached number; fp8_ds_mla packs a latent vector and its scales in 656 bytes.
_KV_BYTES = {"fp8": 1, "fp8_e4m3": 1, "fp8_e5m2": 1, "fp8_inc": 1, "bfloat16": 2, "float16": 2}
_DTYPES = {"half": "float16", "float": "float32"}


@dataclass(frozen=True)
class VllmSettings:
    shards: Shards
    replicas: int
    """Data-parallel engines; each has its own KV cache."""
    context_ranks: int
    max_model_tokens: int
    fit_length: bool
    """max_model_len "auto" or -1: the engine shortens it to what fits (from 0.14 on)."""
    utilization: float
    batched_tokens: int
    max_seqs: int
    block_tokens: int
    kv_element_bytes: float
    latent_bytes: int
    dtype_bytes: int
    kv_bytes: int
    override_blocks: int
    graph_batch: int
    """Largest captured batch; 0 with enforce_eager."""
    hybrid: bool
    hybrid_reason: str
    """What switched the hybrid manager off, "" where nothing did."""
    graphs_in_budget: bool
    images: bool
    online_quantization: str
    unplanned: tuple[str, ...]
    """Settings that this plan does not look at."""


def read_vllm_settings(
    given: Mapping[str, Any],
    env: Mapping[str, str],
    model: Model,
    device: Device,
    release: VllmRelease,
) -> VllmSettings:
    """The engine's own option names, dashes or underscores; unset: the release's default."""
    known = spell_options(given, _ALIASES)
    length = known.get("max_model_len")
    batched, seqs = _default_batch(device, release)
    max_seqs = parse_tokens(known.get("max_num_seqs", seqs))
    hybrid_reason = _hybrid_reason(known, env, model, release)
    dtype = str(known.get("dtype") or "auto")
    dtype_bytes = DTYPE_BYTES[model.dtype if dtype == "auto" else _DTYPES.get(dtype, dtype)]
    element_bytes, latent_bytes = _kv_sizes(str(known.get("kv_cache_dtype", "auto")), dtype_bytes)
    return VllmSettings(
        shards=_shards(known),
        replicas=int(known.get("data_parallel_size", 1)),
        context_ranks=int(known.get("decode_context_parallel_size", 1))
        * int(known.get("prefill_context_parallel_size", 1)),
        max_model_tokens=parse_tokens(length) if _is_length(length) else model.max_position,
        fit_length=length is not None and not _is_length(length),
        utilization=float(known.get("gpu_memory_utilization", release.utilization)),
        batched_tokens=parse_tokens(known.get("max_num_batched_tokens", max(batched, max_seqs))),
        max_seqs=max_seqs,
        block_tokens=int(known.get("block_size") or read_table("vllm")["defaults"]["block_tokens"]),
        kv_element_bytes=element_bytes,
        latent_bytes=latent_bytes,
        dtype_bytes=dtype_bytes,
        kv_bytes=int(known.get("kv_cache_memory_bytes") or 0),
        override_blocks=int(known.get("num_gpu_blocks_override") or 0),
        graph_batch=_graph_batch(known, max_seqs),
        hybrid=not hybrid_reason,
        hybrid_reason=hybrid_reason,
        graphs_in_budget=is_on(env.get(GRAPH_VARIABLE, "0")),
        images=_takes_images(known),
        online_quantization=str(known.get("quantization") or ""),
        unplanned=tuple(sorted(set(known) - _PLANNED)),
    )


def _is_length(value: object) -> TypeGuard[int | str]:
    """``auto`` and -1 ask the engine to fit the length; None leaves the model's own."""
    return value is not None and str(value) not in ("auto", "-1")


def _default_batch(device: Device, release: VllmRelease) -> tuple[int, int]:
    """max_num_batched_tokens and max_num_seqs of the OpenAI server, by the device's memory."""
    facts, memory_gib = read_table("vllm")["defaults"], device.memory_bytes / GIB
    if release.large_tier_gib and memory_gib >= release.large_tier_gib:
        return facts["large_batched_tokens"], facts["roomy_seqs"]
    if memory_gib >= facts["roomy_gib"] and not device.name.startswith("A100"):
        return facts["roomy_batched_tokens"], facts["roomy_seqs"]
    return facts["small_batched_tokens"], facts["small_seqs"]


def _shards(known: Mapping[str, Any]) -> Shards:
    tensor = int(known.get("tensor_parallel_size", 1))
    replicas = int(known.get("data_parallel_size", 1))
    # Data-parallel engines share their experts, whole or in slices.
    shared = replicas > 1 or is_on(known.get("enable_expert_parallel", False))
    expert = tensor * replicas if shared else 1
    return Shards(tensor, int(known.get("pipeline_parallel_size", 1)), expert)


def _hybrid_reason(
    known: Mapping[str, Any], env: Mapping[str, str], model: Model, release: VllmRelease
) -> str:
    """Why the hybrid KV cache manager is off. Source: vLLM ``config/vllm.py``."""
    for flag in ("kv_transfer_config", "kv_events_config"):
        if known.get(flag):
            return flag
    if is_on(known.get("disable_hybrid_kv_cache_manager", False)):
        return "disable_hybrid_kv_cache_manager"
    chunked = any(reach.kind == "chunked" for reach in model.reaches)
    if chunked and not is_on(env.get(HYBRID_VARIABLE, release.chunked_hybrid)):
        return HYBRID_VARIABLE
    return ""


def _kv_sizes(kv_dtype: str, dtype_bytes: int) -> tuple[float, int]:
    """Bytes of one cached number, and of one latent vector where the format fixes it."""
    if kv_dtype == "auto":
        return dtype_bytes, 0
    if kv_dtype == "fp8_ds_mla":
        return 1, 656
    if kv_dtype not in _KV_BYTES:
        close = difflib.get_close_matches(kv_dtype, _KV_BYTES)
        raise PlanError(
            f"kv_cache_dtype {kv_dtype!r} has no known size",
            where="settings",
            cure="known: " + ", ".join(close or sorted(_KV_BYTES)),
        )
    return _KV_BYTES[kv_dtype], 0


def _graph_batch(known: Mapping[str, Any], max_seqs: int) -> int:
    """Largest captured batch: min(2 x max_num_seqs, 512) unless sizes are given."""
    if is_on(known.get("enforce_eager", False)):
        return 0
    if sizes := known.get("cudagraph_capture_sizes"):
        return max(int(size) for size in sizes)
    limit = read_table("vllm")["defaults"]["graph_batch_limit"]
    return int(known.get("max_cudagraph_capture_size") or min(2 * max_seqs, limit))


def _takes_images(known: Mapping[str, Any]) -> bool:
    limits = known.get("limit_mm_per_prompt")
    none_allowed = isinstance(limits, Mapping) and limits.get("image") == 0
    return not none_allowed and not is_on(known.get("language_model_only", False))
