"""Real vLLM 0.12.0, the version of the kits: the same proofs, and its livelock."""

from __future__ import annotations

import pytest
from tests.real_engines.conftest import RunCampaign
from tests.real_engines.environments import VLLM_0_12 as VLLM
from tests.real_engines.killing import Killing
from tests.real_engines.outcomes import assert_killed, assert_two_million

pytestmark = [pytest.mark.engine, pytest.mark.timeout(2400)]


def test_two_million_tokens_are_counted_cold_and_answered(run_campaign: RunCampaign) -> None:
    assert_two_million(run_campaign("vllm-0.12-long", VLLM))


def test_an_engine_whose_cache_cannot_hold_its_window_gets_no_request(
    run_campaign: RunCampaign,
) -> None:
    outcome = run_campaign("vllm-0.12-livelock", VLLM)
    (finding,) = outcome.report["findings"]
    assert finding["code"] == "START015"
    assert "0.52x" in finding["evidence"][0]
    assert "at most 4,096" in finding["remedy"]
    assert outcome.report["cells"][0]["trials"] == []
    assert outcome.code == 2


def test_a_request_larger_than_the_cache_is_told_from_a_slow_one(run_campaign: RunCampaign) -> None:
    outcome = run_campaign("vllm-0.12-livelock", VLLM, "--try-infeasible")
    (finding,) = outcome.report["findings"]
    assert (finding["code"], finding["cause"]) == ("RUN010", "hang")
    assert any("holds 4,096 at most" in line for line in finding["evidence"])
    # On a busy machine the spinning engine starves its own server: that is told in their place.
    seen = ("running 0, waiting 1", "Running: 0 reqs, Waiting: 1 reqs", "not answered")
    assert any(words in line for line in finding["evidence"] for words in seen)


def test_a_killed_core_ends_the_cell_with_its_cause(run_campaign: RunCampaign) -> None:
    killing = Killing("VLLM::EngineCore")
    outcome = run_campaign("vllm-0.12-killed", VLLM, meanwhile=killing)
    assert_killed(outcome, killing, "VLLM::EngineCore")
