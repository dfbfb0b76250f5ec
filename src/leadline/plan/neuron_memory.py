"""Memory of one logical Neuron core: weights, the compiled KV cache, scratch, graphs.

Nothing here is sized by free memory: the pool is compiled from ``num_gpu_blocks_override``, and
what the graphs take shows only when they are loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil

from leadline.errors import PlanError
from leadline.plan.architecture import Attention, Model
from leadline.plan.hardware import Device, Hardware
from leadline.plan.ledger import Term, make_term, spread_bytes
from leadline.plan.neuron_rules import Rule, find_rule
from leadline.plan.neuron_settings import NeuronSettings
from leadline.plan.vllm import Measured
from leadline.plan.weights import Shards, rank_weight_bytes
from leadline.units import GIB

_MIB = 2**20


@dataclass(frozen=True)
class NeuronMemory:
    """Bytes of one logical core. ``left`` is what the compiled graphs may take."""

    core_bytes: int
    token_bytes: int
    pool_bytes: int
    graphs: int
    left_bytes: int
    terms: tuple[Term, ...]

    @property
    def graph_share_bytes(self) -> float:
        """What is left for each graph."""
        return self.left_bytes / self.graphs

    @property
    def weights_bytes(self) -> int:
        return self._find("weights")

    @property
    def margin_bytes(self) -> int:
        return self.left_bytes - self._find("compiled graphs")

    @property
    def uncertainty_bytes(self) -> int:
        return spread_bytes(list(self.terms))

    def _find(self, name: str) -> int:
        return int(next(term.gib for term in self.terms if term.name == name) * GIB)


def split_cores(hardware: Hardware, core_size: int) -> Hardware:
    """The hardware as logical cores of ``core_size`` physical ones, each with its share of HBM."""
    device = hardware.device
    ratio = device.physical_cores // core_size
    if ratio == 1:
        return hardware
    core = replace(
        device,
        name=f"{device.name}-lnc{core_size}",
        nominal_gb=device.nominal_gb / ratio,
        memory_bytes=device.memory_bytes // ratio,
        bandwidth_bytes_s=device.bandwidth_bytes_s / ratio,
        peak_flops={kind: peak / ratio for kind, peak in device.peak_flops.items()},
        physical_cores=core_size,
    )
    return replace(hardware, device=core, devices_per_node=hardware.devices_per_node * ratio)


def count_core_heads(attention: Attention, cores: int) -> int:
    """KV heads that each core keeps; see the rule ``kv_heads``.

    8 heads on 64 cores are 1 each, so every head is stored 8 times.
    """
    heads = attention.kv_heads
    if heads % cores == 0:
        return heads // cores
    if cores % heads == 0:
        return 1
    return ceil(attention.heads / cores)


def count_token_bytes(model: Model, cores: int, element_bytes: int) -> int:
    """KV bytes of one token on one core: every layer's key and value, 40,960 for 70B at TP 64."""
    if model.is_mla:
        raise PlanError(
            f"{model.name} caches latent vectors, whose layout on Neuron is not described here",
            where="model",
            cure="plan a model with multi-head or grouped-query attention",
        )
    return element_bytes * sum(
        count * count_core_heads(layer.attention, cores) * layer.attention.cached_elements
        for layer, count in model.kinds
    )


def weight_term(model: Model, cores: int, known: Measured) -> Term:
    if known.weights_bytes is not None:
        return make_term(
            "weights", known.weights_bytes, kind="recorded", formula="as given", source="the user"
        )
    return make_term(
        "weights",
        rank_weight_bytes(model, Shards(cores)),
        kind="derived",
        formula=f"all matrices / {cores} cores, KV projections once for each copied head",
        source=find_rule("kv_heads").source,
    )


def plan_neuron_memory(
    model: Model, device: Device, settings: NeuronSettings, known: Measured
) -> NeuronMemory:
    token_bytes = count_token_bytes(model, settings.tensor, settings.kv_element_bytes)
    if settings.quantization:
        model = replace(model, quantization=settings.quantization)
    fixed = [weight_term(model, settings.tensor, known), _pool_term(settings, token_bytes)]
    if settings.prefix_caching:
        fixed += _cached_terms(settings, token_bytes)
    left = device.memory_bytes - int(sum(term.gib for term in fixed) * GIB)
    return NeuronMemory(
        core_bytes=device.memory_bytes,
        token_bytes=token_bytes,
        pool_bytes=settings.blocks * settings.block_tokens * token_bytes,
        graphs=settings.buckets.graphs,
        left_bytes=left,
        terms=(*fixed, graph_term(find_rule("graph_memory"), settings.buckets.graphs)),
    )


def _pool_term(settings: NeuronSettings, token_bytes: int) -> Term:
    unit = "blocks" if settings.prefix_caching else "sequences"
    return make_term(
        "KV cache",
        settings.blocks * settings.block_tokens * token_bytes,
        kind="derived",
        formula=f"{settings.blocks:,} {unit} x {settings.block_tokens:,} tokens x {token_bytes:,}",
        source=find_rule("kv_heads").source,
    )


def _cached_terms(settings: NeuronSettings, token_bytes: int) -> Iterator[Term]:
    """What prefix caching adds: blocks that no request gets, and the flat copy of a decode step."""
    reserved, gather = find_rule("reserved_blocks"), find_rule("gather")
    blocks = reserved["spare_blocks"]
    if settings.given.get("num_gpu_blocks_override"):
        blocks += reserved["null_blocks"]
    yield make_term(
        "reserved blocks",
        blocks * settings.block_tokens * token_bytes,
        kind=reserved.kind,
        formula=f"{blocks} blocks",
        source=reserved.source,
    )
    if not settings.kernels:
        size = settings.max_seqs * settings.max_model_tokens * token_bytes
        yield make_term(
            "gathered KV",
            size,
            kind=gather.kind,
            formula=f"{settings.max_seqs} x {settings.max_model_tokens:,} tokens x {token_bytes:,}",
            source=gather.source,
            uncertainty_bytes=size * gather["spread_fraction"],
        )


def graph_term(rule: Rule, graphs: int) -> Term:
    """What the loaded graphs take, between the two ends of the rule's constant."""
    least, most = rule["least_graph_mib"], rule["most_graph_mib"]
    return make_term(
        "compiled graphs",
        graphs * (least + most) / 2 * _MIB,
        kind=rule.kind,
        formula=f"{graphs} graphs x {least} to {most} MiB",
        source=rule.source,
        inside=False,
        uncertainty_bytes=graphs * (most - least) / 2 * _MIB,
    )
