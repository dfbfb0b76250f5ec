"""vLLM on Neuron, generation 1 (plugin + NxD Inference): buckets, graphs, memory of one core.

Everything is compiled for fixed shapes: the batch, the longest context and a graph for each
bucket of lengths. One logical core holds its share of the weights, whole KV heads (replicated
when there are more cores than heads) for every slot of every sequence, and every graph's code
and rings. Source: neuronx-distributed-inference 0.8, vllm-neuron 0.4.1; see catalog/neuron.toml.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

from leadline.catalog.reading import read_table
from leadline.errors import PlanError
from leadline.plan.architecture import Model
from leadline.plan.hardware import Device
from leadline.plan.ledger import Term, make_term
from leadline.plan.options import is_on, spell_options
from leadline.plan.releases import parse_version
from leadline.plan.vllm import Measured
from leadline.plan.weights import Shards, rank_weight_bytes
from leadline.units import GIB, parse_tokens


@dataclass(frozen=True)
class NeuronRelease:
    """One tuple of packages that were released together."""

    sdk: str
    nxdi: str
    plugin: str
    vllm: str
    generation: int


@dataclass(frozen=True)
class Buckets:
    """Lengths that are compiled. ``prefix`` is empty without prefix caching, else starts at 0."""

    prefill: tuple[int, ...]
    prefix: tuple[int, ...]
    decode: tuple[int, ...]

    @property
    def graphs(self) -> int:
        return len(self.prefill) * max(1, len(self.prefix)) + len(self.decode)

    @property
    def largest_cell_tokens(self) -> int:
        """Prompt and prefix of the largest prefill graph together."""
        return max(self.prefill) + max(self.prefix, default=0)


@dataclass(frozen=True)
class NeuronSettings:
    cores: int
    """Tensor-parallel logical cores."""
    max_model_tokens: int
    batch: int
    """max_num_seqs: the compiled batch."""
    prefix_caching: bool
    block_tokens: int
    """0: not given. Without prefix caching the plugin overwrites it with max_model_len."""
    blocks: int
    """Blocks of the paged cache, 0 without one."""
    least_blocks: int
    buckets: Buckets
    kernel: bool
    """Whether a token-generation attention kernel is asked for."""
    prefix_buckets_missing: bool
    unplanned: tuple[str, ...]


_PLANNED = {
    "tensor_parallel_size",
    "max_model_len",
    "max_num_seqs",
    "enable_prefix_caching",
    "block_size",
    "num_gpu_blocks_override",
    "additional_config",
    "dtype",
}
# vLLM fills in 256 before the plugin's own default of 32 can apply (vllm-neuron 0.4.1).
_DEFAULT_BATCH = 256


def find_neuron_release(version: str) -> NeuronRelease:
    """The package tuple that a plugin, SDK or vLLM version belongs to."""
    wanted = parse_version(version)
    for key in ("plugin", "sdk", "vllm"):
        for entry in read_table("neuron")["release"]:
            known = parse_version(entry[key])
            size = min(len(known), 2 if key != "plugin" else len(known))
            if wanted[:size] == known[:size]:
                return NeuronRelease(**entry)
    tuples = ", ".join(entry["plugin"] for entry in read_table("neuron")["release"])
    raise PlanError(
        f"no vllm-neuron {version!r} is known",
        where="engine",
        cure=f"name the plugin's version: {tuples}",
    )


def read_neuron_settings(given: Mapping[str, Any], model: Model) -> NeuronSettings:
    """VLLM's options and NxDI's overrides, with the plugin's defaults."""
    known = spell_options(given)
    overrides = (known.get("additional_config") or {}).get("override_neuron_config") or {}
    length = known.get("max_model_len")
    tokens = parse_tokens(length) if length else model.max_position
    cached = is_on(known.get("enable_prefix_caching", True))
    batch = int(known.get("max_num_seqs") or _DEFAULT_BATCH)
    block = int(known.get("block_size") or 0)
    least = ceil(tokens / block) * batch if block else 0
    blocks = int(known.get("num_gpu_blocks_override") or 0)
    if cached and block and not blocks:
        blocks = int(overrides.get("pa_num_blocks") or tokens // block * batch)
    flags = read_table("neuron")["kernel"]["flags"]
    missing = cached and "context_encoding_buckets" in overrides
    return NeuronSettings(
        cores=int(known.get("tensor_parallel_size", 1)),
        max_model_tokens=tokens,
        batch=batch,
        prefix_caching=cached,
        block_tokens=block if cached else tokens,
        blocks=blocks if cached else 0,
        least_blocks=least if cached else 0,
        buckets=list_buckets(tokens, overrides, cached=cached),
        kernel=any(overrides.get(flag) for flag in flags),
        prefix_buckets_missing=missing and "prefix_buckets" not in overrides,
        unplanned=tuple(sorted(set(known) - _PLANNED)),
    )


def list_buckets(tokens: int, overrides: Mapping[str, Any], *, cached: bool) -> Buckets:
    """Powers of two up to the longest context, or the lists that are given."""
    facts = read_table("neuron")["buckets"]
    first = facts["first_prefill_cached" if cached else "first_prefill"]
    prefill = overrides.get("context_encoding_buckets") or _powers(first, tokens)
    first = facts["first_decode_cached" if cached else "first_decode"]
    decode = overrides.get("token_generation_buckets") or _powers(first, tokens)
    prefix: tuple[int, ...] = ()
    if cached:
        given = overrides.get("prefix_buckets") or _powers(facts["first_prefill_cached"], tokens)
        prefix = (0, *sorted(given))
    return Buckets(tuple(sorted(prefill)), prefix, tuple(sorted(decode)))


def cache_slots(settings: NeuronSettings) -> int:
    """Tokens that the compiled cache has room for, all sequences together."""
    if settings.prefix_caching:
        return settings.blocks * settings.block_tokens
    return settings.batch * settings.max_model_tokens


def count_core_token_bytes(model: Model, settings: NeuronSettings) -> int:
    """Bytes of one token on one core: whole heads, one at least, in every layer."""
    attention = model.layers[0].attention
    heads = max(1, attention.cached_heads // settings.cores)
    return heads * attention.cached_elements * len(model.layers) * model.dtype_bytes


def core_terms(model: Model, settings: NeuronSettings, known: Measured) -> list[Term]:
    """Weights, cache, gather scratch and graphs of one logical core."""
    stated = known.weights_bytes is not None
    weights = known.weights_bytes or rank_weight_bytes(model, Shards(settings.cores))
    token_bytes = count_core_token_bytes(model, settings)
    facts = read_table("neuron")["memory"]
    middle = (facts["least_graph_mib"] + facts["most_graph_mib"]) / 2 * 2**20
    spread = (facts["most_graph_mib"] - facts["least_graph_mib"]) / 2 * 2**20
    graphs = settings.buckets.graphs
    terms = [
        make_term(
            "weights",
            weights,
            kind="recorded" if stated else "derived",
            formula="stated" if stated else "every tensor / its cores (KV heads replicated)",
            source=model.source,
        ),
        make_term(
            "KV cache",
            cache_slots(settings) * token_bytes,
            kind="derived",
            formula=f"{cache_slots(settings):,} slots x {token_bytes:,} B",
            source="NxDI 0.8 modules/kvcache: REPLICATE_TO_TP_DEGREE, static shapes",
        ),
    ]
    if settings.prefix_caching and not settings.kernel:
        gathered = settings.batch * settings.max_model_tokens * token_bytes
        terms.append(
            make_term(
                "gather scratch",
                gathered,
                kind="calibrated",
                formula="max_num_seqs x max_model_len x bytes per token",
                source="NxDI pull request 155: block KV gathered flat without the kernel",
                uncertainty_bytes=gathered,
            )
        )
    terms.append(
        make_term(
            "compiled graphs",
            graphs * middle,
            kind="calibrated",
            formula=f"{graphs} graphs x 296 to 374 MiB",
            source=facts["source"],
            inside=False,
            uncertainty_bytes=graphs * spread,
        )
    )
    return terms


def score_row_bytes(settings: NeuronSettings, device: Device) -> int:
    """SBUF bytes per partition that the token-generation kernel wants for one row of scores."""
    facts = read_table("neuron")["kernel"]
    return int(facts["score_bytes"] * max(settings.buckets.decode) // device.physical_cores)


def graph_room_mib(device: Device, terms: list[Term], graphs: int) -> float:
    """What weights and cache leave for each graph."""
    held = sum(term.gib for term in terms if term.name != "compiled graphs")
    return (device.memory_bytes / GIB - held) * 1024 / graphs


def _powers(first: int, last: int) -> tuple[int, ...]:
    """first, 2 x first, ... and the longest itself."""
    sizes = []
    size = first
    while size < last:
        sizes.append(size)
        size *= 2
    return (*sizes, last)
