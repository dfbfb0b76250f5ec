"""The KV cache lines that real vLLM printed on CPUs, foretold to the token."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.real_engines import tiny

from leadline.plan.pool_forecast import CPU, PoolForecast, forecast_pool, given_cpu_bytes
from leadline.units import GIB

HYBRID = {"VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE": "1"}


@pytest.fixture
def models(tmp_path: Path) -> dict[str, str]:
    write = {
        "full": tiny.write_dense,
        "sliding": tiny.write_sliding,
        "chunked": tiny.write_chunked,
    }
    return {name: str(make(tmp_path / name)) for name, make in write.items()}


def forecast(model: str, version: str, length: int, gib: int = 1, **facts: object) -> PoolForecast:
    settings = {"max_model_len": length, **facts.get("settings", {})}  # type: ignore[dict-item]
    env: dict[str, str] = facts.get("env", {})  # type: ignore[assignment]
    return forecast_pool(
        model, version, settings, env, device=CPU, available_bytes=gib * GIB, source="given"
    )


# (model, version, window, GiB, environment, tokens, concurrency): logs of CPU runs.
SEEN = [
    ("full", "0.32.0", 2_097_152, 1, {}, 8_388_608, 4.00),
    ("sliding", "0.32.0", 10_000_000, 2, {}, 62_415_238_095, 6241.52),
    ("sliding", "0.32.0", 2_097_152, 1, {}, 6_544_712_070, 3120.76),
    ("chunked", "0.32.0", 4_000_000, 1, {}, 8_369_325, 2.09),
    ("chunked", "0.12.0", 4_000_000, 1, HYBRID, 2_097_152, 2.09),
    ("chunked", "0.12.0", 4_000_000, 1, {}, 2_097_152, 0.52),
]


@pytest.mark.parametrize(("model", "version", "length", "gib", "env", "tokens", "times"), SEEN)
def test_both_figures_are_those_that_the_engine_printed(
    models: dict[str, str],
    model: str,
    version: str,
    length: int,
    gib: int,
    env: dict[str, str],
    tokens: int,
    times: float,
) -> None:
    found = forecast(models[model], version, length, gib, env=env)
    assert found.capacity_tokens == tokens
    assert round(found.concurrency, 2) == times


def test_fewer_sequences_change_the_batch_and_so_the_forecast(models: dict[str, str]) -> None:
    found = forecast(models["chunked"], "0.32.0", 1_048_576, settings={"max_num_seqs": 2})
    assert found.capacity_tokens == 8_315_522


def test_the_release_that_starts_without_room_is_told_the_variable(models: dict[str, str]) -> None:
    remedy = forecast(models["chunked"], "0.12.0", 4_000_000).remedy
    assert remedy.startswith("set VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE=1")
    assert "at most 2,097,024" in remedy


def test_an_override_of_the_blocks_binds(models: dict[str, str]) -> None:
    found = forecast(models["full"], "0.12.0", 8192, settings={"num_gpu_blocks_override": 33})
    assert (found.blocks, found.max_request_tokens) == (33, 4096)
    assert round(found.concurrency, 2) == 0.52


def test_memory_that_is_not_given_is_not_guessed() -> None:
    assert given_cpu_bytes({}) is None
    assert given_cpu_bytes({"VLLM_CPU_KVCACHE_SPACE": "2"}) == (2 * GIB, "VLLM_CPU_KVCACHE_SPACE=2")
