from __future__ import annotations

import json
from pathlib import Path

import pytest

from leadline.errors import SpecError
from leadline.models.tiny import make_tiny
from leadline.models.tiny_gguf import make_tiny_gguf
from leadline.models.unpack import gguf_name, unpack

# Heads that are not hidden / heads wide, as in the folders that vLLM needs on a CPU.
SIZES = {"window": 2 * 2**20, "layers": 2, "heads": 4, "kv_heads": 2, "head_dim": 32, "hidden": 64}


def test_unpacked_it_is_the_folder_of_the_same_options(tmp_path: Path) -> None:
    folder = make_tiny(tmp_path / "folder", "gqa", SIZES, "smollm2", seed=4)
    file = make_tiny_gguf(tmp_path / "x.gguf", "gqa", SIZES, "smollm2", seed=4)
    unpacked = unpack(str(file), tmp_path / "unpacked")
    assert weights(unpacked) == weights(folder)
    assert (unpacked / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()
    ours, theirs = (json.loads((each / "config.json").read_bytes()) for each in (folder, unpacked))
    assert {name: ours[name] for name in theirs} == theirs


def weights(folder: Path) -> dict[str, tuple[list[int], bytes]]:
    content = (folder / "model.safetensors").read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    head = json.loads(content[8:start])
    del head["__metadata__"]
    found = {}
    for name, facts in head.items():
        begin, end = (start + offset for offset in facts["data_offsets"])
        found[name] = (facts["shape"], content[begin:end])
    return found


@pytest.mark.parametrize(
    ("shape", "tokenizer", "where"), [("swa", "smollm2", "x.gguf"), ("gqa", ".", "--tokenizer")]
)
def test_what_it_cannot_hold_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: str, tokenizer: str, where: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError) as refusal:
        make_tiny_gguf(Path("x.gguf"), shape, SIZES, tokenizer, seed=4)
    assert refusal.value.where == where
    assert list(tmp_path.iterdir()) == []


def test_names_are_those_of_llama_cpp() -> None:
    assert gguf_name("model.layers.12.self_attn.o_proj.weight") == "blk.12.attn_output.weight"
    assert gguf_name("model.norm.weight") == "output_norm.weight"
