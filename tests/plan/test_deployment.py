from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadline.catalog.reading import model_names
from leadline.errors import PlanError
from leadline.plan.deployment import parse_engine, plan_deployment
from leadline.plan.schema import Plan
from leadline.plan.vllm_settings import HYBRID_VARIABLE

SCOUT = "meta-llama/Llama-4-Scout-17B-16E-Instruct"
MAVERICK = "meta-llama/Llama-4-Maverick-17B-128E-Instruct"
EIGHT = {"tensor_parallel_size": 8, "gpu_memory_utilization": 0.9}
HYBRID = {HYBRID_VARIABLE: "1"}
TWO = {"tensor_parallel_size": 2}
NO_HYBRID = {"disable_hybrid_kv_cache_manager": True}
VLLM = ["vllm==0.11.0", "vllm==0.12.0", "vllm==0.19.0", "vllm==0.33.0"]


def plan_scout(length: str, env: dict[str, str] | None = None, **options: Any) -> Plan:
    settings = EIGHT | options.pop("settings", {})
    return plan_deployment(
        SCOUT,
        "8xH200",
        options.pop("engine", "vllm==0.12.0"),
        settings=settings,
        env=env,
        max_model_len=length,
        **options,
    )


def test_the_kit_from_its_own_log_line() -> None:
    plan = plan_scout("8M", HYBRID, available_kv_gib=89.71)
    assert plan.kv.capacity_tokens == pytest.approx(3_919_664, rel=5e-4)
    assert plan.kv.max_concurrency == pytest.approx(1.86, abs=0.005)
    assert plan.verdict == "fits(1)"
    assert plan.kv.kind == "recorded"
    five = plan_scout("5M", HYBRID, available_kv_gib=89.71)
    assert five.kv.max_concurrency == pytest.approx(2.96, abs=0.005)


def test_five_million_without_the_hybrid_manager_is_unusable() -> None:
    plan = plan_scout("5M", available_kv_gib=89.71)
    assert plan.kv.max_concurrency == pytest.approx(0.75, abs=0.005)
    assert plan.verdict == "starts_but_unusable"
    assert plan.binding is not None
    assert (plan.binding.flag, plan.binding.direction) == (HYBRID_VARIABLE, "set")
    assert plan.limits.max_input_tokens == plan.kv.max_request_tokens - 200
    assert any("hybrid" in warning for warning in plan.warnings)


def test_longest_prompts_of_both_engines() -> None:
    assert plan_scout("2M").limits.max_input_tokens == 2_096_952
    settings = {"tp_size": 8, "max_running_requests": 8, "cuda_graph_max_bs": 8}
    plan = plan_deployment(
        SCOUT, "8xH200", "sglang==0.5.6.post2", settings=settings, max_model_len="2M"
    )
    assert plan.limits.max_input_tokens == 2_096_950
    assert plan.verdict == "fits(1)"


def test_sglang_names_the_request_table() -> None:
    plan = plan_deployment(
        SCOUT, "8xH200", "sglang==0.5.6.post2", settings={"tp_size": 8}, max_model_len="2M"
    )
    assert plan.verdict == "risk_oom_outside_budget"
    assert plan.binding is not None
    assert plan.binding.flag == "max_running_requests"
    assert "req_to_token 16.0" in plan.binding.reason


def test_prefill_of_two_million_tokens() -> None:
    plan = plan_scout("2M")
    assert plan.time is not None
    prefill = plan.time.prefill_s
    assert prefill.floor == pytest.approx(77.1, rel=0.01)
    assert prefill.floor < prefill.low < prefill.expected < prefill.high
    assert 150 < prefill.expected < 200
    assert plan.time.timeout_s > prefill.high
    warm = plan_scout("2M", cached_tokens=1_600_000)
    assert warm.time is not None
    assert warm.time.prefill_s.expected < prefill.expected / 2


