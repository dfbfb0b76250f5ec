"""vLLM on CUDA: what its profiling run will find, and so how much is left for the KV cache.

``available = utilization x total - weights - activation peak - non-torch [- CUDA graphs]``
(``gpu_worker.determine_available_memory``). The activation peak is not the prefill's: the dummy
forward pass runs without attention, and the dummy sampler after it, over ``max_num_seqs`` rows
of the whole vocabulary, is what usually sets it. Source: vLLM 0.12.0 and 0.19.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

from leadline.catalog.reading import read_table
from leadline.plan.architecture import Model
from leadline.plan.hardware import Device, Hardware
from leadline.plan.kv_cache import Pool, PoolSettings, plan_pool
from leadline.plan.ledger import Term, make_term, spread_bytes, sum_bytes
from leadline.plan.releases import VllmRelease
from leadline.plan.vllm_settings import VllmSettings
from leadline.plan.weights import rank_weight_bytes, rope_bytes, stage_layers
from leadline.units import GIB

_PROFILE = "vLLM v1/worker/gpu_model_runner.py profile_run, v1/sample"


@dataclass(frozen=True)
class Measured:
    """What the user knows better than the plan; None where the plan is to compute it."""

    weights_bytes: int | None = None
    """One rank's weights as the engine logs them, its RoPE cache included."""
    available_bytes: int | None = None
    """"Available KV cache memory", per rank."""
    free_bytes: int | None = None
    """Free on the fullest device before the start."""


@dataclass(frozen=True)
class VllmMemory:
    """The ledger of the pipeline stage that binds, and the pool that follows from all stages."""

    terms: list[Term]
    budget_bytes: int
    device_bytes: int
    available_bytes: int
    uncertainty_bytes: int
    margin_bytes: int
    """What is left of the device outside the budget; negative: an out-of-memory is expected."""
    free_bytes: int
    """Of the device when the engine first looks."""
    warm_up_bytes: int
    """The largest single tensor that the sampler warm-up asks for after the pool is taken."""
    pool: Pool


def plan_vllm_memory(
    model: Model, hardware: Hardware, settings: VllmSettings, release: VllmRelease, known: Measured
) -> VllmMemory:
    device = hardware.device
    budget = int(device.memory_bytes * settings.utilization)
    stages = [
        _inside_terms(model, device, settings, release, stage=stage, known=known)
        for stage in range(settings.shards.pipeline)
    ]
    available = [_available(terms, budget, settings, known) for terms in stages]
    binding = available.index(min(available))
    pool = plan_pool(model, settings.shards, pool_settings(settings), release, available)
    outside = _outside_terms(model, settings, release, pool)
    terms = stages[binding] + [_pool_term(available[binding], known, settings), *outside]
    used = budget + sum_bytes(outside, inside=False)
    context = next(int(term.gib * GIB) for term in outside if term.name == "device context")
    rows = min(settings.max_seqs, settings.batched_tokens)
    return VllmMemory(
        terms=terms,
        budget_bytes=budget,
        device_bytes=device.memory_bytes,
        available_bytes=available[binding],
        uncertainty_bytes=0 if known.available_bytes else spread_bytes(stages[binding]),
        margin_bytes=device.memory_bytes - used,
        free_bytes=known.free_bytes or device.memory_bytes - context,
        warm_up_bytes=rows * model.vocabulary * 4,
        pool=pool,
    )


def pool_settings(settings: VllmSettings) -> PoolSettings:
    return PoolSettings(
        max_model_tokens=settings.max_model_tokens,
        batched_tokens=settings.batched_tokens,
        block_tokens=settings.block_tokens,
        element_bytes=settings.kv_element_bytes,
        hybrid=settings.hybrid,
        context_ranks=settings.context_ranks,
        latent_bytes=settings.latent_bytes,
        override_blocks=settings.override_blocks,
    )


def count_activation_bytes(
    model: Model, device: Device, settings: VllmSettings, release: VllmRelease, stage: int
) -> int:
    """Peak of torch memory in the profiling run, above the weights, on one stage.

    Held throughout: images and their embeddings (first stage), the experts' scratch buffers, the
    hidden states that stages exchange. On top: the wider of the dense forward pass and, on the
    last stage, the sampler.
    """
    tokens, width = settings.batched_tokens, settings.dtype_bytes
    held = _image_bytes(model, settings) if stage == 0 else 0
    held += _expert_workspace_bytes(model, settings, release)
    if settings.shards.pipeline > 1:
        held += 2 * tokens * model.hidden * width
    peak = _forward_bytes(model, settings)
    if stage == settings.shards.pipeline - 1:
        peak = max(peak, _sampler_bytes(model, device, settings, release))
    return held + peak + int(_calibration()["workspace_gib"] * GIB)


