from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadline.plan.architecture import Model, load_model
from leadline.plan.kv_cache import (
    LONGEST_TOKENS,
    Group,
    PoolSettings,
    count_request_blocks,
    find_longest,
    group_layers,
    plan_pool,
)
from leadline.plan.patterns import FULL, Reach
from leadline.plan.releases import find_vllm_release
from leadline.plan.weights import Shards

DATA = Path(__file__).parent / "data"
LOGS: list[dict[str, Any]] = json.loads((DATA / "kv_logs.json").read_text())
# The bytes that the Scout log line "3,919,664 tokens" pins down; printed there as 89.71 GiB.
SCOUT_BYTES = 96_329_662_464
ELEMENT_BYTES = {"float32": 4, "fp8": 1}


@pytest.fixture(scope="module")
def scout() -> Model:
    return load_model("Llama-4-Scout-17B-16E-Instruct")


@pytest.mark.parametrize("log", LOGS, ids=lambda log: str(log["log"]))
def test_tokens_and_concurrency_of_every_log(log: dict[str, Any]) -> None:
    element_bytes = ELEMENT_BYTES.get(log["kv_dtype"]) or ELEMENT_BYTES.get(log["dtype"], 2)
    pool = plan_pool(
        load_model(log["model"]),
        Shards(log["tp"], log["pp"]),
        PoolSettings(log["max_model_len"], 8192, element_bytes=element_bytes),
        find_vllm_release(log["version"]),
        [int(log["kv_gib_per_gpu"] * 2**30)] * log["pp"],
    )
    # With pipeline stages the log line shows one stage's memory, the pool is the smallest's.
    tolerance = 0.02 if log["pp"] > 1 else 0.005
    assert pool.capacity_tokens == pytest.approx(log["kv_tokens"], rel=tolerance)
    assert pool.concurrency == pytest.approx(log["max_concurrency"], rel=tolerance)
    assert pool.starts


@pytest.mark.parametrize(
    ("length", "hybrid", "concurrency"),
    [
        (2_097_152, True, 7.305),
        (2_097_152, False, 1.869),
        (5_242_880, True, 2.963),
        (5_242_880, False, 0.748),
        (8_388_608, True, 1.858),
        (8_388_608, False, 0.467),
    ],
)
def test_scout_on_h200(scout: Model, length: int, hybrid: bool, concurrency: float) -> None:
    """Against vLLM 0.12.0's own functions, run on the same numbers."""
    settings = PoolSettings(length, 8192, hybrid=hybrid)
    pool = plan_pool(scout, Shards(8), settings, find_vllm_release("0.12.0"), [SCOUT_BYTES])
    assert pool.capacity_tokens == 3_919_664
    assert pool.concurrency == pytest.approx(concurrency, abs=5e-4)
    assert pool.bytes_per_token == (6144 if hybrid else 24576)
    # 0.12 checks before it unifies the kinds: it starts even at 0.47x.
    assert pool.starts
    assert pool.startable_tokens == 15_629_504
    # One block is never handed out.
    assert pool.max_request_tokens == (15_629_488 if hybrid else 3_919_648)


def test_later_releases_refuse_what_0_12_starts(scout: Model) -> None:
    settings = PoolSettings(5_242_880, 8192, hybrid=False)
    pool = plan_pool(scout, Shards(8), settings, find_vllm_release("0.19.0"), [SCOUT_BYTES])
    assert not pool.starts
    assert pool.startable_tokens == 3_919_664


def test_newest_log_line_is_concurrency_times_length(scout: Model) -> None:
    settings = PoolSettings(5_242_880, 8192)
    pool = plan_pool(scout, Shards(8), settings, find_vllm_release("0.33.0"), [SCOUT_BYTES])
    # Two batches in flight: 3 x (8192 + 16384) tokens of local blocks.
    assert pool.concurrency == pytest.approx(979_916 / (327_680 + 3 * 1536))
    assert pool.capacity_tokens == int(pool.concurrency * 5_242_880)


