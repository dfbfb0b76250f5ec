"""Shapes of small models: a ``config.json`` and the tensors that go with it, as data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from leadline.errors import SpecError
from leadline.spec import Frozen

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


class Size(Frozen):
    """The numbers that a shape is filled in with. Token counts are exact."""

    window: int
    vocabulary: int
    layers: int = 2
    heads: int = 8
    kv_heads: int = 2
    head_dim: int = 32
    hidden: int = 64
    intermediate: int = 128
    local_window: int = 512
    """Sliding window, or length of an attention chunk."""
    experts: int = 0
    """0: dense."""


class Tensor(NamedTuple):
    name: str
    shape: tuple[int, ...]
    is_norm: bool = False
    """Norms are ones, everything else is random."""


class Shape(NamedTuple):
    summary: str
    config: Callable[[Size], dict[str, Any]]
    tensors: Callable[[Size], Iterator[Tensor]]


def check_size(shape: str, size: Size) -> None:
    """``SpecError`` for numbers that no engine would load."""
    if size.heads % size.kv_heads:
        raise SpecError(
            f"{size.heads} heads cannot share {size.kv_heads} KV heads",
            where="--kv-heads",
            cure="give a number of KV heads that divides the heads",
        )
    if size.head_dim % 2:
        raise SpecError("rotary embeddings need pairs", where="--head-dim", cure="give 32 or 64")
    if size.experts and shape != "llama4":
        raise SpecError(
            f"the shape {shape} has no experts", where="--experts", cure="use --shape llama4"
        )


def _shared_config(size: Size) -> dict[str, Any]:
    return {
        "vocab_size": size.vocabulary,
        "hidden_size": size.hidden,
        "intermediate_size": size.intermediate,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.kv_heads,
        "head_dim": size.head_dim,
        "max_position_embeddings": size.window,
        "rope_theta": 500000.0,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "torch_dtype": "bfloat16",
    }


def _gqa_config(size: Size) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "mlp_bias": False,
        **_shared_config(size),
    }


def _swa_config(size: Size) -> dict[str, Any]:
    return {
        "architectures": ["MistralForCausalLM"],
        "model_type": "mistral",
        "sliding_window": size.local_window,
        **_shared_config(size),
    }


def _qwen3_config(size: Size) -> dict[str, Any]:
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "sliding_window": None,
        "use_sliding_window": False,
        **_shared_config(size),
    }


# Of Llama 4: three layers of four look at their own chunk only, the fourth at everything.
_FULL_EVERY = 4


def _llama4_config(size: Size) -> dict[str, Any]:
    rotary = [int((layer + 1) % _FULL_EVERY != 0) for layer in range(size.layers)]
    return {
        "architectures": ["Llama4ForCausalLM"],
        "model_type": "llama4_text",
        **_shared_config(size),
        "intermediate_size_mlp": size.intermediate,
        "rope_scaling": None,
        "attention_chunk_size": size.local_window,
        "attn_temperature_tuning": True,
        "floor_scale": 8192,
        "attn_scale": 0.1,
        "use_qk_norm": True,
        "no_rope_layers": rotary,
        "no_rope_layer_interval": _FULL_EVERY,
        "layer_types": ["chunked_attention" if each else "full_attention" for each in rotary],
        "num_local_experts": size.experts or 1,
        "num_experts_per_tok": 1,
        "interleave_moe_layer_step": 1 if size.experts else 0,
        "moe_layers": list(range(size.layers)) if size.experts else [],
        "output_router_logits": False,
        "router_aux_loss_coef": 0.001,
        "router_jitter_noise": 0.0,
        "for_llm_compressor": False,
    }


def _llama_tensors(size: Size) -> Iterator[Tensor]:
    yield from _ends(size)
    for layer in range(size.layers):
        prefix = f"model.layers.{layer}."
        yield from _attention(size, prefix)
        yield from _feed_forward(size, f"{prefix}mlp.")


def _qwen3_tensors(size: Size) -> Iterator[Tensor]:
    yield from _llama_tensors(size)
    for layer in range(size.layers):
        for name in ("q_norm", "k_norm"):
            weight = f"model.layers.{layer}.self_attn.{name}.weight"
            yield Tensor(weight, (size.head_dim,), is_norm=True)


def _llama4_tensors(size: Size) -> Iterator[Tensor]:
    yield from _ends(size)
    for layer in range(size.layers):
        prefix = f"model.layers.{layer}."
        yield from _attention(size, prefix)
        feed = f"{prefix}feed_forward."
        if size.experts:
            yield from _experts(size, feed)
            feed += "shared_expert."
        yield from _feed_forward(size, feed)


def _ends(size: Size) -> Iterator[Tensor]:
    """What comes before the first layer and after the last."""
    yield Tensor(EMBEDDING, (size.vocabulary, size.hidden))
    yield Tensor(HEAD, (size.vocabulary, size.hidden))
    yield Tensor("model.norm.weight", (size.hidden,), is_norm=True)


def _attention(size: Size, prefix: str) -> Iterator[Tensor]:
    queries, keys = size.heads * size.head_dim, size.kv_heads * size.head_dim
    yield Tensor(f"{prefix}self_attn.q_proj.weight", (queries, size.hidden))
    yield Tensor(f"{prefix}self_attn.k_proj.weight", (keys, size.hidden))
    yield Tensor(f"{prefix}self_attn.v_proj.weight", (keys, size.hidden))
    yield Tensor(f"{prefix}self_attn.o_proj.weight", (size.hidden, queries))
    for name in ("input_layernorm", "post_attention_layernorm"):
        yield Tensor(f"{prefix}{name}.weight", (size.hidden,), is_norm=True)


def _feed_forward(size: Size, prefix: str) -> Iterator[Tensor]:
    yield Tensor(f"{prefix}gate_proj.weight", (size.intermediate, size.hidden))
    yield Tensor(f"{prefix}up_proj.weight", (size.intermediate, size.hidden))
    yield Tensor(f"{prefix}down_proj.weight", (size.hidden, size.intermediate))


def _experts(size: Size, prefix: str) -> Iterator[Tensor]:
    yield Tensor(f"{prefix}router.weight", (size.experts, size.hidden))
    # Stored the other way round than a linear layer, gate and up side by side.
    yield Tensor(
        f"{prefix}experts.gate_up_proj", (size.experts, size.hidden, 2 * size.intermediate)
    )
    yield Tensor(f"{prefix}experts.down_proj", (size.experts, size.intermediate, size.hidden))


SHAPES: Mapping[str, Shape] = {
    "gqa": Shape("Llama: grouped queries, full attention", _gqa_config, _llama_tensors),
    "swa": Shape("Mistral: every layer a sliding window", _swa_config, _llama_tensors),
    "llama4": Shape(
        "Llama 4: three layers of four in chunks, dense or experts",
        _llama4_config,
        _llama4_tensors,
    ),
    "qwen3": Shape("Qwen 3: grouped queries, normed heads", _qwen3_config, _qwen3_tensors),
}
