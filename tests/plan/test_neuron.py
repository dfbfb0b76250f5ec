from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadline.errors import PlanError
from leadline.plan.architecture import load_model
from leadline.plan.deployment import plan_deployment
from leadline.plan.hardware import parse_hardware
from leadline.plan.neuron_memory import count_core_heads, count_token_bytes, split_cores
from leadline.plan.neuron_rules import find_neuron_release, find_rule, list_rules
from leadline.plan.schema import Plan

LLAMA = "meta-llama/Llama-3.3-70B-Instruct"
KERNEL = "attn_tkg_nki_kernel_enabled"
CACHED = {"block_size": 32, "enable_prefix_caching": True}


def plan_llama(tokens: int, seqs: int = 1, **options: Any) -> Plan:
    """Llama-3.3-70B on 64 logical cores, without prefix caching unless asked for."""
    settings = {
        "tensor_parallel_size": 64,
        "max_num_seqs": seqs,
        "enable_prefix_caching": False,
        "additional_config": {
            "override_neuron_config": options.get("override", {}),
            **options.get("additional", {}),
        },
    }
    return plan_deployment(
        options.get("model", LLAMA),
        options.get("hardware", "trn2.48xlarge"),
        options.get("engine", "neuron==0.4.1"),
        settings=settings | options.get("settings", {}),
        env=options.get("env"),
        max_model_len=tokens,
        input_tokens=options.get("input_tokens"),
    )


def cached(blocks: int, block: int = 32) -> dict[str, Any]:
    return CACHED | {"num_gpu_blocks_override": blocks, "block_size": block}


@pytest.mark.parametrize(
    ("tokens", "seqs", "blocks", "block", "kv_gib"),
    [
        (8192, 4, 2048, 32, 2.5),
        (16384, 4, 4096, 32, 5.0),
        (16384, 2, 1024, 64, 2.5),
        (32768, 4, 8192, 32, 10.0),
    ],
)
def test_kv_blocks_of_one_core(
    *, tokens: int, seqs: int, blocks: int, block: int, kv_gib: float
) -> None:
    plan = plan_llama(tokens, seqs, settings=cached(blocks, block))
    assert plan.kv.bytes_per_token_per_gpu == 40_960
    assert plan.kv.available_gib == kv_gib
    assert plan.kv.blocks == blocks
    assert plan.memory.device_gib == 24
    assert plan.gpus == 64


@pytest.mark.parametrize(("cores", "weights_gib"), [(64, 2.33), (32, 4.34), (16, 8.37)])
def test_weights_with_copied_kv_projections(cores: int, weights_gib: float) -> None:
    plan = plan_llama(16384, settings={"tensor_parallel_size": cores})
    assert plan.memory.weights_gib == pytest.approx(weights_gib, abs=0.01)
    assert plan.kv.bytes_per_token_per_gpu == 40_960
    copies = cores // 8
    assert any(f"stored {copies} times" in warning for warning in plan.warnings)


@given(heads=st.integers(1, 128), kv_heads=st.integers(1, 128), cores=st.integers(1, 128))
def test_every_core_keeps_the_heads_it_needs(*, heads: int, kv_heads: int, cores: int) -> None:
    attention = replace(
        load_model(LLAMA).layers[0].attention, heads=max(heads, kv_heads), kv_heads=kv_heads
    )
    kept = count_core_heads(attention, cores)
    assert kept * cores >= kv_heads
    assert kept >= 1


CARD = [256, 512, 1024, 2048, 4096, 8192, 16384]
BLOCK_KERNEL = {"attn_block_tkg_nki_kernel_enabled": True, "qkv_kernel_enabled": True}


