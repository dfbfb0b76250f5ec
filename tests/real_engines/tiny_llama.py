"""A Llama of two layers with random weights and a real tokenizer: a model that real engines load.

Its answers are readable nonsense of full length: only tokens of plain letters can be chosen, none
of them ends the answer, and a token follows from its predecessor, so that it does not repeat one
word. What a context of 32K asks of an engine, it asks in full.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from tests.prompts.tokenizers_for_tests import save, train
from tokenizers import Tokenizer

WINDOW = 131072
LAYERS, HIDDEN, HEADS, KV_HEADS, HEAD, FEED = 2, 64, 2, 1, 32, 128


def write_tiny_llama(folder: Path, window: int = WINDOW) -> Path:
    """``config.json``, weights and tokenizer as Hugging Face lays them out."""
    save("llama3", folder)
    tokenizer = train("llama3")
    _write(folder / "config.json", _config(tokenizer.get_vocab_size(), window))
    _write(folder / "tokenizer_config.json", _tokenizer_config(window))
    _write_safetensors(folder / "model.safetensors", _weights(tokenizer))
    return folder


def _config(vocabulary: int, window: int) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "torch_dtype": "bfloat16",
        "vocab_size": vocabulary,
        "max_position_embeddings": window,
        "num_hidden_layers": LAYERS,
        "hidden_size": HIDDEN,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD,
        "intermediate_size": FEED,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "tie_word_embeddings": False,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }


def _tokenizer_config(window: int) -> dict[str, object]:
    # Without model_max_length SGLang's /tokenize answers 500: 1e30 is no 64-bit integer.
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|end|>",
        "bos_token": "<|end|>",
        "model_max_length": window,
        "clean_up_tokenization_spaces": False,
        "chat_template": "{% for m in messages %}{{ m['content'] }}\n{% endfor %}",
    }


def _weights(tokenizer: Tokenizer) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return random.standard_normal(shape).astype(np.float32) * 0.05

    vocabulary = tokenizer.get_vocab_size()
    ones = np.ones(HIDDEN, np.float32)
    weights = {
        "model.embed_tokens.weight": draw(vocabulary, HIDDEN) * 20,
        "model.norm.weight": ones,
        "lm_head.weight": draw(vocabulary, HIDDEN) * _readable(tokenizer)[:, None],
    }
    for layer in range(LAYERS):
        tensors = {
            "input_layernorm": ones,
            "post_attention_layernorm": ones,
            "self_attn.q_proj": draw(HEADS * HEAD, HIDDEN),
            "self_attn.k_proj": draw(KV_HEADS * HEAD, HIDDEN),
            "self_attn.v_proj": draw(KV_HEADS * HEAD, HIDDEN),
            "self_attn.o_proj": draw(HIDDEN, HEADS * HEAD),
            "mlp.gate_proj": draw(FEED, HIDDEN),
            "mlp.up_proj": draw(FEED, HIDDEN),
            "mlp.down_proj": draw(HIDDEN, FEED),
        }
        weights |= {f"model.layers.{layer}.{name}.weight": t for name, t in tensors.items()}
    return weights


def _readable(tokenizer: Tokenizer) -> np.ndarray:
    """1 for tokens of a space and letters, which alone can win; 0 for all others."""
    texts = (tokenizer.id_to_token(i).removeprefix("Ġ") for i in range(tokenizer.get_vocab_size()))
    return np.array([text.isascii() and text.isalpha() for text in texts], np.float32)


def _write(path: Path, facts: dict[str, object]) -> None:
    path.write_text(json.dumps(facts, indent=1), encoding="utf-8")


def _write_safetensors(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """Eight bytes of length, a JSON header, then the numbers; here as bfloat16."""
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, tensor in tensors.items():
        # bfloat16 is the upper half of a float32.
        raw = (tensor.view(np.uint32) >> 16).astype(np.uint16).tobytes()
        header[name] = {
            "dtype": "BF16",
            "shape": list(tensor.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
