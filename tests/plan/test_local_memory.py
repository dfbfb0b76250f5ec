from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from leadline.plan.gguf_header import GgufHeader
from leadline.plan.local_memory import plan_llamacpp

GIB = 2**30


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "tiny.gguf")


def write_gguf(path: Path, **facts: Any) -> Path:
    """The header of a model: 4 layers, 8 heads of 32, 2 of them with KV, trained for 8192."""
    shape = {"layers": 4, "heads": 8, "kv_heads": 2, "width": 256, "trained": 8192, **facts}
    writer = gguf.GGUFWriter(str(path), "llama")
    if shape["trained"]:
        writer.add_context_length(shape["trained"])
    writer.add_block_count(shape["layers"])
    writer.add_embedding_length(shape["width"])
    writer.add_head_count(shape["heads"])
    if shape["kv_heads"]:
        writer.add_head_count_kv(shape["kv_heads"])
    if "key_length" in shape:
        writer.add_key_length(shape["key_length"])
        writer.add_value_length(shape["value_length"])
    writer.add_tensor("weight", np.zeros(1000, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def kv_bytes(path: Path, settings: dict[str, Any]) -> int:
    _, kv = plan_llamacpp(path, settings, available_bytes=GIB).terms
    assert kv.name == "KV cache"
    return kv.size_bytes


@pytest.mark.parametrize(
    ("settings", "per_token"),
    [
        # 4 layers x 2 KV heads x 32 wide = 256 values for K and as many for V.
        ({}, 256 * 2 + 256 * 2),
        ({"cache_type_k": "f32"}, 256 * 4 + 256 * 2),
        # q8_0: 34 bytes for 32 values; q4_0: 18 for 32.
        ({"cache_type_k": "q8_0", "cache_type_v": "q8_0"}, 8 * 34 * 2),
        ({"cache_type_k": "q4_0", "cache_type_v": "f16"}, 8 * 18 + 256 * 2),
    ],
)
def test_the_kv_cache_is_layers_heads_widths_and_types(
    model: Path, settings: dict[str, Any], per_token: int
) -> None:
    assert kv_bytes(model, {**settings, "ctx_size": 1000}) == 1000 * per_token


def test_the_numbers_are_those_that_llama_cpp_prints(tmp_path: Path) -> None:
    """SmolLM2-135M: 30 layers, 9 heads of 64, 3 with KV; 8192 tokens take 180 MiB."""
    path = write_gguf(tmp_path / "smol.gguf", layers=30, heads=9, kv_heads=3, width=576)
    assert kv_bytes(path, {"ctx_size": 8192}) == 180 * 2**20


def test_without_kv_heads_every_head_has_one(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "mha.gguf", kv_heads=None)
    assert kv_bytes(path, {"ctx_size": 1}) == 4 * 8 * 32 * 2 * 2


def test_key_and_value_widths_of_their_own_are_honoured(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "wide.gguf", key_length=192, value_length=128)
    assert kv_bytes(path, {"ctx_size": 1}) == 4 * 2 * (192 + 128) * 2


def test_layers_with_other_numbers_of_heads_are_summed(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "mixed.gguf", kv_heads=[2, 2, 4, 8])
    assert kv_bytes(path, {"ctx_size": 1}) == (2 + 2 + 4 + 8) * 32 * 2 * 2


@pytest.mark.parametrize("settings", [{}, {"ctx_size": 0}])
def test_without_a_window_it_is_what_the_model_was_trained_for(
    model: Path, settings: dict[str, Any]
) -> None:
    plan = plan_llamacpp(model, settings, available_bytes=GIB)
    assert (plan.window_tokens, plan.trained_tokens) == (8192, 8192)
    assert plan.warnings == ()


def test_a_window_that_fits_is_said_to_fit(model: Path) -> None:
    plan = plan_llamacpp(model, {"ctx_size": 4096}, available_bytes=GIB)
    assert (plan.verdict, plan.reason, plan.remedy) == ("fits", "", "")
    weights, kv = plan.terms
    assert weights.size_bytes == model.stat().st_size
    assert kv.formula == "4096 tokens x 1024 B"
    assert plan.available_bytes == GIB


def test_what_needs_one_byte_too_many_is_infeasible_and_one_less_fits(model: Path) -> None:
    needed = model.stat().st_size + 4096 * 1024
    settings = {"ctx_size": 4096}
    assert plan_llamacpp(model, settings, available_bytes=needed).verdict == "fits"
    assert plan_llamacpp(model, settings, available_bytes=needed - 1).verdict == "infeasible"


def test_the_remedy_names_the_longest_window_that_fits(model: Path) -> None:
    available = model.stat().st_size + 5000 * 1024 + 7
    plan = plan_llamacpp(model, {"ctx_size": 1_048_576}, available_bytes=available)
    assert plan.verdict == "infeasible"
    assert plan.reason == ("weights and KV cache need 1 GiB, 4.89 MiB of memory are available")
    assert plan.remedy == (
        "lower ctx_size from 1,048,576 to at most 5,000, "
        "or choose a smaller cache_type_k and cache_type_v"
    )
    again = plan_llamacpp(model, {"ctx_size": 5000}, available_bytes=available)
    assert again.verdict == "fits"


def test_weights_alone_may_be_too_much(model: Path) -> None:
    plan = plan_llamacpp(model, {"ctx_size": 1000}, available_bytes=10)
    assert "to at most 0" in plan.remedy


def test_a_window_beyond_training_is_warned_of_but_allowed(model: Path) -> None:
    plan = plan_llamacpp(model, {"ctx_size": 16_384}, available_bytes=GIB)
    assert plan.verdict == "fits"
    assert plan.warnings == (
        (
            "the window of 16,384 exceeds the 8,192 tokens the model was trained on: it will run, "
            "and answers beyond that length are not to be expected"
        ),
    )


def test_a_missing_file_is_unknown(tmp_path: Path) -> None:
    plan = plan_llamacpp(tmp_path / "none.gguf", {})
    assert (plan.verdict, plan.terms) == ("unknown", ())
    assert plan.reason == f"{tmp_path}/none.gguf is not a readable GGUF file"


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a zip file", b"GGUF", b"x" * 1000])
def test_what_is_no_gguf_is_unknown(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    assert plan_llamacpp(path, {}).verdict == "unknown"


def test_a_download_cut_off_at_any_byte_of_its_header_is_unknown(
    model: Path, tmp_path: Path
) -> None:
    content = model.read_bytes()
    cut = tmp_path / "cut.gguf"
    for size in range(0, len(content) - 4000, 7):
        cut.write_bytes(content[:size])
        assert plan_llamacpp(cut, {}).verdict == "unknown"


def test_a_header_that_lacks_a_field_is_unknown_and_names_it(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "adapter.gguf", trained=None)
    plan = plan_llamacpp(path, {})
    assert plan.verdict == "unknown"
    assert plan.reason == f"{path} does not say llama.context_length"


def test_the_memory_of_this_machine_is_used_where_none_is_given(model: Path) -> None:
    plan = plan_llamacpp(model, {"ctx_size": 16})
    assert plan.available_bytes is not None
    assert plan.available_bytes > 10**7


def test_the_header_is_read_as_the_library_reads_it_less_the_vocabulary(tmp_path: Path) -> None:
    path = tmp_path / "with-words.gguf"
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_head_count_kv([2, 4, 8])
    writer.add_token_list([f"word {n}" for n in range(5000)])
    writer.add_token_types([1] * 5000)
    writer.add_block_count(3)
    writer.add_tensor("weight", np.arange(1000, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    ours, theirs = GgufHeader(str(path)), gguf.GGUFReader(str(path))
    vocabulary = {"tokenizer.ggml.tokens", "tokenizer.ggml.token_type"}
    assert list(ours.fields) == list(theirs.fields)
    assert {name for name, field in ours.fields.items() if not field.data} == vocabulary
    for name in set(ours.fields) - vocabulary:
        assert ours.fields[name].contents() == theirs.fields[name].contents()
    assert (ours.tensors[0].data == theirs.tensors[0].data).all()