def test_probes_replace_the_prior() -> None:
    plan = plan_scout("8M", HYBRID, input_tokens=4_910_000, probes=[(2_850_000, 334.91)])
    assert plan.time is not None
    assert plan.time.prefill_s.kind == "calibrated"
    assert plan.time.prefill_s.expected == pytest.approx(957, rel=0.1)


@pytest.mark.parametrize(
    ("model", "hardware", "engine", "options", "code", "flag"),
    [
        (SCOUT, "8xH200", "vllm==0.12.0", {"settings": {"tensor_parallel_size": 6}},
         "invalid_parallelism", "tensor_parallel_size"),
        (SCOUT, "4xH200", "vllm==0.12.0", {"settings": EIGHT},
         "invalid_parallelism", "tensor_parallel_size"),
        (SCOUT, "8xH200", "vllm==0.12.0", {"settings": EIGHT, "max_model_len": 16_000_000},
         "exceeds_trained_context", "max_model_len"),
        (SCOUT, "1xH100", "vllm==0.12.0", {"max_model_len": 8192},
         "start_fail", "tensor_parallel_size"),
        (SCOUT, "8xH200", "vllm==0.19.0", {"settings": EIGHT | NO_HYBRID, "max_model_len": "5M"},
         "start_fail", "max_model_len"),
        ("Qwen/Qwen3-235B-A22B-FP8", "8xH200", "vllm==0.12.0", {"settings": EIGHT},
         "invalid_parallelism", "tensor_parallel_size"),
        ("openai/gpt-oss-20b", "2xH100", "vllm==0.19.0",
         {"settings": TWO | {"gpu_memory_utilization": 0.95}, "max_model_len": 8192},
         "risk_oom_outside_budget", "gpu_memory_utilization"),
        ("openai/gpt-oss-120b", "1xH100", "vllm==0.11.0",
         {"settings": {"gpu_memory_utilization": 0.9}}, "start_fail", "tensor_parallel_size"),
        ("Qwen/Qwen3-8B", "1xH100", "vllm==0.19.0",
         {"settings": {"gpu_memory_utilization": 0.995}, "max_model_len": 8192},
         "start_fail", "gpu_memory_utilization"),
        ("moonshotai/Kimi-K2-Instruct", "16xH200", "vllm==0.12.0",
         {"settings": EIGHT | {"pipeline_parallel_size": 2, "decode_context_parallel_size": 3}},
         "invalid_parallelism", "decode_context_parallel_size"),
        ("meta-llama/Llama-3.3-70B-Instruct", "8xH100", "vllm==0.12.0",
         {"settings": EIGHT, "input_tokens": 140_000}, "request_too_long", "max_model_len"),
        ("Qwen/Qwen3-8B", "1xRTX4090", "sglang==0.5.6", {"settings": {"mem_fraction_static": 0.5}},
         "start_fail", "mem_fraction_static"),
    ],
)  # fmt: skip
def test_verdicts_name_the_flag(
    *, model: str, hardware: str, engine: str, options: dict[str, Any], code: str, flag: str
) -> None:
    plan = plan_deployment(model, hardware, engine, **options)
    assert plan.verdict == code
    assert plan.binding is not None
    assert plan.binding.flag == flag
    assert plan.binding.amount
    assert plan.binding.reason


def test_gpt_oss_20b_works_at_090() -> None:
    settings = {"tensor_parallel_size": 2, "gpu_memory_utilization": 0.9}
    plan = plan_deployment(
        "openai/gpt-oss-20b", "2xH100", "vllm==0.19.0", settings=settings, max_model_len=8192
    )
    assert plan.verdict.startswith("fits(")


