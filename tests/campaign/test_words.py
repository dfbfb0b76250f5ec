"""What a ready engine says is held against the plan before any request is sent."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.real_engines.small_models import make_model

from leadline.campaign.serving import Served
from leadline.campaign.words import find_unusable, hear, understand
from leadline.engines.engine import load_engine
from leadline.plan.local_memory import LocalPlan
from leadline.plan.pool_forecast import forecast_pool
from leadline.records import Comparison, EngineWords
from leadline.spec import Deployment

CORE = "INFO [core.py:93] Initializing a V1 LLM engine (v{version}) with config: model='m', "
CORE += "dtype={dtype}, max_seq_len={length}, device_config=cpu, enable_prefix_caching=True"
CACHE = "INFO GPU KV cache size: {tokens:,} tokens"
TIMES = "INFO Maximum concurrency for {length:,} tokens per request: {times:.2f}x"


class _Server:
    """Shows settings among its metrics."""

    async def settings(self, _: Any) -> dict[str, str]:
        return {"block_size": "128", "gpu_memory_utilization": "0.9"}


def words(
    tmp_path: Path,
    *lines: str,
    engine: str = "vllm==0.12.0",
    plan: LocalPlan | None = None,
    model: str = "",
    hardware: str | None = None,
    **settings: Any,
) -> EngineWords:
    log = tmp_path / "server.log"
    log.write_text("\n".join(lines) + "\n", encoding="utf-8")
    deployment = Deployment(
        engine=engine,
        model=model or str(make_model(tmp_path, "chunked")),
        settings=settings,
        env={"VLLM_CPU_KVCACHE_SPACE": "1"},
    )
    started: Any = object()
    server: Any = _Server()
    encode: Any = None
    served = Served(server, load_engine(deployment.engine_name or ""), encode, None, started)
    return asyncio.run(hear(served, deployment, log, hardware, plan)).words


def lines(length: int, tokens: int, times: float, dtype: str = "torch.bfloat16") -> list[str]:
    return [
        CORE.format(version="0.12.0", dtype=dtype, length=length),
        CACHE.format(tokens=tokens),
        TIMES.format(length=length, times=times),
    ]


def test_equal_figures_are_found_equal(tmp_path: Path) -> None:
    found = words(tmp_path, *lines(4_000_000, 2_097_152, 0.52), max_model_len=4_000_000)
    assert [(c.name, c.equal) for c in found.comparisons] == [
        ("KV cache size", True),
        ("maximum concurrency", True),
    ]
    assert found.version == "0.12.0"
    assert found.comparisons[0].source == "VLLM_CPU_KVCACHE_SPACE=1"


def test_the_memory_that_the_deployment_gives_is_taken_as_given(tmp_path: Path) -> None:
    """Not as the engine prints it, with two decimals of a GiB."""
    found = words(
        tmp_path,
        *lines(4_000_000, 1_048_576, 0.26),
        max_model_len="4m",
        kv_cache_memory_bytes="512M",
    )
    cache = found.comparisons[0]
    assert (cache.engine, cache.plan, cache.tolerance) == (1_048_576, 1_048_576, 0)
    assert cache.source == "kv_cache_memory_bytes=512M"


def test_a_count_is_the_same_however_it_is_written(tmp_path: Path) -> None:
    said = "INFO non-default args: {'kv_cache_memory_bytes': 31457280}"
    assert words(tmp_path, said, kv_cache_memory_bytes="30M").differing == {}


def test_one_block_less_than_planned_is_told_with_its_share(tmp_path: Path) -> None:
    found = words(tmp_path, *lines(4_000_000, 2_097_024, 0.52), max_model_len=4_000_000)
    cache = found.comparisons[0]
    assert not cache.equal
    assert cache.difference == pytest.approx(-128 / 2_097_152)


def test_what_the_engine_changed_is_told_and_what_it_only_spells_otherwise_is_not(
    tmp_path: Path,
) -> None:
    found = words(
        tmp_path,
        *lines(2_097_152, 2_097_152, 1.0, dtype="torch.float16"),
        max_model_len="2M",
        dtype="bfloat16",
        gpu_memory_utilization=0.90,
    )
    assert found.differing == {"dtype": ("bfloat16", "float16")}
    assert found.settings["block_size"] == "128"


def test_less_than_one_request_is_unusable_with_the_plans_remedy(tmp_path: Path) -> None:
    found = words(tmp_path, *lines(4_000_000, 2_097_152, 0.52), max_model_len=4_000_000)
    finding = find_unusable(found)
    assert finding
    assert finding.code == "START015"
    assert "0.52x" in finding.evidence[0]
    assert "at most 2,097,024" in finding.remedy


def test_one_request_is_enough(tmp_path: Path) -> None:
    found = words(tmp_path, *lines(2_097_152, 2_097_152, 1.0), max_model_len=2_097_152)
    assert find_unusable(found) is None


def test_an_engine_that_says_nothing_is_not_judged(tmp_path: Path) -> None:
    assert find_unusable(words(tmp_path, "INFO hello")) is None


SCOUT = Path(__file__).parents[1] / "data" / "engine-logs" / "vllm-0.19.0-h100-scout-start.log"


def scout(tmp_path: Path, hardware: str | None) -> EngineWords:
    return words(
        tmp_path,
        *SCOUT.read_text(encoding="utf-8").splitlines(),
        engine="vllm==0.19.0",
        model="meta-llama/Llama-4-Scout-17B-16E-Instruct",
        hardware=hardware,
        tensor_parallel_size=4,
        max_model_len=8192,
        enable_prefix_caching=False,
    )


def test_on_gpus_the_plan_starts_from_the_memory_that_the_engine_calls_available(
    tmp_path: Path,
) -> None:
    """Llama 4 Scout on four H100: equal, as far as 0.01 GiB tell."""
    found = scout(tmp_path, "4xH100")
    assert [(c.name, c.equal) for c in found.comparisons] == [
        ("KV cache size", True),
        ("maximum concurrency", True),
    ]
    assert 0 < abs(found.comparisons[0].difference) < 0.0005


def test_without_the_hardware_nothing_is_compared(tmp_path: Path) -> None:
    found = scout(tmp_path, None)
    assert found.figures["kv_tokens"] == 365_968
    assert found.comparisons == ()


def test_a_slot_of_llama_cpp_is_held_against_its_plan(tmp_path: Path) -> None:
    line = "I srv load_model: initializing, n_slots = 2, n_ctx_slot = 4096, kv_unified = 'false'"
    plan = LocalPlan(verdict="fits", window_tokens=8192)
    (found,) = words(tmp_path, line, engine="llamacpp", plan=plan).comparisons
    assert (found.engine, found.plan, found.equal) == (4096, 4096, True)


def test_a_slot_that_shares_the_window_has_all_of_it(tmp_path: Path) -> None:
    line = "I srv load_model: initializing, n_slots = 2, n_ctx_slot = 8192, kv_unified = 'true'"
    plan = LocalPlan(verdict="fits", window_tokens=8192)
    heard = words(tmp_path, line, engine="llamacpp", plan=plan, kv_unified=True)
    (found,) = heard.comparisons
    assert (found.engine, found.plan, found.equal) == (8192, 8192, True)


SGLANG_START = Path(__file__).parents[1] / "data" / "recorded" / "sglang-0.5.6.post2" / "start.log"


@pytest.mark.parametrize(
    ("settings", "planned"),
    [
        ({"max_total_tokens": 4096}, 4096),
        ({"max_total_tokens": 4100, "page_size": 64}, 4096),
        ({"max_total_tokens": 8192}, 8192),  # memory held only half of what was asked for
    ],
)
def test_sglangs_pool_is_held_against_what_it_was_given(
    settings: dict[str, int], planned: int
) -> None:
    deployment = Deployment(engine="sglang==0.5.6.post2", model="tiny", settings=settings)
    log = SGLANG_START.read_text(encoding="utf-8").splitlines()
    (found,) = understand(load_engine("sglang"), log, {}, deployment).comparisons
    assert (found.name, found.engine, found.plan) == ("KV cache size", 4096, planned)
    assert found.equal == (planned == 4096)


def test_a_pool_that_nobody_gave_is_not_compared() -> None:
    deployment = Deployment(engine="sglang==0.5.6.post2", model="tiny")
    log = SGLANG_START.read_text(encoding="utf-8").splitlines()
    assert understand(load_engine("sglang"), log, {}, deployment).comparisons == ()


@pytest.mark.parametrize(("said", "equal"), [(11.38, True), (11.37, True), (11.39, False)])
def test_a_figure_that_lies_between_two_printed_ones_is_equal_to_both(
    said: float, equal: bool
) -> None:
    """11.375 is printed as 11.38: no difference but that of rounding, to the last bit."""
    found = Comparison(
        name="x", unit="x", engine=said, plan=11.375, tolerance=0.005 / 11.375, source="s"
    )
    assert found.equal is equal


def test_the_pool_of_an_engine_without_a_server_is_that_of_its_own_batch(tmp_path: Path) -> None:
    """Seen on vLLM 0.32.0 on a CPU: 4,096 batched tokens, where its server has 2,048."""
    settings = {"max_model_len": 32768, "max_num_seqs": 1, "enforce_eager": True}
    model = str(make_model(tmp_path, "experts"))
    env = {"VLLM_CPU_KVCACHE_SPACE": "1"}
    facts: dict[str, Any] = {"device": "cpu", "available_bytes": 2**30, "source": "s"}
    pool = forecast_pool(model, "0.32.0", settings, env, **facts, offline=True)
    assert (pool.capacity_tokens, round(pool.concurrency, 2)) == (5_711_392, 174.30)
    assert forecast_pool(model, "0.32.0", settings, env, **facts).capacity_tokens == 6_547_206