@pytest.mark.parametrize(
    ("tokens", "seqs", "cores", "blocks", "override"),
    [
        (16_384, 1, 64, 0,
         {KERNEL: True, "context_encoding_buckets": CARD, "token_generation_buckets": CARD}),
        (16_384, 8, 32, 0,
         {KERNEL: True, "context_encoding_buckets": CARD, "token_generation_buckets": CARD}),
        (8192, 4, 64, 2048,
         BLOCK_KERNEL | {"context_encoding_buckets": CARD[1:6], "prefix_buckets": CARD[1:4],
                         "token_generation_buckets": CARD[1:6]}),
    ],
)  # fmt: skip
def test_the_recipes_of_the_aws_documentation_fit(
    *, tokens: int, seqs: int, cores: int, blocks: int, override: dict[str, Any]
) -> None:
    """Two of the Llama-3.3-70B model card, one of the prefix caching tutorial (SDK 2.28)."""
    settings = {"tensor_parallel_size": cores} | (cached(blocks) if blocks else {})
    plan = plan_llama(tokens, seqs, settings=settings, override=override)
    assert plan.verdict == f"fits({seqs})"


def test_weights_alone_without_the_copies() -> None:
    """70.6 B parameters of 2 bytes over 64 cores; the copied KV projections are the rest."""
    plan = plan_llama(16384)
    alone_gib = 2 * plan.parameters / 64 / 2**30
    assert alone_gib == pytest.approx(2.05, abs=0.01)
    copies_gib = 7 * 2 * 80 * 8192 * 8 * 128 * 2 / 64 / 2**30
    assert plan.memory.weights_gib == pytest.approx(alone_gib + copies_gib, abs=0.005)


def test_sbuf_row_and_the_length_it_allows() -> None:
    assert parse_hardware("trn2.48xlarge").device.sbuf_bytes_per_partition == 229_376
    plan = plan_llama(131_072, override={KERNEL: True})
    assert plan.verdict == "compile_fail"
    assert plan.binding is not None
    assert "256 KiB of the 224 KiB" in plan.binding.reason
    assert (plan.binding.flag, plan.binding.direction) == ("max_model_len", "lower")
    assert plan.binding.amount.startswith("114688 ")
    assert plan.limits.max_startable_len == 114_688


@pytest.mark.parametrize(
    ("hardware", "tokens", "verdict"),
    [("trn2.48xlarge", 131_072, "compile_fail"), ("64xtrn3-core", 131_072, "fits(1)")],
)
def test_partitions_of_256_kib_hold_128k(hardware: str, tokens: int, verdict: str) -> None:
    assert plan_llama(tokens, hardware=hardware, override={KERNEL: True}).verdict == verdict


@pytest.mark.parametrize(("seqs", "fails"), [(1, False), (2, True), (3, False), (4, True)])
def test_the_first_bucket_and_the_batch(seqs: int, *, fails: bool) -> None:
    plan = plan_llama(65_536, seqs, override={KERNEL: True})
    assert (plan.verdict == "compile_fail") is fails
    if plan.binding is not None:
        lists = json.loads(plan.binding.amount.partition("]")[0] + "]")
        assert plan.binding.flag == "token_generation_buckets"
        assert (lists[0], lists[-1]) == (256, 65_536)
        cured = plan_llama(65_536, seqs, override={KERNEL: True, "token_generation_buckets": lists})
        assert cured.verdict == f"fits({seqs})"


def test_a_newer_kernel_works_in_tiles() -> None:
    plan = plan_llama(131_072, 2, engine="neuron==0.5.0", override={KERNEL: True})
    assert plan.verdict == "fits(2)"
    grid = plan_llama(131_072, engine="neuron==0.5.0", settings=cached(4096))
    assert "prefix_buckets" in {finding.flag for finding in grid.findings}


