"""GGUF to safetensors: a small file written here, and the real model of the quickstart."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, quants
from numpy.typing import NDArray

from leadline.catalog.assets import asset_path
from leadline.errors import SpecError
from leadline.models.tokenizer_files import read_gguf_fields, tokenizer_json, write_tokenizer
from leadline.models.unpack import unpack, unpack_gguf, unpermute
from leadline.models.weights import to_bf16
from leadline.plan.architecture import load_model
from leadline.plan.weights import count_parameters
from leadline.prompts.corpus import load_corpus
from leadline.prompts.tokenizer import load_tokenizer

HEADS, KV_HEADS, HIDDEN = 4, 2, 64
TOKENS = ["<|end|>", "a", "b", "ab"]


def permute(weight: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """What llama.cpp's convert_hf_to_gguf.py does to the rows of queries and keys."""
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def write_gguf(path: Path, weights: dict[str, Any], *, architecture: str = "llama") -> Path:
    writer = GGUFWriter(path, architecture)
    writer.add_context_length(4096)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(1)
    writer.add_feed_forward_length(96)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(5000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 1, 1, 1])
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(0)
    for name, values in weights.items():
        if name.endswith("ffn_down.weight"):
            kind = GGMLQuantizationType.Q8_0
            writer.add_tensor(name, quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def weights() -> dict[str, NDArray[np.float32]]:
    """Under the names of transformers."""
    generator = np.random.default_rng(3)
    shapes = {
        "model.embed_tokens": (4, HIDDEN),
        "model.norm": (HIDDEN,),
        "model.layers.0.input_layernorm": (HIDDEN,),
        "model.layers.0.post_attention_layernorm": (HIDDEN,),
        "model.layers.0.self_attn.q_proj": (HIDDEN, HIDDEN),
        "model.layers.0.self_attn.k_proj": (HIDDEN // 2, HIDDEN),
        "model.layers.0.self_attn.v_proj": (HIDDEN // 2, HIDDEN),
        "model.layers.0.self_attn.o_proj": (HIDDEN, HIDDEN),
        "model.layers.0.mlp.gate_proj": (96, HIDDEN),
        "model.layers.0.mlp.up_proj": (96, HIDDEN),
        "model.layers.0.mlp.down_proj": (HIDDEN, 96),
    }
    return {
        f"{name}.weight": generator.standard_normal(shape, np.float32)
        for name, shape in shapes.items()
    }


def as_gguf(weights: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    theirs = dict(
        zip(
            (
                *("token_embd", "output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"),
                *("blk.0.attn_q", "blk.0.attn_k", "blk.0.attn_v", "blk.0.attn_output"),
                *("blk.0.ffn_gate", "blk.0.ffn_up", "blk.0.ffn_down"),
            ),
            weights.values(),
            strict=True,
        )
    )
    theirs["blk.0.attn_q"] = permute(theirs["blk.0.attn_q"], HEADS)
    theirs["blk.0.attn_k"] = permute(theirs["blk.0.attn_k"], KV_HEADS)
    return {f"{name}.weight": values for name, values in theirs.items()}


def stored(folder: Path) -> dict[str, NDArray[np.uint16]]:
    content = (folder / "model.safetensors").read_bytes()
    size = int.from_bytes(content[:8], "little")
    found = {}
    for name, facts in json.loads(content[8 : 8 + size]).items():
        if name != "__metadata__":
            start, end = (8 + size + offset for offset in facts["data_offsets"])
            found[name] = np.frombuffer(content[start:end], np.uint16).reshape(facts["shape"])
    return found


def test_every_tensor_comes_back_under_its_name_in_the_order_of_transformers(
    tmp_path: Path, weights: dict[str, NDArray[np.float32]]
) -> None:
    folder = unpack(str(write_gguf(tmp_path / "x.gguf", as_gguf(weights))), tmp_path / "out")
    found = stored(folder)
    assert found.keys() == weights.keys()
    for name, values in weights.items():
        expected = values
        if name.endswith("down_proj.weight"):
            kind = GGMLQuantizationType.Q8_0
            expected = quants.dequantize(quants.quantize(values, kind), kind)
        assert np.array_equal(found[name], to_bf16(expected)), name


def test_the_config_is_the_one_that_our_planner_counts_by(
    tmp_path: Path, weights: dict[str, NDArray[np.float32]]
) -> None:
    folder = unpack(str(write_gguf(tmp_path / "x.gguf", as_gguf(weights))), tmp_path / "out")
    config = json.loads((folder / "config.json").read_bytes())
    assert (config["rms_norm_eps"], config["rope_theta"]) == (1e-5, 5000.0)
    assert (config["head_dim"], config["tie_word_embeddings"]) == (16, True)
    assert config["eos_token_id"] == 0
    assert count_parameters(load_model(folder)) == sum(each.size for each in weights.values())


def test_unpermute_is_the_inverse_of_what_llama_cpp_does() -> None:
    rows = np.arange(32, dtype=np.float32).reshape(32, 1)
    assert np.array_equal(unpermute(permute(rows, 2), 2), rows)
    assert permute(rows, 2)[:4, 0].tolist() == [0, 8, 1, 9]


def test_another_architecture_is_refused(
    tmp_path: Path, weights: dict[str, NDArray[np.float32]]
) -> None:
    path = write_gguf(tmp_path / "x.gguf", as_gguf(weights), architecture="gemma")
    with pytest.raises(SpecError, match="its architecture is gemma"):
        unpack(str(path), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"no gguf at all"])
def test_what_is_no_gguf_is_said(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.gguf").write_bytes(content)
    with pytest.raises(SpecError, match="not a GGUF"):
        unpack(str(tmp_path / "x.gguf"), tmp_path / "out")
    with pytest.raises(SpecError, match="not a GGUF"):
        unpack(str(tmp_path / "none"), tmp_path / "out")


def test_a_splitter_that_is_not_known_to_the_letter_is_refused() -> None:
    with pytest.raises(SpecError, match="'llama-bpe'"):
        tokenizer_json({"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "llama-bpe"})


# --- the real model -------------------------------------------------------------------------

# The ids are those of llama.cpp's own /tokenize for the GGUF (xllamacpp 2026.10.11549).
IDS = json.loads((Path(__file__).parent / "data" / "smollm2_ids.json").read_text("utf-8"))
NUMBERED_TEXT = (52220, "8098d72df3b1540c9657a8313c6716b2909b0a1216f6f066ca0d12973d66c86e")


@pytest.fixture(scope="module")
def fields() -> dict[str, Any]:
    return read_gguf_fields(GGUFReader(asset_path("models", "smollm2")))


@pytest.mark.parametrize("text", IDS)
def test_the_tokenizer_gives_the_ids_of_llama_cpp(
    tmp_path: Path, fields: dict[str, Any], text: str
) -> None:
    write_tokenizer(fields, tmp_path, 8192)
    assert load_tokenizer(str(tmp_path)).encode(text) == IDS[text]


def test_the_ids_of_a_long_text_with_numbers_are_those_of_llama_cpp(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    write_tokenizer(fields, tmp_path, 8192)
    lines = load_corpus("kjv").text[:200_000].splitlines()
    text = "\n".join(f"{number} {line}" for number, line in enumerate(lines))
    ids = load_tokenizer(str(tmp_path)).encode(text)
    digest = hashlib.sha256(np.asarray(ids, "<u4").tobytes()).hexdigest()
    assert (len(ids), digest) == NUMBERED_TEXT


def test_the_tokenizer_config_says_what_servers_add_and_how_long_a_prompt_may_be(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    write_tokenizer(fields, tmp_path, 2_097_152)
    config = json.loads((tmp_path / "tokenizer_config.json").read_bytes())
    assert config["model_max_length"] == 2_097_152
    assert config["add_bos_token"] is False
    assert (config["bos_token"], config["eos_token"]) == ("<|im_start|>", "<|im_end|>")
    assert config["chat_template"] == (tmp_path / "chat_template.jinja").read_text("utf-8")


def test_one_file_of_bf16_holds_the_numbers_of_the_folder(
    tmp_path: Path, weights: dict[str, NDArray[np.float32]]
) -> None:
    source = str(write_gguf(tmp_path / "x.gguf", as_gguf(weights)))
    folder = unpack(source, tmp_path / "folder")
    file = unpack_gguf(source, tmp_path / "out.gguf")
    again = unpack(str(file), tmp_path / "again")
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (again / name).read_bytes() == (folder / name).read_bytes(), name
    kinds = {tensor.tensor_type for tensor in GGUFReader(file).tensors if tensor.data.ndim > 1}
    assert kinds == {GGMLQuantizationType.BF16}