@pytest.mark.parametrize(
    ("model", "hardware", "length"),
    [
        (SCOUT, "8xH100", 1_000_000),
        (SCOUT, "8xH200", 3_600_000),
        (MAVERICK, "8xH100", 430_000),
        (MAVERICK, "8xH200", 1_000_000),
    ],
)
def test_lengths_that_the_vllm_blog_reports(model: str, hardware: str, length: int) -> None:
    """Lower bounds at the launch of Llama-4 (vLLM 0.8.3, uniform cache); Maverick in FP8."""
    settings = EIGHT | ({"quantization": "fp8"} if model == MAVERICK else {})
    plan = plan_deployment(
        model, hardware, "vllm==0.12.0", settings=settings, max_model_len=length, output_tokens=1
    )
    assert plan.kv.max_concurrency >= 1
    assert plan.limits.max_input_tokens == length - 1


def test_json_has_the_promised_keys() -> None:
    document = json.loads(plan_scout("2M").model_dump_json(by_alias=True))
    assert document["schema"] == "leadline.plan/1"
    assert {"verdict", "binding", "kv", "limits", "memory", "time", "warnings"} <= set(document)
    assert {
        "bytes_per_token_per_gpu",
        "available_gib",
        "capacity_tokens",
        "max_concurrency",
        "max_request_tokens",
    } <= set(document["kv"])
    assert {"name", "gib", "inside_budget", "source", "kind"} <= set(document["memory"]["terms"][0])
    assert {"low", "expected", "high", "floor"} <= set(document["time"]["prefill_s"])
    assert document["memory"]["weights_gib"] == pytest.approx(25.4, abs=0.15)
    assert Plan.model_validate(document) == plan_scout("2M")


def test_advice_for_long_contexts() -> None:
    advice = " ".join(plan_scout("2M").warnings)
    assert "max_num_seqs 8 instead of 1024" in advice
    assert "RoPE cache" in advice


@pytest.mark.parametrize("engine", ["vllm", "vllm==", "tgi==3.0", "vllm==latest", "vllm==0.6.0"])
def test_an_engine_needs_a_version_it_knows(engine: str) -> None:
    with pytest.raises(PlanError):
        plan_deployment(SCOUT, "8xH200", engine)


def test_engines_are_parsed() -> None:
    assert parse_engine("sglang==0.5.6.post2") == ("sglang", "0.5.6.post2")


def test_dtype_and_online_quantisation_change_the_weights() -> None:
    plans = {
        name: plan_deployment("Qwen/Qwen3-8B", "H100", "vllm==0.12.0", settings=settings)
        for name, settings in {
            "bf16": {},
            "fp32": {"dtype": "float"},
            "fp8": {"quantization": "fp8"},
        }.items()
    }
    weights = {name: plan.memory.weights_gib for name, plan in plans.items()}
    assert weights["fp32"] == pytest.approx(2 * weights["bf16"])
    assert weights["fp8"] < 0.7 * weights["bf16"]
    assert plans["fp32"].kv.bytes_per_token_per_gpu == 2 * plans["bf16"].kv.bytes_per_token_per_gpu
    with pytest.raises(PlanError, match="dtype"):
        plan_deployment("Qwen/Qwen3-8B", "H100", "vllm==0.12.0", settings={"dtype": "int2"})


@given(
    hardware=st.sampled_from(["1xH100", "4xH200", "8xB200", "2xRTX4090", "8x48GB"]),
    engine=st.sampled_from([*VLLM, "sglang==0.5.6"]),
    model=st.sampled_from([SCOUT, "Qwen/Qwen3-8B", "google/gemma-3-27b-it", "openai/gpt-oss-120b"]),
    length=st.integers(1, 2**24),
    output=st.integers(1, 5000),
)  # fmt: skip
def test_every_plan_is_consistent(
    *, hardware: str, engine: str, model: str, length: int, output: int
) -> None:
    plan = plan_deployment(model, hardware, engine, max_model_len=length, output_tokens=output)
    assert plan.limits.max_input_tokens + output <= max(length, output)
    assert (plan.binding is None) == plan.verdict.startswith("fits(")
    if plan.binding is None:
        # The longest prompt can run: at least one request of it fits.
        assert plan.limits.concurrent_requests >= 1 or plan.limits.max_input_tokens == 0
    assert Plan.model_validate_json(plan.model_dump_json(by_alias=True)) == plan


