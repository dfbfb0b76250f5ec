"""vLLM's KV cache from nothing but the memory it gets: what its start-up log must then say.

On a CPU that memory is given, so the forecast is exact to the token; on a GPU it is what the
engine itself calls available, rounded to 0.01 GiB. Source: see ``[cpu]`` of ``catalog/vllm.toml``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from leadline.catalog.reading import read_table
from leadline.plan.architecture import load_model
from leadline.plan.deployment import apply_dtype
from leadline.plan.hardware import parse_hardware
from leadline.plan.kv_cache import plan_pool
from leadline.plan.options import read_numbers, spell_options
from leadline.plan.releases import find_vllm_release
from leadline.plan.vllm import pool_settings
from leadline.plan.vllm_settings import HYBRID_VARIABLE, VllmSettings, read_vllm_settings
from leadline.units import GIB, show_tokens

CPU = "cpu"


class PoolForecast(BaseModel):
    """The two figures that vLLM logs, and what follows from them."""

    model_config = ConfigDict(frozen=True)

    available_bytes: int
    """Per rank."""
    source: str
    """Where that figure is from."""
    capacity_tokens: int
    concurrency: float
    """Requests of the whole window at once."""
    blocks: int
    block_tokens: int
    max_model_tokens: int
    max_request_tokens: int
    """The longest request that can ever be scheduled."""
    starts: bool
    remedy: str
    """For a concurrency below 1."""


def given_cpu_bytes(env: Mapping[str, str]) -> tuple[int, str] | None:
    """The KV memory that the environment gives vLLM on a CPU, and the words for it."""
    variable = read_table("vllm")["cpu"]["kv_variable"]
    space = env.get(variable, "")
    return (int(space) * GIB, f"{variable}={space}") if space.isdigit() else None


def forecast_pool(
    model: str,
    version: str,
    settings: Mapping[str, Any],
    env: Mapping[str, str],
    *,
    device: str,
    available_bytes: int,
    source: str,
    offline: bool = False,
) -> PoolForecast:
    """The pool that this release makes of ``available_bytes`` per rank.

    ``device`` is ``cpu`` or the campaign's hardware; ``offline``: loaded without a server, which on
    a CPU batches otherwise (of other devices this is not known here). Raises ``PlanError`` for a
    model or a setting that cannot be planned.
    """
    given = read_numbers(spell_options(settings), "vllm")
    release = find_vllm_release(version)
    if device == CPU:
        given = _cpu_defaults(given, offline=offline) | given
        # The platform switches off scheduling ahead: one batch is in flight.
        release = release.model_copy(update={"batches_in_flight": 1})
    shaped = apply_dtype(load_model(model), given)
    sized = parse_hardware("1x1GiB" if device == CPU else device).device
    known = read_vllm_settings(given, env, shaped, sized, release)
    stages = [available_bytes] * known.shards.pipeline
    pool = plan_pool(shaped, known.shards, pool_settings(known), release, stages)
    return PoolForecast(
        available_bytes=available_bytes,
        source=source,
        capacity_tokens=pool.capacity_tokens,
        concurrency=pool.concurrency,
        blocks=pool.blocks,
        block_tokens=pool.block_tokens,
        max_model_tokens=known.max_model_tokens,
        max_request_tokens=pool.max_request_tokens,
        starts=pool.starts,
        remedy=_remedy(pool.max_request_tokens, known, device),
    )


def _cpu_defaults(given: Mapping[str, Any], *, offline: bool) -> dict[str, Any]:
    facts, way = read_table("vllm")["cpu"], "offline_" if offline else ""
    world = int(given.get("tensor_parallel_size", 1)) * int(given.get("pipeline_parallel_size", 1))
    seqs = int(given.get("max_num_seqs", facts[f"{way}seqs"] * world))
    return {
        "block_size": facts["block_tokens"],
        "max_num_seqs": seqs,
        "max_num_batched_tokens": max(facts[f"{way}batched_tokens"] * world, seqs),
    }


def _remedy(longest: int, known: VllmSettings, device: str) -> str:
    memory = read_table("vllm")["cpu"]["kv_variable"] if device == CPU else "gpu_memory_utilization"
    shorter = f"lower max_model_len to at most {show_tokens(longest)}, or raise {memory}"
    if known.hybrid_reason == HYBRID_VARIABLE:
        return f"set {HYBRID_VARIABLE}=1, so that local layers keep only their chunk; or {shorter}"
    if known.hybrid_reason:
        return f"{shorter}; {known.hybrid_reason} makes local layers keep every token"
    return shorter