def _forward_bytes(model: Model, settings: VllmSettings) -> int:
    """Two projections and their product (3 x intermediate), and four hidden states, per token."""
    widest = max(
        layer.feed_forward.shared if layer.feed_forward.experts else layer.feed_forward.intermediate
        for layer, _ in model.kinds
    )
    numbers = 3 * ceil(widest / settings.shards.tensor) + 4 * model.hidden
    return settings.batched_tokens * settings.dtype_bytes * numbers


def _sampler_bytes(
    model: Model, device: Device, settings: VllmSettings, release: VllmRelease
) -> int:
    """Logits and their copies for every row, hidden states of the batch and of the rows."""
    rows = min(settings.max_seqs, settings.batched_tokens)
    logits = rows * model.vocabulary * (settings.dtype_bytes + release.sampler_extra_bytes)
    programs = min(device.multiprocessors, rows)
    buffer = programs * model.vocabulary * release.sampler_rows_bytes
    hidden = (settings.batched_tokens + rows) * model.hidden * settings.dtype_bytes
    return logits + buffer + hidden


def _expert_workspace_bytes(model: Model, settings: VllmSettings, release: VllmRelease) -> int:
    """Two scratch buffers of the fused experts: tokens x routed x max(gate and up, hidden), and
    tokens x routed x max(half of it, hidden). Source: ``fused_moe.TritonExperts.workspace_shapes``.
    """
    sparse = [layer.feed_forward for layer, _ in model.kinds if layer.feed_forward.experts]
    by_kernel = model.quantization is not None and model.quantization.experts_only
    if not sparse or by_kernel or not release.expert_workspace:
        return 0
    feed, shards = sparse[0], settings.shards
    inner = feed.intermediate if shards.expert > 1 else ceil(feed.intermediate / shards.tensor)
    numbers = max(2 * inner, model.hidden) + max(inner, model.hidden)
    return settings.batched_tokens * feed.experts_per_token * numbers * settings.dtype_bytes


def _image_bytes(model: Model, settings: VllmSettings) -> int:
    """Pixels and embeddings of as many images as the encoder budget holds, kept while profiling."""
    vision = model.vision
    if vision is None or not settings.images:
        return 0
    budget = max(settings.batched_tokens, vision.image_tokens)
    images = budget // vision.image_tokens
    embeddings = images * vision.image_tokens * model.hidden
    return (images * vision.image_pixels + embeddings) * settings.dtype_bytes


def _inside_terms(
    model: Model,
    device: Device,
    settings: VllmSettings,
    release: VllmRelease,
    *,
    stage: int,
    known: Measured,
) -> list[Term]:
    facts = _calibration()
    terms = _weight_terms(model, settings, stage, known)
    terms.append(
        make_term(
            "activation peak",
            count_activation_bytes(model, device, settings, release, stage),
            kind="calibrated",
            formula="max(forward without attention, sampler over max_num_seqs x vocabulary) + held",
            source=f"{_PROFILE}; workspace: {facts['source']}",
            uncertainty_bytes=facts["activation_spread_gib"] * GIB,
        )
    )
    terms.append(_non_torch_term(model, settings, release))
    if release.graphs_in_budget or settings.graphs_in_budget:
        terms.append(_graph_term(model, settings, inside=True))
    return terms


def _weight_terms(model: Model, settings: VllmSettings, stage: int, known: Measured) -> list[Term]:
    if known.weights_bytes is not None:
        stated = "stated: the engine's log, RoPE cache included"
        return [
            make_term("weights", known.weights_bytes, kind="recorded", formula="-", source=stated)
        ]
    weights = rank_weight_bytes(model, settings.shards, stage)
    spread = _calibration()["weights_spread_fraction"]
    return [
        make_term(
            "weights",
            weights,
            kind="derived",
            formula="every tensor / its ranks (all experts; norms, routers replicated)",
            source=f"{model.source}; sharding: vLLM model_executor/models",
            uncertainty_bytes=spread * weights,
        ),
        make_term(
            "RoPE cache",
            rope_bytes(model, settings.dtype_bytes),
            kind="derived",
            formula="positions x rotary size x bytes, whole on every rank",
            source="vLLM model_executor/layers/rotary_embedding",
        ),
    ]