def test_an_automatic_length_is_what_starts() -> None:
    """From 0.14 on ``--max-model-len auto`` shortens the length to the pool."""
    model, settings = "meta-llama/Llama-3.3-70B-Instruct", {"tensor_parallel_size": 2}
    plan = plan_deployment(model, "2xH100", "vllm==0.19.0", settings=settings, max_model_len="auto")
    assert plan.limits.max_model_len == plan.limits.max_startable_len < 131_072
    assert plan.kv.max_concurrency == pytest.approx(1, abs=0.01)


def test_gpt_oss_20b_from_its_own_log() -> None:
    """The run that later ran out of memory logged its pool first (llm-d-planner sweep)."""
    plan = plan_deployment(
        "openai/gpt-oss-20b",
        "2xH100",
        "vllm==0.19.0",
        settings=TWO | {"gpu_memory_utilization": 0.95},
        max_model_len=8192,
        available_kv_gib=63.28,
    )
    assert plan.kv.capacity_tokens == pytest.approx(2_764_768, rel=5e-3)
    assert plan.kv.max_concurrency == pytest.approx(337.17, rel=5e-3)
    assert plan.memory.weights_gib == pytest.approx(7.01, rel=0.03)


def test_0_15_charges_every_layer_to_every_stage() -> None:
    """Vllm issue 34076: two stages, 3.18 GiB, "24.0 GiB needed", estimated maximum 34736."""
    plan = plan_deployment(
        "Qwen/Qwen3-30B-A3B-FP8",
        "2x32GB",
        "vllm==0.15.2",
        settings={"pipeline_parallel_size": 2},
        max_model_len=262_144,
        available_kv_gib=3.18,
        env={"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1"},
    )
    assert plan.verdict == "start_fail"
    assert plan.limits.max_startable_len == pytest.approx(34_736, abs=32)
    assert "24 GiB" in plan.findings[0].reason


def test_data_parallel_engines_share_their_experts() -> None:
    settings = {"data_parallel_size": 8, "enable_expert_parallel": True}
    spread = plan_deployment("deepseek-ai/DeepSeek-V3", "8xH200", "vllm==0.12.0", settings=settings)
    assert spread.memory.weights_gib < 100
    assert spread.gpus == 8


def test_every_catalog_model_can_be_planned_on_every_engine() -> None:
    for name in model_names():
        for engine in (*VLLM, "sglang==0.5.6"):
            flag = "tp_size" if engine.startswith("sglang") else "tensor_parallel_size"
            plan = plan_deployment(name, "8xB200", engine, settings={flag: 8})
            assert plan.verdict
            assert plan.memory.weights_gib > 0


def test_pinned_tables_can_exceed_the_host() -> None:
    settings = EIGHT | {"max_num_seqs": 65_536}
    plan = plan_deployment(
        SCOUT,
        "p5en.48xlarge",
        "vllm==0.12.0",
        settings=settings,
        env=HYBRID,
        max_model_len="8M",
        available_kv_gib=89.71,
    )
    assert plan.verdict == "host_memory"
    assert plan.binding is not None
    assert plan.binding.flag == "max_num_seqs"


def test_a_longer_context_than_trained_can_be_forced() -> None:
    forced = HYBRID | {"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1"}
    few = {"settings": {"max_num_seqs": 8}, "available_kv_gib": 89.71}
    assert plan_scout("12M", forced, **few).verdict == "fits(1)"
    assert plan_scout("12M", HYBRID, **few).verdict == "exceeds_trained_context"


def test_idle_devices_are_named() -> None:
    plan = plan_deployment("Qwen/Qwen3-8B", "8xH100", "vllm==0.12.0")
    assert "7 of 8 devices stay idle" in plan.warnings
