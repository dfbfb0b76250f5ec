"""Every tensor of a model: exact parameter counts, and the bytes that one rank holds.

Names and sharding follow vLLM 0.12.0 (``model_executor/models``), which SGLang shares: query,
gate, up by columns; output, down by rows; KV heads split until one is left, then replicated;
norms and routers replicated; embeddings padded to a multiple of 64 and split by vocabulary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import Literal

from leadline.plan.architecture import Attention, FeedForward, Layer, Model
from leadline.plan.quantization import Quantization

VOCABULARY_PADDING = 64
"""Rows that embeddings are padded to. Source: vLLM 0.12.0, DEFAULT_VOCAB_PADDING_SIZE."""

Split = Literal["none", "tensor", "kv", "expert"]
Kind = Literal["matrix", "expert", "plain"]


@dataclass(frozen=True)
class Tensor:
    """``count`` matrices of ``rows`` x ``columns``; ``plain`` ones are never quantised."""

    name: str
    rows: int
    columns: int
    count: int = 1
    split: Split = "tensor"
    kind: Kind = "matrix"

    @property
    def elements(self) -> int:
        return self.rows * self.columns * self.count


@dataclass(frozen=True)
class Shards:
    """How one engine instance is divided. ``expert`` 1: experts are split like other matrices."""

    tensor: int = 1
    pipeline: int = 1
    expert: int = 1


@lru_cache
def count_parameters(model: Model) -> int:
    """Parameters as the checkpoint stores them: no padding, tied embeddings once."""
    encoder = model.vision.parameters if model.vision else 0
    body = sum(
        count * tensor.elements
        for layer, count in model.kinds
        for tensor in layer_tensors(model, layer)
    )
    return body + sum(tensor.elements for tensor in outer_tensors(model)) + encoder


@lru_cache
def count_active_parameters(model: Model) -> int:
    """Parameters that one token passes through: of the experts, only those it is routed to."""
    idle = 0
    for layer, count in model.kinds:
        feed = layer.feed_forward
        if feed.experts:
            unused = count * (feed.experts - feed.experts_per_token)
            idle += unused * sum(t.rows * t.columns for t in _expert_tensors(model, feed))
    encoder = model.vision.parameters if model.vision else 0
    return count_parameters(model) - idle - encoder


@lru_cache
def rank_weight_bytes(model: Model, shards: Shards, stage: int = 0) -> int:
    """Bytes of weights on one rank of pipeline stage ``stage``, the RoPE cache not counted."""
    layers = stage_layers(len(model.layers), shards.pipeline)[stage]
    body = sum(
        count * _rank_bytes(model, tensor, shards)
        for layer, count in _count_layers(model, layers, shards.pipeline)
        for tensor in layer_tensors(model, layer)
    )
    outer = sum(_rank_bytes(model, t, shards) for t in _stage_tensors(model, shards, stage))
    encoder = model.vision.parameters if model.vision and stage == 0 else 0
    return body + outer + ceil(encoder / shards.tensor) * model.dtype_bytes


def _count_layers(model: Model, layers: range, stages: int) -> Iterable[tuple[Layer, int]]:
    if stages == 1:
        return model.kinds
    return Counter(model.layers[index] for index in layers).items()


def rope_bytes(model: Model, element_bytes: int) -> int:
    """The tables of cosines and sines, whole on every rank: positions x rotary width x bytes."""
    return sum(model.rope.positions) * model.rope.width * element_bytes


def padded_vocabulary(model: Model) -> int:
    return ceil(model.vocabulary / VOCABULARY_PADDING) * VOCABULARY_PADDING


@lru_cache
def stage_layers(layers: int, stages: int) -> tuple[range, ...]:
    """Layer indices of each pipeline stage; a remainder goes to the stages before the last.

    Source: vLLM 0.12.0, ``distributed.utils.get_pp_indices``.
    """
    sizes = [layers // stages] * stages
    for extra in range(layers % stages):
        sizes[-(2 + extra) if stages > 1 else 0] += 1
    starts = [sum(sizes[:stage]) for stage in range(stages)]
    return tuple(range(start, start + size) for start, size in zip(starts, sizes, strict=True))


def layer_tensors(model: Model, layer: Layer) -> Iterator[Tensor]:
    """The tensors of one decoder layer."""
    traits = model.traits
    norm_rows = traits.norms * (2 if traits.norm_bias else 1)
    yield Tensor("norms", norm_rows, model.hidden, split="none", kind="plain")
    attention = layer.attention
    yield from (
        _latent_tensors(model, attention)
        if attention.latent
        else _attention_tensors(model, attention)
    )
    feed = layer.feed_forward
    if feed.experts:
        yield from _sparse_tensors(model, feed)
    else:
        yield from _dense_tensors(model, feed.intermediate, "mlp")


def outer_tensors(model: Model) -> Iterator[Tensor]:
    """Embedding, final norm, and the head unless it is tied to the embedding."""
    yield Tensor("embedding", model.vocabulary, model.hidden, kind="plain")
    norm_rows = 2 if model.traits.norm_bias else 1
    yield Tensor("final_norm", norm_rows, model.hidden, split="none", kind="plain")
    if not model.tied:
        yield Tensor("head", model.vocabulary, model.hidden, kind="plain")
    if model.traits.head_bias:
        yield Tensor("head_bias", model.vocabulary, 1, kind="plain")


def _attention_tensors(model: Model, attention: Attention) -> Iterator[Tensor]:
    traits, hidden = model.traits, model.hidden
    queries = attention.heads * attention.key_size
    keys = attention.kv_heads * attention.key_size
    values = attention.kv_heads * attention.value_size
    yield Tensor("query", queries, hidden)
    yield Tensor("key", keys, hidden, split="kv")
    yield Tensor("value", values, hidden, split="kv")
    yield Tensor("output", hidden, attention.heads * attention.value_size)
    if traits.qkv_bias:
        yield Tensor("query_bias", queries, 1, kind="plain")
        yield Tensor("kv_bias", keys + values, 1, split="kv", kind="plain")
    if traits.output_bias:
        yield Tensor("output_bias", hidden, 1, split="none", kind="plain")
    if traits.qk_norm == "head":
        yield Tensor("qk_norm", 2, attention.key_size, split="none", kind="plain")
    if traits.qk_norm == "full":
        yield Tensor("qk_norm", queries + keys, 1, split="none", kind="plain")
    if traits.sinks:
        yield Tensor("sinks", attention.heads, 1, kind="plain")


def _latent_tensors(model: Model, attention: Attention) -> Iterator[Tensor]:
    """MLA: the down-projections are replicated, the up-projections split by heads."""
    latent = attention.latent
    assert latent is not None  # noqa: S101 - the caller chose by it
    queries = attention.heads * attention.key_size
    if latent.query_rank:
        yield Tensor("query_down", latent.query_rank, model.hidden, split="none")
        yield Tensor("query_norm", latent.query_rank, 1, split="none", kind="plain")
        yield Tensor("query_up", queries, latent.query_rank)
    else:
        yield Tensor("query", queries, model.hidden)
    yield Tensor("kv_down", latent.kv_rank + latent.rope_size, model.hidden, split="none")
    yield Tensor("kv_norm", latent.kv_rank, 1, split="none", kind="plain")
    yield Tensor(
        "kv_up", attention.heads * (latent.plain_size + attention.value_size), latent.kv_rank
    )
    yield Tensor("output", model.hidden, attention.heads * attention.value_size)


def _dense_tensors(model: Model, intermediate: int, name: str) -> Iterator[Tensor]:
    ways = 2 if model.traits.gated else 1
    yield Tensor(f"{name}_up", intermediate, model.hidden, ways)
    yield Tensor(f"{name}_down", model.hidden, intermediate)
    if model.traits.mlp_bias:
        yield Tensor(f"{name}_up_bias", intermediate, 1, ways, kind="plain")
        yield Tensor(f"{name}_down_bias", model.hidden, 1, split="none", kind="plain")


def _sparse_tensors(model: Model, feed: FeedForward) -> Iterator[Tensor]:
    traits = model.traits
    yield Tensor("router", feed.experts, model.hidden, split="none", kind="plain")
    for tensor in _expert_tensors(model, feed):
        yield Tensor(tensor.name, tensor.rows, tensor.columns, feed.experts, "expert", "expert")
    if traits.router_bias or traits.score_bias:
        yield Tensor("router_bias", feed.experts, 1, split="none", kind="plain")
    if traits.expert_bias:
        rows = 2 * feed.intermediate + model.hidden
        yield Tensor("expert_bias", rows, 1, feed.experts, "expert", "plain")
    if feed.shared:
        yield from _dense_tensors(model, feed.shared, "shared")
    if traits.shared_gate:
        yield Tensor("shared_gate", 1, model.hidden, split="none", kind="plain")


def _expert_tensors(model: Model, feed: FeedForward) -> list[Tensor]:
    """The three matrices of one expert."""
    gate = Tensor("expert_gate", feed.intermediate, model.hidden)
    up = Tensor("expert_up", feed.intermediate, model.hidden)
    return [gate, up, Tensor("expert_down", model.hidden, feed.intermediate)]


def _stage_tensors(model: Model, shards: Shards, stage: int) -> Iterator[Tensor]:
    """Embedding on the first stage, norm and head on the last, which keeps a tied one too."""
    first, last = stage == 0, stage == shards.pipeline - 1
    rows = padded_vocabulary(model)
    if first or (last and model.tied):
        yield Tensor("embedding", rows, model.hidden, kind="plain")
    if last:
        yield from (t for t in outer_tensors(model) if t.name in ("final_norm", "head_bias"))
    if last and not model.tied:
        yield Tensor("head", rows, model.hidden, kind="plain")


def _rank_bytes(model: Model, tensor: Tensor, shards: Shards) -> int:
    parts = _parts(model, tensor, shards)
    quantization = model.quantization
    if quantization is None or not _is_quantised(tensor, quantization):
        return ceil(tensor.elements / parts) * model.dtype_bytes
    rows, columns = tensor.rows, tensor.columns
    if quantization.hidden_padding and tensor.kind == "expert":
        rows, columns = _pad_expert(tensor, quantization, parts)
    return ceil(tensor.count * quantization.matrix_bytes(rows, columns) / parts)


def _pad_expert(tensor: Tensor, quantization: Quantization, parts: int) -> tuple[int, int]:
    """An expert's matrix as its kernel holds it: the side that faces the hidden state rounded up
    whole, the intermediate side rounded up on each rank.
    """
    down = tensor.name == "expert_down"
    hidden, inner = (tensor.rows, tensor.columns) if down else (tensor.columns, tensor.rows)
    hidden = ceil(hidden / quantization.hidden_padding) * quantization.hidden_padding
    step = quantization.inner_padding * parts
    inner = ceil(inner / step) * step
    return (hidden, inner) if down else (inner, hidden)


def _parts(model: Model, tensor: Tensor, shards: Shards) -> int:
    if tensor.split == "none":
        return 1
    if tensor.split == "kv":
        return min(shards.tensor, model.layers[0].attention.kv_heads)
    if tensor.split == "expert":
        return max(shards.tensor, shards.expert)
    return shards.tensor


def _is_quantised(tensor: Tensor, quantization: Quantization) -> bool:
    if tensor.kind == "plain":
        return False
    return tensor.kind == "expert" or not quantization.experts_only
