"""What a campaign proves of real vLLM 0.32, and that the engine's own figures are the plan's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.real_engines.conftest import RunCampaign
from tests.real_engines.environments import VLLM_0_32 as VLLM
from tests.real_engines.killing import Killing
from tests.real_engines.outcomes import (
    assert_equal_to_the_plan,
    assert_killed,
    assert_two_million,
    passed,
    words_of,
)

from leadline.deploy.shared_memory import mapped_segments

pytestmark = [pytest.mark.engine, pytest.mark.timeout(2400)]


def test_two_million_tokens_are_counted_cold_and_answered(run_campaign: RunCampaign) -> None:
    assert_two_million(run_campaign("vllm-0.32-long", VLLM))


def test_ten_million_tokens(run_campaign: RunCampaign, long_text: object) -> None:
    outcome = run_campaign("vllm-0.32-10m", VLLM)
    assert passed(outcome) == [10_000_000]
    assert_equal_to_the_plan(outcome, deployments=1)


def test_full_attention_up_to_128k_and_one_to_four_sequences(run_campaign: RunCampaign) -> None:
    outcome = run_campaign("vllm-0.32-batches", VLLM)
    names = ("one", "two", "three", "four")
    for most, name in enumerate(names, start=1):
        caching = "False" if most in {2, 4} else "True"
        assert set(passed(outcome, name)) >= {2048, 131_072}, outcome.stderr
        load = outcome.cell(f"{name}/input_tokens=8192")["load"]
        assert load["answered"] == 24
        # Sampled: on a busy machine the moment at which all run may fall between two looks.
        assert min(most, 2) <= load["server"]["highest_running"] <= most
        assert words_of(outcome, name)["settings"]["enable_prefix_caching"] == caching
        assert words_of(outcome, name)["differing"] == {}
    assert_equal_to_the_plan(outcome, deployments=4)


def test_the_hybrid_cache_manager_on_and_off(run_campaign: RunCampaign) -> None:
    outcome = run_campaign("vllm-0.32-hybrid", VLLM)
    assert passed(outcome, "hybrid") == [8192, 32_768]
    assert passed(outcome, "uniform") == [8192, 32_768]
    hybrid, uniform = (words_of(outcome, name) for name in ("hybrid", "uniform"))
    assert hybrid["figures"]["kv_tokens"] == 8_315_522
    assert uniform["figures"]["kv_tokens"] == 2_097_152
    assert_equal_to_the_plan(outcome, deployments=2)
    refused = [cell for cell in outcome.report["cells"] if "too-long" in cell["deployment"]]
    assert {cell["cause"] for cell in refused} == {"oom"}
    assert "at most 2,097,024" in outcome.report["findings"][0]["remedy"]


def test_a_replayed_trace_is_found_in_the_prefix_cache_as_on_its_day(
    run_campaign: RunCampaign, models: Path
) -> None:
    lengths = [(2000, [0, 1, 2, 3]), (1536, [0, 1, 4]), (700, [0, 5]), (512, [6]), (1024, [0, 1])]
    lines = [
        {"timestamp": 400 * n, "input_length": tokens, "output_length": 4, "hash_ids": ids}
        for n, (tokens, ids) in enumerate(lengths)
    ]
    (models / "day.jsonl").write_text("\n".join(map(json.dumps, lines)), "utf-8")
    outcome = run_campaign("vllm-0.32-trace", VLLM)
    # By hand, in blocks of 128: of the last prompt all but the block with its last token. A chat's
    # template lies in its first and its last block.
    found = 2 * 512 + 512 + (1024 - 128)
    for form in ("ids", "chat"):
        cell = outcome.cell(f"prompt_as={form}/load.trace")
        assert cell["load"]["answered"] == len(lengths), outcome.stderr
        assert_found(cell, found)
        assert cell["cache"]["replayed_tokens"] == found
    turns = outcome.cell("turns=3")
    # 500, 1,000 and 1,500 tokens; the second turn has the first's 3 whole blocks, the third 7.
    assert_found(turns, 2 * (3 + 7) * 128)


def assert_found(cell: dict[str, Any], cached_tokens: int) -> None:
    cache = cell["cache"]
    assert cache["cached_tokens"] == cached_tokens
    assert (cache["witness"], cache["differing"]) == ("each request", 0)
    # Beside another engine the client may be what the times are of; then it says so.
    assert (cell["status"], cell["cause"]) in {("pass", ""), ("inconclusive", "client-bound")}
    assert cell["load"]["server"]["grown"]["cached_tokens"] == cached_tokens


@pytest.mark.parametrize(
    "title", ["", "VLLM::EngineCore", pytest.param("VLLM::Worker", marks=pytest.mark.long)]
)
def test_a_killed_process_ends_the_cell_with_its_cause_and_leaves_nothing(
    run_campaign: RunCampaign, title: str
) -> None:
    """The fixture looks for what is left; the campaign's own time limit is 900 s."""
    killing = Killing(title, check=_uses_shared_memory)
    outcome = run_campaign("vllm-0.32-killed", VLLM, meanwhile=killing)
    assert_killed(outcome, killing, title)


def _uses_shared_memory(pids: list[int]) -> None:
    assert mapped_segments(pids), "else nothing could be left behind, and this test tests nothing"