def test_context_parallel_ranks_multiply_the_tokens() -> None:
    """Kimi-K2, 16 GPUs: 715,072 tokens become 5,721,088 with DCP 8 (vLLM documentation)."""
    kimi = load_model("moonshotai/Kimi-K2-Instruct")
    release = find_vllm_release("0.12.0")
    block_bytes = 61 * 576 * 2 * 16
    available = [715_072 // 16 * block_bytes]
    one = plan_pool(kimi, Shards(8), PoolSettings(131_072, 8192), release, available)
    eight = plan_pool(
        kimi, Shards(8), PoolSettings(131_072, 8192, context_ranks=8), release, available
    )
    assert one.capacity_tokens == 715_072
    assert eight.capacity_tokens == pytest.approx(5_721_088, rel=2e-4)


def test_kv_heads_are_replicated_when_ranks_outnumber_them() -> None:
    model, release = load_model("Qwen/Qwen2.5-7B-Instruct"), find_vllm_release("0.12.0")
    settings = PoolSettings(8192, 8192)
    four, eight = (plan_pool(model, Shards(ranks), settings, release, [2**34]) for ranks in (4, 8))
    assert four.bytes_per_token == eight.bytes_per_token == 28 * 2 * 128 * 2


def test_groups_are_padded_when_the_kinds_are_nearly_equal() -> None:
    reaches = [FULL] * 13 + [Reach("sliding", 128)] * 12
    settings = PoolSettings(4096, 2048)
    sizes = {
        version: len(group_layers(reaches, settings, find_vllm_release(version)))
        for version in ("0.11.0", "0.12.0")
    }
    assert sizes == {"0.11.0": 3, "0.12.0": 2}


@given(
    available=st.integers(2**28, 2**38),
    tensor=st.sampled_from([1, 2, 4, 8]),
    tokens=st.integers(1024, 2**23),
    version=st.sampled_from(["0.11.0", "0.12.0", "0.15.0", "0.19.0", "0.25.0", "0.33.0"]),
    name=st.sampled_from(["Llama-4-Scout-17B-16E-Instruct", "gemma-3-12b-it", "Qwen3-8B"]),
    hybrid=st.booleans(),
)
def test_pool_invariants(
    *, available: int, tensor: int, tokens: int, version: str, name: str, hybrid: bool
) -> None:
    model, release = load_model(name), find_vllm_release(version)
    settings = PoolSettings(tokens, 8192, hybrid=hybrid)
    pool = plan_pool(model, Shards(tensor), settings, release, [available])
    assert pool.blocks * pool.block_bytes <= available
    # More memory never means fewer tokens; the longest request fits and the next does not.
    more = plan_pool(model, Shards(tensor), settings, release, [available * 2])
    assert more.blocks >= pool.blocks
    assert more.max_request_tokens >= pool.max_request_tokens
    longest = pool.max_request_tokens
    if longest:
        assert count_request_blocks(pool.groups, settings, release, longest) < pool.blocks
    assert count_request_blocks(pool.groups, settings, release, longest + 1) >= pool.blocks
    assert sorted(i for g in pool.groups for i in g.layers) == list(range(len(model.layers)))


@given(
    pages=st.integers(-10, 2**22),
    weights=st.lists(st.integers(1, 48), min_size=1, max_size=3),
    version=st.sampled_from(["0.12.0", "0.33.0"]),
    settings=st.builds(
        PoolSettings,
        st.just(8192),
        st.sampled_from([2048, 8192]),
        block_tokens=st.sampled_from([1, 16, 64]),
        context_ranks=st.sampled_from([1, 4]),
    ),
)
def test_the_longest_request_is_the_last_that_fits(
    *, pages: int, weights: list[int], version: str, settings: PoolSettings
) -> None:
    release = find_vllm_release(version)
    reaches = (FULL, Reach("chunked", 8192), Reach("sliding", 1024))
    charged = tuple(zip(reaches, weights, strict=False))

    def fits(tokens: int) -> bool:
        needed = sum(
            weight * count_request_blocks([Group(reach, (0,))], settings, release, tokens)
            for reach, weight in charged
        )
        return needed <= pages

    longest = find_longest(charged, pages, settings, release)
    assert longest == 0 or fits(longest)
    assert not fits(longest + 1)


def test_windows_alone_have_no_longest_request() -> None:
    release, settings = find_vllm_release("0.12.0"), PoolSettings(8192, 8192)
    assert find_longest([(Reach("sliding", 1024), 1)], 10_000, settings, release) == LONGEST_TOKENS
