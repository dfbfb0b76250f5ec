"""SGLang: the static pool, and the tables outside it that grow with the context length.

``tokens = (free after init x fraction - weights) // bytes per token``: weights and KV cache share
the static fraction; activations, CUDA graphs, the request table and the graphs' page tables must
live in the rest. At a context of millions of tokens it is those tables that run out of memory.
Source: sglang 0.5.6 ``model_runner.profile_max_num_token``, ``init_memory_pool``.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from leadline.catalog.reading import read_table
from leadline.plan.architecture import Model
from leadline.plan.hardware import Hardware
from leadline.plan.ledger import Term, make_term, spread_bytes, sum_bytes
from leadline.plan.sglang_settings import SglangSettings
from leadline.plan.vllm import Measured
from leadline.plan.weights import rank_weight_bytes, rope_bytes, stage_layers
from leadline.units import GIB


@dataclass(frozen=True)
class TokenPools:
    """``full`` tokens bound a request; ``local`` the window pool of a hybrid one, else 0."""

    bytes_per_token: float
    full_tokens: int
    local_tokens: int
    table_requests: int
    """Rows of the request table, one for each request that may run."""
    running_requests: int


@dataclass(frozen=True)
class SglangMemory:
    terms: list[Term]
    static_bytes: int
    device_bytes: int
    available_bytes: int
    """For the KV cache, per rank."""
    uncertainty_bytes: int
    margin_bytes: int
    pools: TokenPools


def plan_sglang_memory(
    model: Model, hardware: Hardware, settings: SglangSettings, known: Measured
) -> SglangMemory:
    device = hardware.device
    context = _context_bytes(model, settings)
    free = (known.free_bytes or device.memory_bytes) - context
    static = int(free * settings.fraction)
    weights = _weight_terms(model, settings, known)
    available = known.available_bytes
    if available is None:
        available = static - sum_bytes(weights, inside=True)
    pools = split_pools(model, settings, available)
    outside = [_context_term(context), *_outside_terms(model, settings, pools)]
    pool_term = make_term(
        "KV cache",
        max(available, 0),
        kind="recorded" if known.available_bytes is not None else "derived",
        formula="mem_fraction_static x free memory after init - weights",
        source="sglang 0.5.6 model_executor/model_runner.py profile_max_num_token",
        uncertainty_bytes=_context_spread() * settings.fraction,
    )
    terms = [*weights, pool_term, *outside]
    return SglangMemory(
        terms=terms,
        static_bytes=static,
        device_bytes=device.memory_bytes,
        available_bytes=available,
        uncertainty_bytes=0 if known.available_bytes else spread_bytes([pool_term, *weights]),
        margin_bytes=device.memory_bytes - static - sum_bytes(outside, inside=False),
        pools=pools,
    )


def split_pools(model: Model, settings: SglangSettings, available_bytes: int) -> TokenPools:
    """Tokens of the uniform pool, and of its parts with ``--hybrid-kvcache-ratio``.

    ``r = (1-p) + p x chunk / context; local = 4 T r / (3 r + 1); full = 4 T - 3 local`` (Llama-4).
    """
    cell = count_token_bytes(model, settings)
    tokens = int(max(available_bytes, 0) // cell)
    if settings.total_tokens:
        tokens = min(tokens, settings.total_tokens)
    tokens -= tokens % settings.page_tokens
    full, local = tokens, 0
    chunk = max(reach.tokens for reach in model.reaches)
    if settings.hybrid_ratio and settings.context_tokens > chunk:
        share = 1 - settings.hybrid_ratio + settings.hybrid_ratio * chunk / settings.context_tokens
        local = int(4 * tokens * share // (3 * share + 1))
        full = int(4 * tokens - 12 * tokens * share // (3 * share + 1))
    facts = read_table("sglang")["pool"]
    derived = int(tokens / settings.context_tokens * facts["requests_per_context"])
    least, most = int(facts["least_requests"]), int(facts["most_requests"])
    rows = settings.running_requests or min(max(derived, least), most)
    running = min(settings.running_requests or full // 2, rows)
    return TokenPools(cell, full, local, rows, running)


def count_token_bytes(model: Model, settings: SglangSettings) -> float:
    """Bytes of one token on one rank, every layer at full length."""
    attention = model.layers[0].attention
    layers = max(len(part) for part in stage_layers(len(model.layers), settings.shards.pipeline))
    heads = max(1, attention.cached_heads // settings.shards.tensor)
    return heads * attention.cached_elements * layers * settings.kv_element_bytes


def longest_input(settings: SglangSettings, pools: TokenPools, output_tokens: int) -> int:
    """Longest prompt that is accepted and gets all of ``output_tokens`` after it.

    The scheduler takes ``input < min(context, pool) - 1 - 5`` and cuts the output, without a word,
    to ``min(context, pool) - 1 - input - 1``: one token less than the tokenizer manager's own check
    (``input + output < context``) lets pass. All three seen live.
    """
    reserved = int(read_table("sglang")["pool"]["reserved_input_tokens"])
    request = min(settings.context_tokens, pools.full_tokens) - 1
    return max(0, min(request - reserved, request - output_tokens) - 1)


def _weight_terms(model: Model, settings: SglangSettings, known: Measured) -> list[Term]:
    """As vLLM's; the encoder only where it is loaded, the RoPE cache in float32."""
    if known.weights_bytes is not None:
        return [
            make_term(
                "weights",
                known.weights_bytes,
                kind="recorded",
                formula="-",
                source="stated: the engine's log, RoPE cache included",
            )
        ]
    loaded = model if settings.multimodal else model.without_vision
    stages = range(settings.shards.pipeline)
    weights = max(rank_weight_bytes(loaded, settings.shards, stage) for stage in stages)
    return [
        make_term(
            "weights",
            weights,
            kind="derived",
            formula="every tensor / its ranks (all experts; norms, routers replicated)",
            source=f"{model.source}; sharding: sglang srt/models",
            uncertainty_bytes=0.005 * weights,
        ),
        make_term(
            "RoPE cache",
            rope_bytes(model, 4),
            kind="derived",
            formula="positions x rotary size x 4 B, whole on every rank",
            source="sglang 0.5.6 layers/rotary_embedding.py (float32 on CUDA)",
        ),
    ]


