"""Tiny models with windows of millions of tokens, written without torch.

One token is one byte of text, so that a short corpus fills a long window. Attention is computed as
in any model, but the next token depends on the last one alone: after any byte comes the first of
twelve words, after each word the next, so that an answer is readable text of known words.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "and", "runs", "away"]
WINDOW = 10_485_760
_BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
_SPECIAL = "<|end|>"
_VOCABULARY = [_SPECIAL, *_BYTES, *(f"Ġ{word}" for word in WORDS)]
_FIRST_WORD = 1 + len(_BYTES)
_ROWS = 320  # the vocabulary, padded
_HIDDEN, _HEAD, _INTER = 64, 32, 64

Tensors = dict[str, NDArray[np.float32]]


def write_dense(folder: Path, **changes: Any) -> Path:
    """One layer, one head, full attention."""
    return _write(folder, {**_config("LlamaForCausalLM", "llama", layers=1), **changes}, 1)


def write_sliding(folder: Path, window: int = 512) -> Path:
    """One layer, one head, that looks back ``window`` tokens."""
    config = _config("MistralForCausalLM", "mistral", layers=1)
    return _write(folder, {**config, "sliding_window": window}, 1)


def write_chunked(folder: Path, chunk: int = 1024) -> Path:
    """Like Llama 4: three layers that look back within their chunk, one that sees everything."""
    config = _config("Llama4ForCausalLM", "llama4_text", layers=4)
    ropes = [1, 1, 1, 0]
    config |= {
        "attention_chunk_size": chunk,
        "no_rope_layers": ropes,
        "no_rope_layer_interval": 4,
        "layer_types": ["chunked_attention" if r else "full_attention" for r in ropes],
        "attn_temperature_tuning": True,
        "floor_scale": 8192,
        "attn_scale": 0.1,
        "use_qk_norm": True,
        "intermediate_size_mlp": _INTER,
        "num_local_experts": 2,
        "num_experts_per_tok": 1,
        "interleave_moe_layer_step": 0,
        "moe_layers": [],
        "rope_scaling": None,
        "router_aux_loss_coef": 0.001,
        "router_jitter_noise": 0.0,
        "output_router_logits": False,
        "for_llm_compressor": False,
    }
    return _write(folder, config, 4, feed="feed_forward")


def _config(architecture: str, kind: str, layers: int) -> dict[str, Any]:
    return {
        "architectures": [architecture],
        "model_type": kind,
        "vocab_size": _ROWS,
        "hidden_size": _HIDDEN,
        "intermediate_size": _INTER,
        "num_hidden_layers": layers,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "head_dim": _HEAD,
        "max_position_embeddings": WINDOW,
        "rope_theta": 500000.0,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "attention_bias": False,
        "mlp_bias": False,
        "torch_dtype": "bfloat16",
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": 0,
    }


def _write(folder: Path, config: dict[str, Any], layers: int, feed: str = "mlp") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    _write_tokenizer(folder)
    _write_safetensors(folder / "model.safetensors", _tensors(layers, feed))
    return folder


def _tensors(layers: int, feed: str) -> Tensors:
    draw = np.random.default_rng(0)

    def noise(*shape: int) -> NDArray[np.float32]:
        return draw.normal(0, 0.02, shape).astype(np.float32)

    embedding, head = _chain()
    ones = np.ones(_HIDDEN, np.float32)
    tensors = {
        "model.embed_tokens.weight": embedding,
        "lm_head.weight": head,
        "model.norm.weight": ones,
    }
    for layer in range(layers):
        at = f"model.layers.{layer}"
        for name in ("q", "k", "v"):
            tensors[f"{at}.self_attn.{name}_proj.weight"] = noise(_HEAD, _HIDDEN)
        tensors[f"{at}.self_attn.o_proj.weight"] = noise(_HIDDEN, _HEAD)
        for name in ("gate", "up"):
            tensors[f"{at}.{feed}.{name}_proj.weight"] = noise(_INTER, _HIDDEN)
        tensors[f"{at}.{feed}.down_proj.weight"] = noise(_HIDDEN, _INTER)
        tensors[f"{at}.input_layernorm.weight"] = ones
        tensors[f"{at}.post_attention_layernorm.weight"] = ones
    return tensors


def _chain() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Embeddings and the output rows that answer them: byte to first word, word to next word.

    Direction 0 is that of all bytes, direction 1 + n that of word n.
    """
    embedding = np.random.default_rng(1).normal(0, 0.02, (_ROWS, _HIDDEN)).astype(np.float32)
    head = np.zeros((_ROWS, _HIDDEN), np.float32)
    embedding[:_FIRST_WORD, 0] = 1
    for number in range(len(WORDS)):
        embedding[_FIRST_WORD + number, 1 + number] = 1
        following = (number + 1) % len(WORDS)
        head[_FIRST_WORD + following, 1 + number] = 1
    head[_FIRST_WORD, 0] = 1
    return embedding, head


def _write_tokenizer(folder: Path) -> None:
    vocabulary = {token: number for number, token in enumerate(_VOCABULARY)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(_SPECIAL, special=True)])
    tokenizer.save(str(folder / "tokenizer.json"))
    facts = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": _SPECIAL,
        "eos_token": _SPECIAL,
        "pad_token": _SPECIAL,
        "model_max_length": WINDOW,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(facts), encoding="utf-8")


def _write_safetensors(path: Path, tensors: Tensors) -> None:
    """The format: length of the header, the header as JSON, then the numbers; here as bfloat16."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    parts, offset = [], 0
    for name, tensor in tensors.items():
        data = (np.ascontiguousarray(tensor).view(np.uint32) >> 16).astype("<u2").tobytes()
        span = [offset, offset + len(data)]
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": span}
        parts.append(data)
        offset += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(parts))
