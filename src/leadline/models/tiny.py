"""Small random models: the shape and the window of a large one in a few megabytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from leadline.catalog.assets import asset_names, asset_path
from leadline.models.folder import new_folder, write_config
from leadline.models.shapes import SHAPES, Size, check_size
from leadline.models.tokenizer_files import copy_tokenizer, special_ids, write_tokenizer
from leadline.models.weights import draw, save_weights, to_bf16

_DEFAULT_SPECIALS = {"bos_token_id": 1, "eos_token_id": 2}


def make_tiny(out: Path, shape: str, sizes: dict[str, int], tokenizer: str, seed: int) -> Path:
    """A model folder: config, weights, and a real tokenizer from a folder or a catalog name.

    Equal arguments, equal bytes. Raises ``SpecError`` for sizes that do not fit together.
    """
    with new_folder(out) as folder:
        vocabulary, specials = _put_tokenizer(tokenizer, folder, sizes["window"])
        size = Size(vocabulary=vocabulary, **sizes)
        check_size(shape, size)
        write_config(folder, SHAPES[shape].config(size) | specials)
        tensors = SHAPES[shape].tensors(size)
        weights = {tensor.name: to_bf16(draw(tensor, seed)) for tensor in tensors}
        save_weights(weights, folder / "model.safetensors")
    return out


def _put_tokenizer(tokenizer: str, folder: Path, window: int) -> tuple[int, dict[str, Any]]:
    """Vocabulary size and special ids of the tokenizer that now lies in the folder."""
    if tokenizer in asset_names("models"):
        from gguf import GGUFReader

        from leadline.models.tokenizer_files import read_gguf_fields

        fields = read_gguf_fields(GGUFReader(asset_path("models", tokenizer)))
        write_tokenizer(fields, folder, window)
        return len(fields["tokenizer.ggml.tokens"]), special_ids(fields)
    copy_tokenizer(Path(tokenizer), folder, window)
    return _vocabulary(folder), _specials(Path(tokenizer))


def _vocabulary(folder: Path) -> int:
    facts = orjson.loads((folder / "tokenizer.json").read_bytes())
    added = [token["id"] for token in facts.get("added_tokens", ())]
    return 1 + int(max(*facts["model"]["vocab"].values(), *added, 0))


def _specials(source: Path) -> dict[str, Any]:
    """Those that the other model's own config names."""
    file = source / "config.json"
    config = orjson.loads(file.read_bytes()) if file.is_file() else {}
    return {name: config.get(name, default) for name, default in _DEFAULT_SPECIALS.items()}
