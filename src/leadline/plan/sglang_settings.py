"""SGLang's settings as the plan needs them, and the memory heuristic that fills the unset ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from leadline.catalog.reading import read_table
from leadline.errors import PlanError
from leadline.plan.architecture import Model
from leadline.plan.hardware import Device
from leadline.plan.options import is_on, spell_options
from leadline.plan.weights import Shards
from leadline.units import parse_tokens

LONGER_VARIABLE = "SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN"

_ALIASES = {
    "tensor_parallel_size": "tp_size",
    "tp": "tp_size",
    "pp": "pp_size",
    "pipeline_parallel_size": "pp_size",
    "dp": "dp_size",
    "data_parallel_size": "dp_size",
    "ep": "ep_size",
    "expert_parallel_size": "ep_size",
    "cuda_graph_bs_max": "cuda_graph_max_bs",
}
_PLANNED = {
    "tp_size",
    "pp_size",
    "dp_size",
    "ep_size",
    "enable_dp_attention",
    "context_length",
    "mem_fraction_static",
    "chunked_prefill_size",
    "cuda_graph_max_bs",
    "disable_cuda_graph",
    "max_running_requests",
    "max_total_tokens",
    "page_size",
    "kv_cache_dtype",
    "hybrid_kvcache_ratio",
    "enable_multimodal",
    "attention_backend",
    "speculative_algorithm",
    "quantization",
    "dtype",
}
_KV_BYTES = {"fp8_e5m2": 1.0, "fp8_e4m3": 1.0, "bf16": 2.0, "bfloat16": 2.0}


@dataclass(frozen=True)
class SglangSettings:
    shards: Shards
    replicas: int
    context_tokens: int
    fraction: float
    fraction_given: bool
    chunk_tokens: int
    graph_batch: int
    """Largest captured batch; 0 with disable_cuda_graph."""
    running_requests: int
    """0: not given, the engine derives the size of its request table."""
    total_tokens: int
    page_tokens: int
    kv_element_bytes: float
    hybrid_ratio: float
    multimodal: bool
    unplanned: tuple[str, ...]


def read_sglang_settings(given: Mapping[str, Any], model: Model, device: Device) -> SglangSettings:
    """The engine's own option names, dashes or underscores; unset ones as its heuristic does."""
    known = spell_options(given, _ALIASES)
    tensor, pipeline = int(known.get("tp_size", 1)), int(known.get("pp_size", 1))
    tier = _tier(device)
    wide = "graph_batch_wide" if tensor >= 4 else "graph_batch"  # noqa: PLR2004 - see the tiers
    chunk = int(known.get("chunked_prefill_size", tier["chunked_prefill"]))
    graph_batch = int(known.get("cuda_graph_max_bs", tier[wide]))
    multimodal = _is_multimodal(model, known)
    fraction = known.get("mem_fraction_static")
    length = known.get("context_length")
    return SglangSettings(
        shards=Shards(tensor, pipeline, int(known.get("ep_size", 1))),
        replicas=int(known.get("dp_size", 1)),
        context_tokens=parse_tokens(length) if length else model.max_position,
        fraction=float(fraction)
        if fraction
        else default_fraction(known, model, device, chunk, graph_batch, multimodal=multimodal),
        fraction_given=fraction is not None,
        chunk_tokens=chunk,
        graph_batch=0 if is_on(known.get("disable_cuda_graph")) else graph_batch,
        running_requests=int(known.get("max_running_requests") or 0),
        total_tokens=int(known.get("max_total_tokens") or 0),
        page_tokens=int(known.get("page_size") or 1),
        kv_element_bytes=_kv_bytes(str(known.get("kv_cache_dtype", "auto")), model),
        hybrid_ratio=_hybrid_ratio(known, model),
        multimodal=multimodal,
        unplanned=tuple(sorted(set(known) - _PLANNED)),
    )


def default_fraction(
    known: Mapping[str, Any],
    model: Model,
    device: Device,
    chunk_tokens: int,
    graph_batch: int,
    *,
    multimodal: bool,
) -> float:
    """``mem_fraction_static = round((memory - reserved) / memory, 3)``, less for image encoders."""
    facts = read_table("sglang")["reserve"]
    ranks = int(known.get("tp_size", 1)) * int(known.get("pp_size", 1))
    chunk = chunk_tokens if chunk_tokens > 0 else facts["max_prefill_tokens"]
    reserved = facts["base_mib"] + facts["per_rank_mib"] * ranks
    reserved += max(chunk, facts["least_chunk_tokens"]) * facts["per_chunk_token_mib"]
    reserved += graph_batch * facts["per_graph_batch_mib"]
    if is_on(known.get("enable_dp_attention")):
        reserved += _attention_ranks_mib(facts, graph_batch, int(known.get("dp_size", 1)))
    if device.board_mib > facts["roomy_from_mib"]:
        reserved = max(reserved, facts["roomy_least_mib"])
    if draft := str(known.get("speculative_algorithm") or ""):
        reserved += facts["standalone_draft_mib" if draft == "STANDALONE" else "draft_model_mib"]
    fraction = round((device.board_mib - reserved) / device.board_mib, 3)
    return float(fraction * _vision_factor(model) if multimodal else fraction)


def _tier(device: Device) -> Mapping[str, int]:
    tiers = read_table("sglang")["tier"]
    found: Mapping[str, int] = next(t for t in tiers if device.board_mib < t["below_mib"])
    return found


def _attention_ranks_mib(facts: Mapping[str, float], graph_batch: int, ranks: int) -> float:
    each = facts["attention_ranks_mib"]
    if graph_batch > facts["attention_ranks_large_from"]:
        each += facts["attention_ranks_large_mib"]
    return graph_batch * ranks * each


def _is_multimodal(model: Model, known: Mapping[str, Any]) -> bool:
    off = read_table("sglang")["vision"]["off_by_default"]
    asked = is_on(known.get("enable_multimodal"))
    return model.vision is not None and (asked or model.engine_class not in off)


def _vision_factor(model: Model) -> float:
    facts, vision = read_table("sglang")["vision"], model.vision
    if vision is None:
        return 1.0
    reference = facts["reference_layers"] * facts["reference_hidden"] ** 2
    ratio = vision.layers * vision.hidden**2 / reference
    factor = 1.0 - facts["sensitivity"] * (ratio - 1.0)
    clamped = max(facts["least_factor"], min(facts["most_factor"], factor))
    return float(facts["base_factor"] * clamped)


def _kv_bytes(kv_dtype: str, model: Model) -> float:
    if kv_dtype == "auto":
        return model.dtype_bytes
    if kv_dtype not in _KV_BYTES:
        raise PlanError(
            f"kv_cache_dtype {kv_dtype!r} has no known size",
            where="settings",
            cure="known: auto, " + ", ".join(sorted(_KV_BYTES)),
        )
    return _KV_BYTES[kv_dtype]


def _hybrid_ratio(known: Mapping[str, Any], model: Model) -> float:
    """The ratio, which only Llama-4 heeds and only when context_length is given too."""
    ratio = known.get("hybrid_kvcache_ratio")
    if ratio is None:
        return 0.0
    if known.get("context_length") is None:
        raise PlanError(
            "hybrid_kvcache_ratio without context_length ends in a TypeError",
            where="settings",
            cure="give --context-length as well",
        )
    heeded = model.engine_class == read_table("sglang")["pool"]["hybrid_architecture"]
    return float(ratio) if heeded else 0.0