def _non_torch_term(model: Model, settings: VllmSettings, release: VllmRelease) -> Term:
    facts, older = _calibration(), release.non_torch_tensor_gib < 1
    size = release.non_torch_single_gib
    spread = facts["non_torch_spread_gib"]
    if settings.shards.tensor > 1:
        size = release.non_torch_tensor_gib
        size += release.non_torch_growth_gib * settings.shards.tensor * model.hidden
        spread = facts["older_tensor_spread_gib"] if older else spread
    elif settings.shards.pipeline > 1:
        size = release.non_torch_pipeline_gib
    return make_term(
        "non-torch",
        size * GIB,
        kind="calibrated",
        formula="NCCL and library buffers that grow while profiling",
        source=facts["source"],
        uncertainty_bytes=spread * GIB,
    )


def _graph_term(model: Model, settings: VllmSettings, *, inside: bool) -> Term:
    """Fitted per layer; layers whose attention cannot be captured whole keep half the graphs."""
    facts = _calibration()
    layers = len(stage_layers(len(model.layers), settings.shards.pipeline)[0])
    heavy = model.experts > 0 or model.is_mla
    each = facts["graph_sparse_layer_gib" if heavy else "graph_layer_gib"]
    if any(reach.kind == "chunked" for reach in model.reaches):
        each /= 2
    share = min(1.0, settings.graph_batch / read_table("vllm")["defaults"]["graph_batch_limit"])
    size = (facts["graph_base_gib"] + each * layers) * share * GIB
    return make_term(
        "CUDA graphs",
        size,
        kind="calibrated",
        formula=f"(base + layers x per layer) x captured batch {settings.graph_batch} / 512",
        source=facts["source"],
        inside=inside,
        uncertainty_bytes=max(
            min(size, facts["graph_spread_gib"] * GIB), facts["graph_spread_fraction"] * size
        ),
    )


def _pool_term(available_bytes: int, known: Measured, settings: VllmSettings) -> Term:
    stated = known.available_bytes is not None or settings.kv_bytes > 0
    return make_term(
        "KV cache",
        max(available_bytes, 0),
        kind="recorded" if stated else "derived",
        formula="stated" if stated else "utilization x total - the terms above",
        source="vLLM v1/worker/gpu_worker.py determine_available_memory",
    )


def _outside_terms(
    model: Model, settings: VllmSettings, release: VllmRelease, pool: Pool
) -> list[Term]:
    facts, terms = _calibration(), []
    parallel = settings.shards.tensor * settings.shards.pipeline > 1
    context = facts["context_parallel_gib"] if parallel else facts["context_gib"]
    context += facts["context_sparse_gib"] if parallel and model.experts else 0.0
    terms.append(
        make_term(
            "device context",
            context * GIB,
            kind="calibrated",
            formula="in use before the engine's first snapshot (CUDA context, NCCL)",
            source=facts["source"],
            inside=False,
            uncertainty_bytes=facts["non_torch_spread_gib"] * GIB,
        )
    )
    if not (release.graphs_in_budget or settings.graphs_in_budget):
        terms.append(_graph_term(model, settings, inside=False))
    return terms + _table_terms(settings, pool)


def _table_terms(settings: VllmSettings, pool: Pool) -> list[Term]:
    """Block tables (device and pinned host) and the token buffers of the host, per rank."""
    span = settings.block_tokens * settings.context_ranks
    blocks = ceil(settings.max_model_tokens / span)
    table = len(pool.groups) * settings.max_seqs * blocks * 4
    formula = "groups x max_num_seqs x ceil(max_model_len / block) x 4 B"
    source = "vLLM v1/worker/block_table.py, v1/worker/gpu_input_batch.py"
    ranks = settings.shards.tensor * settings.shards.pipeline
    tokens = settings.max_seqs * settings.max_model_tokens * 5
    return [
        make_term(
            "block tables", table, kind="derived", formula=formula, source=source, inside=False
        ),
        make_term(
            "pinned block tables",
            table * ranks,
            kind="derived",
            formula=f"{formula} x {ranks} ranks",
            source=source,
            inside=False,
            place="host",
        ),
        make_term(
            "token buffers (touched as used)",
            tokens * ranks,
            kind="derived",
            formula=f"max_num_seqs x max_model_len x 5 B x {ranks} ranks",
            source=source,
            inside=False,
            place="host",
        ),
    ]


def _available(
    terms: list[Term], budget_bytes: int, settings: VllmSettings, known: Measured
) -> int:
    if known.available_bytes is not None:
        return known.available_bytes
    if settings.kv_bytes:
        return settings.kv_bytes
    return budget_bytes - sum_bytes(terms, inside=True)


def _calibration() -> Mapping[str, Any]:
    found: Mapping[str, Any] = read_table("vllm")["calibration"]
    return found
