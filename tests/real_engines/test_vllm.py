"""What a campaign proves of real vLLM, and that the engine's own figures are the plan's."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.real_engines.conftest import Outcome, RunCampaign, segments_of, wait_for

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1500)]

NEW, OLD = "LEADLINE_VLLM_0_32", "LEADLINE_VLLM_0_12"


def passed(outcome: Outcome, deployment: str = "") -> list[int]:
    """Lengths at which every structural proof holds."""
    return [
        cell["input_tokens"]
        for cell in outcome.report["cells"]
        if cell["status"] == "pass" and deployment in cell["deployment"]
    ]


def assert_equal_to_the_plan(outcome: Outcome, deployments: int) -> None:
    """Tokens exactly; concurrency as far as it is printed."""
    found = outcome.comparisons()
    assert [name for name, _, _ in found].count("KV cache size") == deployments
    for name, engine, plan in found:
        assert engine == (plan if name == "KV cache size" else round(plan, 2)), name


def words_of(outcome: Outcome, deployment: str) -> dict[str, Any]:
    (found,) = [x for x in outcome.report["deployments"] if x["key"].startswith(deployment)]
    return dict(found["words"])


@pytest.mark.parametrize(
    ("campaign", "variable"), [("vllm-0.32-long", NEW), ("vllm-0.12-long", OLD)]
)
def test_two_million_tokens_are_counted_cold_and_answered(
    run_campaign: RunCampaign, campaign: str, variable: str
) -> None:
    outcome = run_campaign(campaign, variable)
    assert passed(outcome) == [8192, 131_072, 1_000_000, 2_096_952]
    (deployment,) = outcome.report["deployments"]
    assert deployment["qualified_tokens"] == 2_096_952
    assert {p["name"]: p["outcome"] for p in deployment["limits"]} == {
        "edge": "pass",
        "over_limit": "pass",
    }
    assert_equal_to_the_plan(outcome, deployments=1)
    assert outcome.code == 0


def test_ten_million_tokens(run_campaign: RunCampaign, long_text: object) -> None:
    outcome = run_campaign("vllm-0.32-10m", NEW)
    assert passed(outcome) == [10_000_000]
    assert_equal_to_the_plan(outcome, deployments=1)


def test_full_attention_with_and_without_prefix_caching_and_one_to_four_sequences(
    run_campaign: RunCampaign,
) -> None:
    outcome = run_campaign("vllm-0.32-batches", NEW)
    for name, caching in (("one", "True"), ("two", "False"), ("three", "True"), ("four", "False")):
        assert passed(outcome, name) == [2048, 131_072]
        assert words_of(outcome, name)["settings"]["enable_prefix_caching"] == caching
        assert words_of(outcome, name)["differing"] == {}
    assert_equal_to_the_plan(outcome, deployments=4)


def test_the_hybrid_cache_manager_on_and_off(run_campaign: RunCampaign) -> None:
    outcome = run_campaign("vllm-0.32-hybrid", NEW)
    assert passed(outcome, "hybrid") == [8192, 32_768]
    assert passed(outcome, "uniform") == [8192, 32_768]
    hybrid, uniform = (words_of(outcome, name) for name in ("hybrid", "uniform"))
    assert hybrid["figures"]["kv_tokens"] == 8_315_522
    assert uniform["figures"]["kv_tokens"] == 2_097_152
    assert_equal_to_the_plan(outcome, deployments=2)
    refused = [cell for cell in outcome.report["cells"] if "too-long" in cell["deployment"]]
    assert {cell["cause"] for cell in refused} == {"oom"}
    assert "at most 2,097,024" in outcome.report["findings"][0]["remedy"]


def test_an_engine_whose_cache_cannot_hold_its_window_gets_no_request(
    run_campaign: RunCampaign,
) -> None:
    outcome = run_campaign("vllm-0.12-livelock", OLD)
    (finding,) = outcome.report["findings"]
    assert finding["code"] == "START015"
    assert "0.52x" in finding["evidence"][0]
    assert "at most 4,096" in finding["remedy"]
    assert outcome.report["cells"][0]["trials"] == []
    assert outcome.code == 2


def test_a_request_larger_than_the_cache_is_told_from_a_slow_one(run_campaign: RunCampaign) -> None:
    outcome = run_campaign("vllm-0.12-livelock", OLD, "--try-infeasible")
    (finding,) = outcome.report["findings"]
    assert (finding["code"], finding["cause"]) == ("RUN010", "hang")
    assert any("holds 4,096 at most" in line for line in finding["evidence"])
    # On a busy machine the spinning engine starves its own /metrics; then its log testifies.
    seen = ("running 0, waiting 1", "Running: 0 reqs, Waiting: 1 reqs")
    assert any(words in line for line in finding["evidence"] for words in seen)


def test_a_killed_engine_leaves_no_process_and_no_shared_memory(run_campaign: RunCampaign) -> None:
    """The fixture looks for what is left."""

    def kill_when_up(leadline: int, runs: Path) -> None:
        assert wait_for(lambda: _is_up(runs), seconds=600)
        (server,) = psutil.Process(leadline).children()
        family = [process.pid for process in server.children(recursive=True)]
        assert segments_of(family), "it uses shared memory, or this test tests nothing"
        os.kill(server.pid, signal.SIGKILL)

    outcome = run_campaign("vllm-0.32-killed", NEW, meanwhile=kill_when_up)
    (cell,) = outcome.report["cells"]
    assert cell["cause"] == "crashed"
    assert "killed by SIGKILL" in outcome.report["findings"][0]["evidence"][0]


def _is_up(runs: Path) -> bool:
    return any("engine_words" in path.read_text("utf-8") for path in runs.rglob("events.jsonl"))
