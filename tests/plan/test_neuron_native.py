from __future__ import annotations

from typing import Any

import pytest

from leadline.errors import PlanError
from leadline.plan.deployment import plan_deployment
from leadline.plan.schema import Plan

FP8 = "RedHatAI/Llama-3.3-70B-Instruct-FP8-dynamic"


def plan_native(tokens: int, config: dict[str, Any] | None = None, **options: Any) -> Plan:
    settings = {
        "tensor_parallel_size": 16,
        "max_num_seqs": 8,
        "block_size": 128,
        "additional_config": {"neuron_config": config or {}},
    }
    return plan_deployment(
        FP8,
        "trn2.48xlarge",
        "neuron==0.24.0.1.1.0",
        settings=settings | options.pop("settings", {}),
        max_model_len=tokens,
        **options,
    )


def test_the_documented_recipe_fits() -> None:
    plan = plan_native(16_384, settings={"max_num_batched_tokens": 8192})
    assert plan.verdict.startswith("fits(")
    assert plan.engine == "neuron==0.24.0.1.1.0"
    assert plan.kv.available_gib == pytest.approx(0.30 * 0.92 * 24, abs=0.01)
    assert any("beta" in warning for warning in plan.warnings)


def test_long_contexts_go_by_segments() -> None:
    plan = plan_native(131_072, settings={"max_num_batched_tokens": 8192})
    assert plan.verdict == "fits(1)"
    whole = plan_native(32_768, settings={"max_num_batched_tokens": 32_768})
    assert whole.binding is not None
    assert (whole.binding.flag, whole.binding.amount) == ("max_num_batched_tokens", "8192")


@pytest.mark.parametrize(
    ("config", "settings", "code", "flag"),
    [
        ({}, {"max_num_batched_tokens": 3000}, "start_fail", "max_num_batched_tokens"),
        ({"num_batched_tokens_buckets": [512, 1024]}, {},
         "bucket_missing", "num_batched_tokens_buckets"),
        ({"num_seqs_buckets": [8, 4]}, {}, "bucket_missing", "num_seqs_buckets"),
        ({"decode_context_length_buckets": [1000]}, {},
         "start_fail", "decode_context_length_buckets"),
        ({"kv_segment_size_buckets": [1024, 2048]}, {}, "start_fail", "kv_segment_size_buckets"),
        ({"kv_segment_size_buckets": [1024], "num_batched_tokens_buckets": [2048]}, {},
         "start_fail", "kv_segment_size_buckets"),
        ({}, {"kv_cache_dtype": "fp8"}, "start_fail", "fp8_packed_kv"),
        ({}, {"gpu_memory_utilization": 0.2}, "start_fail", "gpu_memory_utilization"),
        ({}, {"tensor_parallel_size": 2}, "start_fail", "tensor_parallel_size"),
        ({}, {"tensor_parallel_size": 128}, "invalid_parallelism", "tensor_parallel_size"),
    ],
)  # fmt: skip
def test_rules_of_the_native_plugin(
    *, config: dict[str, Any], settings: dict[str, Any], code: str, flag: str
) -> None:
    plan = plan_native(16_384, config, settings=settings)
    assert plan.verdict == code
    assert plan.binding is not None
    assert plan.binding.flag == flag


def test_a_pool_smaller_than_one_request_does_not_start() -> None:
    settings = {"tensor_parallel_size": 8, "max_num_batched_tokens": 8192}
    plan = plan_native(131_072, settings=settings, available_kv_gib=2.0)
    assert plan.verdict == "start_fail"
    assert plan.binding is not None
    assert plan.binding.flag == "max_model_len"
    assert plan.kv.kind == "recorded"


def test_an_environment_number_that_is_none_is_one_message() -> None:
    with pytest.raises(PlanError, match="'much' is not a number"):
        plan_deployment(
            "meta-llama/Llama-3.3-70B-Instruct",
            "trn2.48xlarge",
            "neuron==0.24.0",
            settings={"tensor_parallel_size": 64},
            env={"VLLM_NEURON_KV_GMU_BUDGET_CAP_FRACTION": "much"},
            max_model_len=8192,
        )
