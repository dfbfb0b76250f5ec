"""A GGUF of the Llama architecture as a folder of bf16 safetensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gguf import (
    GGMLQuantizationType,
    GGUFReader,
    GGUFWriter,
    LlamaFileType,
    dequantize,
    quantize,
)
from numpy.typing import NDArray

from leadline.catalog.assets import asset_names, asset_path
from leadline.errors import SpecError
from leadline.models.folder import new_folder, write_config
from leadline.models.tokenizer_files import read_gguf_fields, special_ids, write_tokenizer
from leadline.models.weights import Bf16, save_weights, to_bf16

# gguf's names and those of transformers (gguf-py, tensor_mapping.py).
_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_REPLACED = ("general.architecture", "general.file_type", "general.quantization_version")
_LAYER = re.compile(r"blk\.(?P<layer>\d+)\.(?P<name>\w+)\.weight")


def unpack(source: str, out: Path) -> Path:
    """Config, weights and exact tokenizer of a catalog model or a GGUF file, as a folder.

    Raises ``SpecError`` for another architecture than Llama.
    """
    path = asset_path("models", source) if source in asset_names("models") else Path(source)
    reader = _open(path)
    fields = read_gguf_fields(reader)
    if fields["general.architecture"] != "llama":
        raise SpecError(
            f"its architecture is {fields['general.architecture']}",
            where=str(path),
            cure="give a GGUF of the Llama architecture",
        )
    with new_folder(out) as folder:
        weights = _read_weights(reader, fields)
        config = _config(fields, tied="lm_head.weight" not in weights)
        write_config(folder, config)
        write_tokenizer(fields, folder, config["max_position_embeddings"])
        save_weights(weights, folder / "model.safetensors")
    return out


def unpack_gguf(source: str, out: Path) -> Path:
    """The same numbers as ``unpack`` writes, as one GGUF of bf16 for llama.cpp; norms are float32,
    as llama.cpp wants them.
    """
    path = asset_path("models", source) if source in asset_names("models") else Path(source)
    reader = _open(path)
    if out.exists():
        raise SpecError("it is there already", where=str(out), cure="remove it, or name another")
    partial = out.with_name(f".{out.name}.new")
    writer = GGUFWriter(partial, str(reader.fields["general.architecture"].contents()))
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name not in _REPLACED:
            kind, *inner = field.types
            writer.add_key_value(name, field.contents(), kind, inner[-1] if inner else None)
    writer.add_file_type(LlamaFileType.MOSTLY_BF16)
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if values.ndim == 1:
            writer.add_tensor(tensor.name, values)
        else:
            kept = quantize(values, GGMLQuantizationType.BF16)
            writer.add_tensor(tensor.name, kept, raw_dtype=GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.rename(out)
    return out


def unpermute(weight: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """From llama.cpp's order of a head's rows (pairs side by side) to that of transformers.

    The inverse of ``LlamaModel.permute`` in llama.cpp's convert_hf_to_gguf.py.
    """
    rows, columns = weight.shape
    pairs = weight.reshape(heads, rows // heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)


def permute(weight: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """The inverse of ``unpermute``."""
    rows, columns = weight.shape
    halves = weight.reshape(heads, 2, rows // heads // 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns)


def gguf_name(ours: str) -> str:
    """``model.layers.0.self_attn.q_proj.weight`` as ``blk.0.attn_q.weight``."""
    for theirs, name in _NAMES.items():
        if ours == f"{name}.weight":
            return f"{theirs}.weight"
    _, _, layer, rest = ours.split(".", 3)
    names = {name: theirs for theirs, name in _LAYER_NAMES.items()}
    return f"blk.{layer}.{names[rest.removesuffix('.weight')]}.weight"


def _open(path: Path) -> GGUFReader:
    try:
        return GGUFReader(path)
    except (OSError, ValueError) as error:
        raise SpecError(
            f"not a GGUF: {error}", where=str(path), cure="give a catalog name or a GGUF file"
        ) from error


def _read_weights(reader: GGUFReader, fields: Mapping[str, Any]) -> dict[str, Bf16]:
    heads = {
        "attn_q": fields["llama.attention.head_count"],
        "attn_k": fields["llama.attention.head_count_kv"],
    }
    weights = {}
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        kind = tensor.name.split(".")[-2]
        ordered = unpermute(values, heads[kind]) if kind in heads else values
        weights[_name(tensor.name)] = to_bf16(ordered)
    return weights


def _name(theirs: str) -> str:
    if match := _LAYER.fullmatch(theirs):
        return f"model.layers.{match['layer']}.{_LAYER_NAMES[match['name']]}.weight"
    return f"{_NAMES[theirs.removesuffix('.weight')]}.weight"


def _config(fields: Mapping[str, Any], *, tied: bool) -> dict[str, Any]:
    hidden = fields["llama.embedding_length"]
    heads = fields["llama.attention.head_count"]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": len(fields["tokenizer.ggml.tokens"]),
        "hidden_size": hidden,
        "intermediate_size": fields["llama.feed_forward_length"],
        "num_hidden_layers": fields["llama.block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": fields["llama.attention.head_count_kv"],
        "head_dim": fields.get("llama.attention.key_length", hidden // heads),
        "max_position_embeddings": fields["llama.context_length"],
        "rope_theta": fields["llama.rope.freq_base"],
        # A float32 in the file: 9.999999747378752e-06 is 1e-05.
        "rms_norm_eps": float(str(np.float32(fields["llama.attention.layer_norm_rms_epsilon"]))),
        "hidden_act": "silu",
        "tie_word_embeddings": tied,
        "attention_bias": False,
        "mlp_bias": False,
        "torch_dtype": "bfloat16",
        **special_ids(fields),
    }