@pytest.mark.parametrize(
    ("tokens", "seqs", "options", "code", "flag"),
    [
        (8192, 1, {"settings": {"enable_prefix_caching": True}}, "start_fail", "block_size"),
        (8192, 4, {"settings": cached(1023)}, "start_fail", "num_gpu_blocks_override"),
        (10_000, 4, {"settings": CACHED}, "start_fail", "num_gpu_blocks_override"),
        (8192, 1, {"settings": CACHED, "override": {"pa_num_blocks": 4096}},
         "start_fail", "num_gpu_blocks_override"),
        (8192, 1, {"settings": cached(256), "override": {"pa_num_blocks": 512}},
         "start_fail", "num_gpu_blocks_override"),
        (8192, 1, {"settings": cached(256), "override": {"context_encoding_buckets": [8192]}},
         "bucket_missing", "prefix_buckets"),
        (8192, 1, {"settings": cached(256), "override": {"k_cache_transposed": True}},
         "start_fail", "k_cache_transposed"),
        (8192, 1, {"settings": cached(256), "override": {"is_prefix_caching": False}},
         "start_fail", "is_prefix_caching"),
        (8192, 1, {"override": {KERNEL: True, "attn_tkg_builtin_kernel_enabled": True}},
         "start_fail", "attn_tkg_builtin_kernel_enabled"),
        (8192, 1, {"override": {"attn_block_tkg_nki_kernel_enabled": True}},
         "start_fail", "qkv_kernel_enabled"),
        (8192, 1, {"override": {"sequence_parallel_enabled": True,
                                "context_encoding_buckets": [100, 8192]}},
         "start_fail", "context_encoding_buckets"),
        (8192, 1, {"override": {"token_generation_buckets": [16384]}},
         "start_fail", "token_generation_buckets"),
        (8192, 1, {"override": {"context_encoding_buckets": [4096]}},
         "bucket_missing", "context_encoding_buckets"),
        (8192, 129, {"override": {KERNEL: True}}, "compile_fail", "max_num_seqs"),
        (8192, 1, {"settings": {"tensor_parallel_size": 128}},
         "invalid_parallelism", "tensor_parallel_size"),
        (262_144, 1, {}, "exceeds_trained_context", "max_model_len"),
        (65_536, 16, {}, "start_fail", "max_num_seqs"),
        (8192, 4, {"settings": cached(20_000)}, "start_fail", "num_gpu_blocks_override"),
        (16_384, 4, {"settings": cached(2048)},
         "risk_oom_outside_budget", "override_neuron_config"),
        (8192, 1, {"input_tokens": 9000}, "request_too_long", "max_model_len"),
        (8192, 1, {"additional": {"max_prompt_length": 4096}, "input_tokens": 5000},
         "request_too_long", "context_encoding_buckets"),
    ],
)  # fmt: skip
def test_verdicts_name_the_flag(
    *, tokens: int, seqs: int, options: dict[str, Any], code: str, flag: str
) -> None:
    plan = plan_llama(tokens, seqs, **options)
    assert plan.verdict == code
    assert plan.binding is not None
    assert plan.binding.flag == flag
    assert plan.binding.amount


@pytest.mark.parametrize(
    ("tokens", "seqs", "blocks"), [(16_384, 4, 4096), (32_768, 4, 8192), (16_384, 4, 2048)]
)
def test_the_pruned_lists_of_the_cure_fit(tokens: int, seqs: int, blocks: int) -> None:
    binding = plan_llama(tokens, seqs, settings=cached(blocks)).binding
    assert binding is not None
    override = json.loads(binding.amount.partition("}")[0] + "}")
    cured = plan_llama(tokens, seqs, settings=cached(blocks), override=override)
    assert cured.verdict == f"fits({seqs})"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"settings": {"block_size": 128}}, "block_size is ignored"),
        ({"settings": {"max_num_batched_tokens": 8192}}, "max_num_batched_tokens is ignored"),
        ({"additional": {"override-neuron-config": {}}}, "override-neuron-config is ignored"),
        ({"override": {"kv_cache_quant": True}}, "kv_cache_quant has no effect"),
        ({"override": {"context_encoding_buckets": [640, 8192]}}, "without the flash kernel"),
        ({"settings": cached(256), "override": {"pa_block_size": 16}}, "not checked"),
        ({"override": {"is_prefix_caching": True}}, "enable_prefix_caching is off"),
        ({"settings": {"swap_space": 4}}, "not looked at by the plan: swap_space"),
        ({"env": {"NEURON_COMPILED_ARTIFACTS": "artifacts"}}, "loaded as they are"),
        ({}, "SDK 2.28"),
    ],
)
def test_silent_behaviour_is_said(options: dict[str, Any], words: str) -> None:
    assert any(words in warning for warning in plan_llama(8192, **options).warnings)