def _context_bytes(model: Model, settings: SglangSettings) -> int:
    facts = read_table("vllm")["calibration"]
    parallel = settings.shards.tensor * settings.shards.pipeline > 1
    gib = facts["context_parallel_gib"] if parallel else facts["context_gib"]
    gib += facts["context_sparse_gib"] if parallel and model.experts else 0.0
    return int(gib * GIB)


def _context_spread() -> float:
    return float(read_table("sglang")["calibration"]["context_spread_gib"]) * GIB


def _context_term(context_bytes: int) -> Term:
    return make_term(
        "device context",
        context_bytes,
        kind="prior",
        formula="in use after torch.distributed starts",
        source=read_table("sglang")["calibration"]["source"],
        inside=False,
        uncertainty_bytes=_context_spread(),
    )


def _outside_terms(model: Model, settings: SglangSettings, pools: TokenPools) -> list[Term]:
    facts = read_table("sglang")
    width = settings.context_tokens + facts["pool"]["extra_context_tokens"]
    terms = [
        make_term(
            "req_to_token",
            pools.table_requests * width * 4,
            kind="derived",
            formula=f"{pools.table_requests} requests x (context_length + 4) x 4 B",
            source=facts["pool"]["source"],
            inside=False,
        ),
        make_term(
            "activations",
            _activation_bytes(model, settings),
            kind="prior",
            formula="chunk x (3 x intermediate / ranks + 4 x hidden) x bytes",
            source="as vLLM's dense forward pass",
            inside=False,
            uncertainty_bytes=GIB / 2,
        ),
    ]
    return terms + (_graph_terms(model, settings) if settings.graph_batch else [])


def _graph_terms(model: Model, settings: SglangSettings) -> list[Term]:
    facts = read_table("sglang")
    pages = ceil(settings.context_tokens / settings.page_tokens)
    table = settings.graph_batch * pages * 4
    graphs = settings.graph_batch * facts["reserve"]["per_graph_batch_mib"] * 2**20
    terms = [
        make_term(
            "CUDA graphs",
            graphs,
            kind="prior",
            formula="2 MiB x cuda_graph_max_bs",
            source=facts["reserve"]["source"],
            inside=False,
            uncertainty_bytes=graphs / 2,
        ),
        make_term(
            "graph page table",
            table,
            kind="derived",
            formula="cuda_graph_max_bs x ceil(context / page) x 4 B",
            source=facts["graph_tables"]["source"],
            inside=False,
        ),
    ]
    if any(reach.kind == "chunked" for reach in model.reaches):
        formula = "cuda_graph_max_bs x ceil(context / chunk) x ceil(chunk / page) x 4 B"
        source = facts["graph_tables"]["source"]
        local = make_term(
            "graph local block table",
            table,
            kind="derived",
            formula=formula,
            source=source,
            inside=False,
        )
        terms.append(local)
    return terms


def _activation_bytes(model: Model, settings: SglangSettings) -> int:
    chunk = max(settings.chunk_tokens, read_table("sglang")["reserve"]["least_chunk_tokens"])
    feed = model.layers[0].feed_forward
    widest = feed.shared or feed.intermediate
    numbers = 3 * ceil(widest / settings.shards.tensor) + 4 * model.hidden
    return int(chunk * numbers * model.dtype_bytes)
