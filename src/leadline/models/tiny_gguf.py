"""The small random Llama as one GGUF file, with the very numbers of its model folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, GGUFWriter
from numpy.typing import NDArray

from leadline.catalog.assets import asset_names, asset_path
from leadline.errors import SpecError
from leadline.models.readable import draw_model, find_words
from leadline.models.shapes import SHAPES, Size, Tensor, check_size
from leadline.models.tokenizer_files import read_gguf_fields, special_ids
from leadline.models.unpack import gguf_name, permute
from leadline.models.weights import to_bf16

_SHAPE = "gqa"


def make_tiny_gguf(out: Path, shape: str, sizes: dict[str, int], tokenizer: str, seed: int) -> Path:
    """Raises ``SpecError`` for another shape than ``gqa`` and a tokenizer not from a GGUF."""
    if shape != _SHAPE:
        raise SpecError(
            f"the shape {shape} is written as a folder only",
            where=str(out),
            cure=f"use --shape {_SHAPE}, or name a folder",
        )
    if tokenizer not in asset_names("models"):
        raise SpecError(
            "a GGUF takes its tokenizer from another GGUF",
            where="--tokenizer",
            cure=f"use one of {', '.join(asset_names('models'))}",
        )
    if out.exists():
        raise SpecError("it is there already", where=str(out), cure="remove it, or name another")
    fields = read_gguf_fields(GGUFReader(asset_path("models", tokenizer)))
    size = Size(vocabulary=len(fields["tokenizer.ggml.tokens"]), **sizes)
    check_size(shape, size)
    partial = out.with_name(f".{out.name}.new")
    try:
        _write(partial, size, fields, seed)
        partial.rename(out)
    except OSError as error:
        raise SpecError(
            f"cannot be written: {error.strerror}", where=str(out), cure="name another file"
        ) from error
    return out


def _write(file: Path, size: Size, fields: Mapping[str, Any], seed: int) -> None:
    writer = GGUFWriter(file, "llama")
    _add_sizes(writer, size)
    _add_tokenizer(writer, fields)
    tokens = fields["tokenizer.ggml.tokens"]
    words = find_words({token: number for number, token in enumerate(tokens)})
    for tensor, values in draw_model(SHAPES[_SHAPE].tensors(size), seed, words):
        writer.add_tensor(gguf_name(tensor.name), _values(tensor, values, size))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_sizes(writer: GGUFWriter, size: Size) -> None:
    config = SHAPES[_SHAPE].config(size)
    writer.add_context_length(size.window)
    writer.add_embedding_length(size.hidden)
    writer.add_block_count(size.layers)
    writer.add_feed_forward_length(size.intermediate)
    writer.add_head_count(size.heads)
    writer.add_head_count_kv(size.kv_heads)
    writer.add_key_length(size.head_dim)
    writer.add_value_length(size.head_dim)
    writer.add_rope_dimension_count(size.head_dim)
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(size.vocabulary)


def _add_tokenizer(writer: GGUFWriter, fields: Mapping[str, Any]) -> None:
    writer.add_tokenizer_model(fields["tokenizer.ggml.model"])
    writer.add_tokenizer_pre(fields["tokenizer.ggml.pre"])
    writer.add_token_list(fields["tokenizer.ggml.tokens"])
    writer.add_token_types(fields["tokenizer.ggml.token_type"])
    writer.add_token_merges(fields["tokenizer.ggml.merges"])
    writer.add_add_bos_token(bool(fields.get("tokenizer.ggml.add_bos_token", False)))
    specials = special_ids(fields)
    writer.add_bos_token_id(specials["bos_token_id"])
    writer.add_eos_token_id(specials["eos_token_id"])
    if (padding := specials.get("pad_token_id")) is not None:
        writer.add_pad_token_id(padding)
    if template := fields.get("tokenizer.chat_template"):
        writer.add_chat_template(template)


def _values(tensor: Tensor, drawn: NDArray[np.float32], size: Size) -> NDArray[np.float32]:
    """The folder's bf16 numbers, as float32: llama.cpp computes with these on any CPU."""
    rounded = (to_bf16(drawn).astype(np.uint32) << np.uint32(16)).view(np.float32)
    heads = {"q_proj": size.heads, "k_proj": size.kv_heads}.get(tensor.name.split(".")[-2])
    return permute(rounded, heads) if heads else rounded
