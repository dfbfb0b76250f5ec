"""Tokenizer files for a model folder: copied from another, or written exactly from a GGUF."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
from gguf import GGUFReader

from leadline.errors import SpecError

# llama.cpp's name of the splitter, and the same in the terms of `tokenizers`. Sources:
# llama.cpp src/llama-vocab.cpp, LLAMA_VOCAB_PRE_TYPE_SMOLLM (`\p{N}` first, then GPT-2's
# expression); HuggingFaceTB/SmolLM2 tokenizer.json.
_SPLITTERS: Mapping[str, list[dict[str, Any]]] = {
    "smollm": [{"type": "Digits", "individual_digits": True}],
    "gpt-2": [],
}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_CONTROL = 3  # gguf TokenType.CONTROL
_COPIED = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
_TEMPLATE = "chat_template.jinja"


def copy_tokenizer(source: Path, folder: Path, window: int) -> None:
    """The files of another model folder, with the window as their ``model_max_length``."""
    if not (source / "tokenizer.json").is_file():
        raise SpecError(
            "no tokenizer.json there",
            where=str(source),
            cure="give a model's folder, or smollm2",
        )
    for name in (*_COPIED, _TEMPLATE):
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    file = folder / "tokenizer_config.json"
    config = orjson.loads(file.read_bytes()) if file.is_file() else {}
    _write(file, {**config, "model_max_length": window})


def write_tokenizer(gguf: Mapping[str, Any], folder: Path, window: int) -> None:
    """``tokenizer.json`` and its config, with the ids that llama.cpp gives for any text."""
    _write(folder / "tokenizer.json", tokenizer_json(gguf))
    _write(folder / "tokenizer_config.json", _tokenizer_config(gguf, window))
    if template := gguf.get("tokenizer.chat_template"):
        (folder / _TEMPLATE).write_text(template, encoding="utf-8")


def tokenizer_json(gguf: Mapping[str, Any]) -> dict[str, Any]:
    """``SpecError`` for a tokenizer whose splitter is not known to the letter."""
    splitter = _SPLITTERS.get(gguf.get("tokenizer.ggml.pre", ""))
    if gguf.get("tokenizer.ggml.model") != "gpt2" or splitter is None:
        raise SpecError(
            f"the tokenizer {gguf.get('tokenizer.ggml.pre')!r} of this GGUF has no exact "
            "tokenizer.json here",
            where="tokenizer",
            cure="download the model's own tokenizer.json",
        )
    tokens = gguf["tokenizer.ggml.tokens"]
    kinds = gguf["tokenizer.ggml.token_type"]
    return bpe_tokenizer(
        tokens,
        [merge.split(" ", 1) for merge in gguf["tokenizer.ggml.merges"]],
        added=[_added(i, tokens[i]) for i, kind in enumerate(kinds) if kind == _CONTROL],
        splitter={"type": "Sequence", "pretokenizers": [*splitter, BYTES]},
    )


def bpe_tokenizer(
    tokens: Sequence[str],
    merges: Sequence[Sequence[str]],
    *,
    added: Sequence[Mapping[str, Any]],
    splitter: Mapping[str, Any],
) -> dict[str, Any]:
    """A ``tokenizer.json`` of byte-level BPE: a token's id is its place."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": splitter,
        "post_processor": None,
        "decoder": BYTES,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": merges,
        },
    }


def read_gguf_fields(reader: GGUFReader) -> dict[str, Any]:
    """Every key of the file's head with its value."""
    return {name: field.contents() for name, field in reader.fields.items()}


def special_ids(gguf: Mapping[str, Any]) -> dict[str, int]:
    """``bos_token_id``, ``eos_token_id`` and ``pad_token_id``, as far as the file has them."""
    names = {"bos": "bos", "eos": "eos", "pad": "padding"}
    found = {ours: gguf.get(f"tokenizer.ggml.{theirs}_token_id") for ours, theirs in names.items()}
    return {f"{ours}_token_id": number for ours, number in found.items() if number is not None}


def _tokenizer_config(gguf: Mapping[str, Any], window: int) -> dict[str, Any]:
    tokens = gguf["tokenizer.ggml.tokens"]
    special = {
        name.removesuffix("_id"): tokens[number] for name, number in special_ids(gguf).items()
    }
    unknown = gguf.get("tokenizer.ggml.unknown_token_id")
    return {
        # Any other class would rebuild the splitter from what it knows of its model.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": bool(gguf.get("tokenizer.ggml.add_bos_token", False)),
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        # SGLang's /tokenize fails on the default, which is larger than 64 bits.
        "model_max_length": window,
        **special,
        **({} if unknown is None else {"unk_token": tokens[unknown]}),
        "chat_template": gguf.get("tokenizer.chat_template"),
    }


def _added(number: int, content: str) -> dict[str, Any]:
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": number, "content": content, **plain, "special": True}


def _write(file: Path, content: Mapping[str, Any]) -> None:
    file.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))
