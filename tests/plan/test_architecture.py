from __future__ import annotations

import json
from pathlib import Path

import pytest

from leadline.catalog import hub
from leadline.catalog.reading import model_names, read_config
from leadline.errors import PlanError
from leadline.plan.architecture import load_model, read_model
from leadline.plan.weights import count_active_parameters, count_parameters

# Sum of the shapes in the safetensors headers, as the hub shows it for each checkpoint.
PARAMETERS = {
    "meta-llama/Llama-3.1-8B-Instruct": 8_030_261_248,
    "meta-llama/Llama-3.3-70B-Instruct": 70_553_706_496,
    "meta-llama/Meta-Llama-3.1-405B": 405_853_388_800,
    "meta-llama/Llama-4-Scout-17B-16E-Instruct": 108_641_793_536,
    "meta-llama/Llama-4-Maverick-17B-128E-Instruct": 401_583_781_376,
    "Qwen/Qwen2.5-7B-Instruct": 7_615_616_512,
    "Qwen/Qwen2.5-72B-Instruct": 72_706_203_648,
    "Qwen/Qwen3-0.6B": 596_049_920,
    "Qwen/Qwen3-14B": 14_768_307_200,
    "Qwen/Qwen3-32B": 32_762_123_264,
    "Qwen/Qwen3-30B-A3B": 30_532_122_624,
    "Qwen/Qwen3-235B-A22B": 235_093_634_560,
    "Qwen/Qwen1.5-MoE-A2.7B": 14_315_784_192,
    "mistralai/Mixtral-8x7B-v0.1": 46_702_792_704,
    "mistralai/Mistral-Small-3.2-24B-Instruct-2506": 24_011_361_280,
    "deepseek-ai/DeepSeek-V2-Lite-Chat": 15_706_484_224,
    "google/gemma-7b": 8_537_680_896,
    "google/gemma-2-2b-it": 2_614_341_888,
    "google/gemma-2-27b-it": 27_227_128_320,
    "google/gemma-3-12b-it": 12_187_325_040,
    "google/gemma-3-27b-it": 27_432_406_640,
    "microsoft/phi-2": 2_779_683_840,
    "microsoft/phi-4": 14_659_507_200,
    "codellama/CodeLlama-7b-hf": 6_738_546_688,
    "Qwen/Qwen3-VL-2B-Instruct": 2_127_532_032,
    "Qwen/Qwen3-VL-8B-Instruct": 8_767_123_696,
    "Qwen/Qwen3-VL-30B-A3B-Instruct": 31_070_754_032,
    "openai/gpt-oss-20b": 20_914_757_184,
    "openai/gpt-oss-120b": 116_829_156_672,
}


@pytest.mark.parametrize(("name", "parameters"), PARAMETERS.items())
def test_parameters_are_exact(name: str, parameters: int) -> None:
    assert count_parameters(load_model(name)) == parameters


@pytest.mark.parametrize("name", model_names())
def test_every_catalog_model_reads_and_names_its_source(name: str) -> None:
    model = load_model(name)
    assert "huggingface.co" in model.source
    assert 0 < count_active_parameters(model) <= count_parameters(model)
    assert all(layer.attention.heads % layer.attention.kv_heads == 0 for layer in model.layers)


def test_scout_has_12_global_and_36_chunked_layers_all_sparse() -> None:
    scout = load_model("Llama-4-Scout-17B-16E-Instruct")
    kinds = [reach.kind for reach in scout.reaches]
    assert kinds == ["chunked", "chunked", "chunked", "full"] * 12
    assert {reach.tokens for reach in scout.reaches} == {8192, 0}
    assert all(layer.feed_forward.experts == 16 for layer in scout.layers)
    assert (scout.heads, scout.kv_heads, scout.max_position) == (40, 8, 10_485_760)


def test_maverick_alternates_dense_and_sparse_layers() -> None:
    maverick = load_model("Llama-4-Maverick-17B-128E-Instruct")
    assert [layer.feed_forward.experts for layer in maverick.layers] == [0, 128] * 24
    assert maverick.layers[0].feed_forward.intermediate == 16384


def test_gemma_3_has_one_full_layer_in_six() -> None:
    kinds = [reach.kind for reach in load_model("google/gemma-3-12b-it").reaches]
    assert kinds == (["sliding"] * 5 + ["full"]) * 8


