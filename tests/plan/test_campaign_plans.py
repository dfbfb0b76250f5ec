from __future__ import annotations

import pytest

from leadline.plan.campaign_plans import plan_campaign, plan_cell, sum_gpu_hours
from leadline.spec import parse_campaign

SCOUT = """
name: scout-2m
model: meta-llama/Llama-4-Scout-17B-16E-Instruct
hardware: 8xH200
deployments:
  vllm:
    engine: vllm==0.12.0
    settings: {tensor_parallel_size: 8, max_model_len: 2M, gpu_memory_utilization: 0.9}
  vllm-5m:
    extends: vllm
    settings: {tensor_parallel_size: 8, max_model_len: 5M, gpu_memory_utilization: 0.9}
  sglang:
    engine: sglang==0.5.6.post2
    settings: {tp_size: 8, context_length: 2M}
  local:
    engine: llamacpp
matrix:
  workload.input_tokens: [10k, 1M, max]
"""


def test_every_cell_is_planned_or_says_why_not() -> None:
    campaign = parse_campaign(SCOUT, source="scout.yaml")
    plans = plan_campaign(campaign)
    assert len(plans) == 12
    verdicts = {entry.cell.key: entry.plan.verdict for entry in plans if entry.plan}
    assert {verdict.split("(")[0] for verdict in verdicts.values()} == {
        "fits",
        "starts_but_unusable",
        "risk_oom_outside_budget",
    }
    unplanned = [entry for entry in plans if entry.plan is None]
    assert len(unplanned) == 3
    assert all("llamacpp" in entry.reason for entry in unplanned)


def test_max_is_the_longest_prompt_of_the_engine() -> None:
    campaign = parse_campaign(SCOUT, source="scout.yaml")
    cells = [cell for cell in campaign.cells() if cell.workload.input_tokens == "max"]
    plan = plan_cell(campaign, next(c for c in cells if c.settings.engine == "vllm==0.12.0"))
    assert plan.limits.input_tokens == plan.limits.max_input_tokens == 2_096_952


def test_device_hours_count_feasible_cells_and_repeats() -> None:
    plans = plan_campaign(parse_campaign(SCOUT, source="scout.yaml"))
    feasible = [entry for entry in plans if entry.is_feasible]
    assert len(feasible) == 3
    # Three cold prefills of 2M dominate: 3 x about 170 s x 8 devices, a good hour.
    assert sum_gpu_hours(plans) == pytest.approx(1.6, abs=0.3)


def test_missing_facts_are_named() -> None:
    text = SCOUT.replace("hardware: 8xH200\n", "")
    plans = plan_campaign(parse_campaign(text, source="scout.yaml"))
    assert plans[0].plan is None
    assert "no hardware" in plans[0].reason
