from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadline.errors import PlanError
from leadline.plan.architecture import load_model
from leadline.plan.hardware import parse_hardware
from leadline.plan.sglang import (
    SglangMemory,
    longest_input,
    plan_sglang_memory,
    split_pools,
)
from leadline.plan.sglang_settings import read_sglang_settings
from leadline.plan.vllm import Measured
from leadline.units import GIB

SCOUT = "Llama-4-Scout-17B-16E-Instruct"


def plan(name: str, hardware: str, settings: dict[str, Any]) -> SglangMemory:
    model, devices = load_model(name), parse_hardware(hardware)
    read = read_sglang_settings(settings, model, devices.device)
    return plan_sglang_memory(model, devices, read, Measured())


@pytest.mark.parametrize(
    ("hardware", "settings", "fraction"),
    [
        ("H200", {"tp_size": 8}, 0.897),
        ("H100", {"tp_size": 8}, 0.818),
        ("H200", {"tp_size": 8, "enable_multimodal": True}, 0.709),
        ("H100", {"tp_size": 8, "enable_multimodal": True}, 0.647),
        ("H200", {"tp_size": 8, "mem_fraction_static": 0.8}, 0.8),
    ],
)
def test_default_fraction_of_scout(
    hardware: str, settings: dict[str, Any], fraction: float
) -> None:
    read = read_sglang_settings(settings, load_model(SCOUT), parse_hardware(hardware).device)
    assert read.fraction == pytest.approx(fraction, abs=5e-4)


def test_a_huge_chunk_makes_the_default_fraction_negative() -> None:
    settings = {"tp_size": 8, "chunked_prefill_size": 131_072}
    read = read_sglang_settings(settings, load_model(SCOUT), parse_hardware("H200").device)
    assert read.fraction < 0


def test_two_million_tokens_run_out_of_memory_in_the_request_table() -> None:
    memory = plan(SCOUT, "8xH200", {"tp_size": 8, "context_length": "2M"})
    gib = {term.name: term.gib for term in memory.terms}
    assert gib["req_to_token"] == pytest.approx(16, abs=0.01)
    assert gib["graph page table"] == gib["graph local block table"] == 4
    assert memory.margin_bytes < -8 * GIB


def test_fewer_running_requests_cure_it() -> None:
    settings = {"tp_size": 8, "context_length": "2M", "max_running_requests": 8}
    memory = plan(SCOUT, "8xH200", settings | {"cuda_graph_max_bs": 8})
    assert memory.margin_bytes > 8 * GIB


def test_the_kit_ran_without_graphs_at_080() -> None:
    settings = {"tp_size": 8, "context_length": "2M", "mem_fraction_static": 0.8}
    memory = plan(SCOUT, "8xH200", settings | {"disable_cuda_graph": True})
    assert memory.margin_bytes > 0
    assert memory.pools.bytes_per_token == 24576
    assert memory.pools.full_tokens > 2_097_152


def test_qwen3_235b_on_four_h100() -> None:
    """A published log: 367,404 tokens at --mem-fraction-static 0.93 (vllm issue 21348)."""
    settings = {"tp_size": 4, "mem_fraction_static": 0.93}
    memory = plan("Qwen/Qwen3-235B-A22B-FP8", "4xH100", settings)
    assert memory.pools.full_tokens == pytest.approx(367_404, rel=0.02)


@pytest.mark.parametrize(("ratio", "full"), [(0.5, 1_600_000), (1.0, 3_950_000)])
def test_hybrid_ratio_moves_tokens_to_the_full_pool(ratio: float, full: int) -> None:
    """A million uniform tokens at a context of 2M, from the formula in model_runner.py."""
    model = load_model(SCOUT)
    settings = {"tp_size": 8, "context_length": "2M", "hybrid_kvcache_ratio": ratio}
    read = read_sglang_settings(settings, model, parse_hardware("H200").device)
    pools = split_pools(model, read, 1_000_000 * 24576)
    assert pools.full_tokens == pytest.approx(full, rel=0.01)
    # Three of four layers are local: together they hold what the uniform pool held.
    assert 3 * pools.local_tokens + pools.full_tokens == pytest.approx(4_000_000, rel=1e-5)


def test_the_hybrid_ratio_needs_a_context_length() -> None:
    with pytest.raises(PlanError, match="context_length"):
        read_sglang_settings(
            {"hybrid_kvcache_ratio": 0.5}, load_model(SCOUT), parse_hardware("H200").device
        )


def test_longest_prompt_is_one_shorter_than_vllm() -> None:
    model, device = load_model(SCOUT), parse_hardware("H200").device
    read = read_sglang_settings({"tp_size": 8, "context_length": "2M"}, model, device)
    pools = split_pools(model, read, 100 * GIB)
    assert longest_input(read, pools, 200) == 2_096_950
    assert longest_input(read, pools, 1) == 2_097_145


@given(
    available=st.integers(2**28, 2**38),
    context=st.integers(2**14, 2**23),
    ratio=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    output=st.integers(1, 4096),
)
def test_pools_never_exceed_their_memory(
    available: int, context: int, ratio: float, output: int
) -> None:
    model, device = load_model(SCOUT), parse_hardware("H200").device
    settings = {"tp_size": 8, "context_length": context, "hybrid_kvcache_ratio": ratio}
    read = read_sglang_settings(settings, model, device)
    pools = split_pools(model, read, available)
    tokens = pools.full_tokens + 3 * pools.local_tokens if ratio else 4 * pools.full_tokens
    assert tokens * pools.bytes_per_token / 4 <= available + 4 * pools.bytes_per_token
    assert longest_input(read, pools, output) + output < max(context, output + 1)
