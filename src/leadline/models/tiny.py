"""Small random models: the shape and the window of a large one in a few megabytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from leadline.catalog.assets import asset_names, asset_path
from leadline.models.byte_tokenizer import write_byte_tokenizer
from leadline.models.folder import new_folder, write_config
from leadline.models.readable import draw_model, find_words
from leadline.models.shapes import SHAPES, Size, check_size
from leadline.models.tokenizer_files import copy_tokenizer, special_ids, write_tokenizer
from leadline.models.weights import save_weights, to_bf16

BYTES = "bytes"
_DEFAULT_SPECIALS = {"bos_token_id": 1, "eos_token_id": 2}


def make_tiny(out: Path, shape: str, sizes: dict[str, int], tokenizer: str, seed: int) -> Path:
    """A model folder: config, weights, and a tokenizer from a folder, a catalog name or ``bytes``.

    Its greedy answers are words, each another than the last, where the vocabulary has words.

    Equal arguments, equal bytes. Raises ``SpecError`` for sizes that do not fit together.
    """
    with new_folder(out) as folder:
        specials = _put_tokenizer(tokenizer, folder, sizes["window"])
        vocabulary = _vocabulary(folder)
        size = Size(vocabulary=1 + max(vocabulary.values()), **sizes)
        check_size(shape, size)
        write_config(folder, SHAPES[shape].config(size) | specials)
        drawn = draw_model(SHAPES[shape].tensors(size), seed, find_words(vocabulary))
        weights = {tensor.name: to_bf16(values) for tensor, values in drawn}
        save_weights(weights, folder / "model.safetensors")
    return out


def _put_tokenizer(tokenizer: str, folder: Path, window: int) -> dict[str, Any]:
    """Special ids of the tokenizer that now lies in the folder."""
    if tokenizer == BYTES:
        write_byte_tokenizer(folder, window)
        return {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    if tokenizer in asset_names("models"):
        from gguf import GGUFReader

        from leadline.models.tokenizer_files import read_gguf_fields

        fields = read_gguf_fields(GGUFReader(asset_path("models", tokenizer)))
        write_tokenizer(fields, folder, window)
        return special_ids(fields)
    copy_tokenizer(Path(tokenizer), folder, window)
    return _specials(Path(tokenizer))


def _vocabulary(folder: Path) -> dict[str, int]:
    facts = orjson.loads((folder / "tokenizer.json").read_bytes())
    added = {token["content"]: token["id"] for token in facts.get("added_tokens", ())}
    return {**facts["model"]["vocab"], **added}


def _specials(source: Path) -> dict[str, Any]:
    """Those that the other model's own config names."""
    file = source / "config.json"
    config = orjson.loads(file.read_bytes()) if file.is_file() else {}
    return {name: config.get(name, default) for name, default in _DEFAULT_SPECIALS.items()}