def test_defaults_of_the_plugin_are_said() -> None:
    settings = {"tensor_parallel_size": 64}
    plan = plan_deployment(
        LLAMA, "trn2.48xlarge", "neuron==0.13.0", settings=settings, max_model_len=2048
    )
    text = " ".join(plan.warnings)
    assert "prefix caching is on" in text
    assert "a batch of 256 is compiled" in text
    assert plan.binding is not None
    assert plan.binding.flag == "block_size"


def test_additional_config_may_be_json_text() -> None:
    text = json.dumps({"override_neuron_config": {KERNEL: True}})
    plan = plan_llama(131_072, settings={"additional_config": text})
    assert plan.verdict == "compile_fail"
    for bad in ("{", "[1]"):
        with pytest.raises(PlanError, match="additional_config"):
            plan_llama(8192, settings={"additional_config": bad})


def test_eight_bit_weights_and_cache() -> None:
    override = {
        "quantized": True,
        "quantization_type": "per_channel_symmetric",
        "kv_quant_config": {"dtype": "f8e4m3"},
    }
    plain, small = plan_llama(8192), plan_llama(8192, override=override)
    assert small.memory.weights_gib < 0.6 * plain.memory.weights_gib
    assert small.kv.bytes_per_token_per_gpu == 20_480


def test_logical_cores_of_one_physical_core() -> None:
    env = {"NEURON_LOGICAL_NC_CONFIG": "1"}
    plan = plan_llama(8192, env=env, settings={"tensor_parallel_size": 128})
    assert plan.memory.device_gib == 12
    assert plan.gpus == 128
    assert plan.verdict == "fits(1)"
    cores = split_cores(parse_hardware("trn2.48xlarge"), 1)
    assert (cores.devices, cores.device.physical_cores) == (128, 1)
    with pytest.raises(PlanError, match="logical core"):
        plan_llama(8192, env={"NEURON_LOGICAL_NC_CONFIG": "3"})


def test_other_hardware_is_refused() -> None:
    with pytest.raises(PlanError, match="H200"):
        plan_llama(8192, hardware="8xH200", settings={"tensor_parallel_size": 8})


def test_latent_attention_is_refused() -> None:
    model = load_model("deepseek-ai/DeepSeek-V2-Lite-Chat")
    with pytest.raises(PlanError, match="latent"):
        count_token_bytes(model, 8, 2)


@pytest.mark.parametrize("version", ["2.28", "0.9.1", "0.7.2", "9.9"])
def test_a_release_is_a_known_tuple(version: str) -> None:
    with pytest.raises(PlanError):
        find_neuron_release(version)


def test_plugin_and_vllm_versions_name_the_same_tuple() -> None:
    assert find_neuron_release("0.4.1") == find_neuron_release("0.13.0")
    assert find_neuron_release("0.24.0.1.1.0").generation == 2


def test_every_rule_states_how_it_is_known() -> None:
    for rule in list_rules():
        assert rule.source
        assert rule.uncertainty
    assert {find_rule("odd_batch").mark, find_rule("module_size").mark} == {"recorded"}
    assert find_rule("graph_memory").mark == "calibrated"
    assert find_rule("score_row").mark == "first principles"


@given(
    length=st.integers(128, 2**18),
    seqs=st.integers(1, 8),
    caching=st.booleans(),
    kernel=st.booleans(),
    engine=st.sampled_from(["neuron==0.4.1", "neuron==0.5.0", "neuron==0.24.0"]),
)
def test_every_plan_is_consistent(
    *, length: int, seqs: int, caching: bool, kernel: bool, engine: str
) -> None:
    settings = {"enable_prefix_caching": caching, "block_size": 32}
    plan = plan_llama(length, seqs, engine=engine, settings=settings, override={KERNEL: kernel})
    assert (plan.binding is None) == plan.verdict.startswith("fits(")
    assert plan.limits.max_input_tokens + plan.limits.output_tokens <= max(length, 200)
    assert Plan.model_validate_json(plan.model_dump_json(by_alias=True)) == plan
    if plan.binding is None:
        assert plan.memory.margin_gib >= 0
