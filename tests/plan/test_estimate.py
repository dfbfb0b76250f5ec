"""What a run is foretold to take: by the plan, by what was measured, and by nothing."""

from __future__ import annotations

from typing import Any

import pytest

from leadline.plan.campaign_plans import plan_campaign
from leadline.plan.estimate import Estimate, Seen, describe_estimate, estimate_run, find_excess
from leadline.plan.time import PrefillModel
from leadline.spec import Budget, Campaign, parse_campaign

SCOUT = """\
name: scout
model: meta-llama/Llama-4-Scout-17B-16E-Instruct
hardware: 8xH200
deployments:
  a: {engine: vllm==0.12.0, settings: {tensor_parallel_size: 8, max_model_len: 2M, max_num_seqs: 8}}
  b: {extends: a, settings: {gpu_memory_utilization: 0.91}}
matrix: {workload.input_tokens: [10k, 1M]}
"""
SERVER = """\
name: server
deployments: {s: {target: "http://h:1", model: m}}
matrix: {workload.input_tokens: [1k, 2k]}
workload: {output_tokens: 10, limit_probes: false}
"""


def estimated(text: str, **seen: Seen) -> tuple[Campaign, Estimate]:
    campaign = parse_campaign(text, source="c.yaml")
    plans = plan_campaign(campaign)
    owed = {plan.cell.key: len(plan.cell.trials) for plan in plans if not plan.refusal}
    return campaign, estimate_run(campaign, plans, owed, seen)


def model(*probes: tuple[int, float], tpot_s: float) -> PrefillModel:
    made = PrefillModel()
    for tokens, ttft_s in probes:
        made.learn(tokens, ttft_s, tpot_s)
    return made


def test_the_plan_foretells_starts_trials_and_the_prompt_at_the_limit() -> None:
    _, found = estimated(SCOUT)
    assert (found.trials, len(found.starts), found.is_complete) == (12, 2, True)
    assert {entry.source for entry in found.cells} == {"plan"}
    trials_s = sum(
        entry.trials * entry.plan.plan.time.request_s  # type: ignore[union-attr]
        for entry in found.cells
    )
    starts_s = sum(start.seconds.expected for start in found.starts if start.seconds)
    assert found.time_s.expected == pytest.approx(trials_s + starts_s)
    assert found.time_s.low < found.time_s.expected < found.time_s.high
    assert found.device_s == pytest.approx(8 * found.time_s.expected)
    without = estimated(f"{SCOUT}workload: {{limit_probes: false}}\n")[1]
    # One prompt of 2M a deployment takes longer than its start.
    assert found.time_s.expected > without.time_s.expected + 2 * 100


def test_devices_wait_for_each_other_where_all_are_up_at_once() -> None:
    _, in_turn = estimated(SCOUT)
    _, together = estimated(f"{SCOUT}order: interleaved\n")
    assert together.time_s == in_turn.time_s
    assert together.device_s == pytest.approx(2 * in_turn.device_s)


def test_what_was_measured_goes_before_the_plan() -> None:
    seen = Seen(model((1000, 2.0), tpot_s=0.1), start_s=30)
    _, found = estimated(SERVER, s=seen)
    by_cell = {e.cell.key: (e.seconds.expected, e.source) for e in found.cells if e.seconds}
    assert by_cell["s/input_tokens=1000"] == (pytest.approx(3 * (2.0 + 1.0)), "measured")
    assert by_cell["s/input_tokens=2000"][0] > 3 * (2 * 2.0 / 1.15 + 1.0)
    assert found.starts[0].seconds == (0, 0, 0)  # somebody else's server runs already


def test_what_nobody_knows_is_named_and_not_guessed() -> None:
    campaign, found = estimated(SERVER)
    assert found.unknown == ("s/input_tokens=1000", "s/input_tokens=2000")
    told = describe_estimate(found, campaign.budget)
    assert (told["complete"], told["time_s"]["expected"], told["usd"]) == (False, 0, None)


def test_a_load_takes_at_least_its_prefills() -> None:
    _, found = estimated(f"{SCOUT}workload: {{load: {{users: 4, requests: 20}}}}\n")
    assert all(entry.at_least for entry in found.cells)
    assert not found.is_complete


def asked(text: str, budget: dict[str, Any]) -> list[str]:
    _, found = estimated(text)
    return list(find_excess(Budget.model_validate(budget), found))


def test_somebody_is_asked_only_above_a_limit() -> None:
    priced = {"usd_per_device_hour": 4}
    assert asked(SCOUT, {}) == []
    assert asked(SCOUT, {"ask_above": {"time": "10h", "device_hours": 80}}) == []
    (why,) = asked(SCOUT, {"ask_above": {"device_hours": 1}})
    assert why.endswith(
        "device hours are foretold, budget.ask_above.device_hours is 1 device hours"
    )
    (why,) = asked(SCOUT, {**priced, "ask_above": {"usd": 1}})
    assert "USD are foretold, budget.ask_above.usd is 1.00 USD" in why


def test_what_cannot_be_foretold_asks_unless_a_cap_bounds_it() -> None:
    (why,) = asked(SERVER, {"ask_above": {"time": 60}})
    assert why.startswith("nobody can say how much it will take")
    assert asked(SERVER, {"time": 60, "ask_above": {"time": 60}}) == []
    assert asked(SCOUT, {"time": 60, "ask_above": {"time": 60}}) == []
    assert len(asked(SERVER, {"time": 90, "ask_above": {"time": 60}})) == 1
