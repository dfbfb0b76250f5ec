from __future__ import annotations

import pytest

from leadline.errors import PlanError
from leadline.plan.architecture import load_model
from leadline.plan.deployment import plan_deployment
from leadline.plan.search import (
    find_fewest_devices,
    find_lowest_utilization,
    search_settings,
)
from leadline.plan.vllm_settings import HYBRID_VARIABLE

SCOUT = load_model("Llama-4-Scout-17B-16E-Instruct")
SMALL = {"gpu_memory_utilization": (0.9, 0.95), "max_num_seqs": (8, 1024)}


def test_candidates_are_ranked_and_rejections_have_reasons() -> None:
    ranked, rejected = search_settings(
        SCOUT,
        "8xH200",
        "vllm==0.12.0",
        input_tokens=5_000_000,
        fixed={"tensor_parallel_size": 8},
        grid=SMALL,
    )
    assert len(ranked) + len(rejected) == 8
    # Only the hybrid manager holds five million tokens, and few sequences hold more of them.
    assert all(candidate.env[HYBRID_VARIABLE] == "1" for candidate in ranked)
    at_once = [candidate.plan.limits.concurrent_requests for candidate in ranked]
    assert at_once == sorted(at_once, reverse=True)
    assert all(candidate.plan.binding and candidate.plan.binding.reason for candidate in rejected)


def test_sglang_is_searched_with_its_own_names() -> None:
    ranked, rejected = search_settings(
        SCOUT,
        "8xH200",
        "sglang==0.5.6",
        input_tokens=2_000_000,
        fixed={"tp_size": 8},
        grid={"max_running_requests": (8, 2048), "mem_fraction_static": (0.8, 0.9)},
    )
    assert ranked[0].settings["max_running_requests"] == 8
    assert any(c.plan.verdict == "risk_oom_outside_budget" for c in rejected)


def test_the_grid_varies_context_ranks_graphs_and_chunks() -> None:
    """Of 4 KV heads on 8 ranks each is kept twice: two context ranks can share them."""
    ranked, rejected = search_settings(
        "Qwen/Qwen3-30B-A3B", "8xH100", "vllm==0.12.0", input_tokens=8000
    )
    tried = [candidate.settings for candidate in ranked + rejected]
    ranks = {(s["tensor_parallel_size"], s["decode_context_parallel_size"]) for s in tried}
    assert ranks == {(1, 1), (2, 1), (4, 1), (8, 1), (8, 2)}
    assert {s["max_cudagraph_capture_size"] for s in tried} == {16, 512}
    ranked, rejected = search_settings(
        SCOUT, "8xH200", "sglang==0.5.6", input_tokens=2_000_000, fixed={"tp_size": 8}
    )
    best = ranked[0].settings
    assert best["hybrid_kvcache_ratio"] == 0.9
    assert {c.settings["chunked_prefill_size"] for c in ranked + rejected} == {2048, 8192, 16384}


def test_combinations_beyond_the_devices_are_not_tried() -> None:
    ranked, rejected = search_settings(
        "Qwen/Qwen3-8B",
        "2xH100",
        "vllm==0.12.0",
        input_tokens=8000,
        grid={"tensor_parallel_size": (1, 2, 4), "pipeline_parallel_size": (1, 2)},
    )
    ranks = [
        c.settings["tensor_parallel_size"] * c.settings["pipeline_parallel_size"]
        for c in ranked + rejected
    ]
    assert sorted(ranks) == [1, 2, 2]
    # Four heads a rank suffice: one device alone serves most for each device.
    assert ranked[0].plan.gpus == 1 or ranked[0].plan.limits.concurrent_requests > 0


def test_fewest_devices() -> None:
    model = load_model("meta-llama/Llama-3.3-70B-Instruct")
    plan = find_fewest_devices(model, "8xH100", "vllm==0.12.0", max_model_len=131_072)
    assert plan.gpus == 4
    fewer = plan_deployment(
        model,
        "8xH100",
        "vllm==0.12.0",
        settings={"tensor_parallel_size": 2},
        max_model_len=131_072,
    )
    assert fewer.binding is not None
    with pytest.raises(PlanError, match="any tensor-parallel size"):
        find_fewest_devices(model, "1xRTX4090", "vllm==0.12.0")


def test_lowest_utilization() -> None:
    model = load_model("Qwen/Qwen3-8B")
    lowest = find_lowest_utilization(model, "H100", "vllm==0.19.0", max_model_len=32_768)
    for utilization, fits in ((lowest, True), (lowest - 0.01, False)):
        plan = plan_deployment(
            model,
            "H100",
            "vllm==0.19.0",
            settings={"gpu_memory_utilization": utilization},
            max_model_len=32_768,
        )
        assert (plan.binding is None) is fits
    with pytest.raises(PlanError, match="any utilization"):
        find_lowest_utilization(SCOUT, "H100", "vllm==0.19.0")