def test_deepseek_keeps_one_latent_vector_and_one_dense_layer() -> None:
    lite = load_model("deepseek-ai/DeepSeek-V2-Lite-Chat")
    assert lite.is_mla
    assert (lite.kv_heads, lite.layers[0].attention.cached_elements) == (1, 576)
    assert [layer.feed_forward.experts for layer in lite.layers] == [0] + [64] * 26


def test_qwen_windows_count_only_when_used() -> None:
    config = dict(read_config("Qwen/Qwen2.5-7B-Instruct"))
    config |= {"sliding_window": 4096, "max_window_layers": 20}
    assert {r.kind for r in read_model(config, name="x", source="x").reaches} == {"full"}
    config |= {"use_sliding_window": True}
    kinds = [r.kind for r in read_model(config, name="x", source="x").reaches]
    assert kinds == ["full"] * 20 + ["sliding"] * 8


def test_layer_types_win_over_the_family_rule() -> None:
    config = dict(read_config("google/gemma-2-2b-it"))
    config["layer_types"] = ["full_attention"] * 26
    assert {r.kind for r in read_model(config, name="x", source="x").reaches} == {"full"}


def test_a_folder_and_a_file_are_read(tmp_path: Path) -> None:
    config = {k: v for k, v in read_config("Qwen/Qwen3-0.6B").items() if not k.startswith("_")}
    (tmp_path / "config.json").write_text(json.dumps(config))
    for place in (tmp_path, tmp_path / "config.json", str(tmp_path)):
        assert count_parameters(load_model(place)) == PARAMETERS["Qwen/Qwen3-0.6B"]


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": "frobnicator"}, "does not know"),
        ({"model_type": "refused"}, "does not know"),
        ({}, "does not know"),
        ({"model_type": "nemotron_h"}, "Mamba"),
        ({"model_type": "deepseek_v4"}, "sparse attention"),
    ],
)
def test_unknown_architectures_are_refused(config: dict[str, str], reason: str) -> None:
    with pytest.raises(PlanError, match=reason) as refused:
        read_model(config, name="m", source="s")
    assert refused.value.cure


def test_unknown_layer_kind_quantisation_and_encoder_are_refused() -> None:
    base = dict(read_config("Qwen/Qwen3-0.6B"))
    changes = (
        {"layer_types": ["linear_attention"] * 28},
        {"quantization_config": {"quant_method": "mystery"}},
        {"vision_config": {"model_type": "mystery"}},
    )
    for change in changes:
        with pytest.raises(PlanError, match="know"):
            read_model(base | change, name="m", source="s")


def test_an_unknown_name_is_refused_with_the_catalog() -> None:
    with pytest.raises(PlanError, match="'nope' is neither") as refused:
        load_model("nope")
    assert "Llama-4-Scout" in refused.value.cure


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("moonshotai/Kimi-VL-A3B-Instruct", 16.408),
        ("MiniMaxAI/MiniMax-M2.5", 228.69),
        ("zai-org/GLM-4.5-Air", 106.85),
        ("ibm-granite/granite-vision-3.3-2b", 2.96),
    ],
)
def test_parameters_are_close_where_only_the_size_is_published(name: str, billions: float) -> None:
    assert count_parameters(load_model(name)) / 1e9 == pytest.approx(billions, rel=0.01)


def test_rope_tables_follow_the_scaling() -> None:
    positions = {
        name: load_model(name).rope.positions
        for name in ("Llama-3.1-8B-Instruct", "gemma-3-12b-it", "DeepSeek-V2-Lite-Chat")
    }
    assert positions == {
        "Llama-3.1-8B-Instruct": (131_072,),
        "gemma-3-12b-it": (1_048_576, 131_072),
        "DeepSeek-V2-Lite-Chat": (163_840,),
    }


def test_the_local_hub_cache_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {k: v for k, v in read_config("Qwen/Qwen3-0.6B").items() if not k.startswith("_")}
    folder = tmp_path / "hub" / "models--acme--tuned" / "snapshots" / "abc"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setattr(hub, "can_reach_hub", lambda: False)
    assert count_parameters(load_model("acme/tuned")) == PARAMETERS["Qwen/Qwen3-0.6B"]
    with pytest.raises(PlanError, match="cannot be reached"):
        load_model("acme/other")
