from __future__ import annotations

import itertools

import pytest

from leadline.plan.deployment import plan_deployment
from leadline.plan.search import trace_concurrency
from leadline.report.plan_charts import draw_concurrency, draw_waterfall, waterfall_rows

SCOUT = "Llama-4-Scout-17B-16E-Instruct"
EIGHT = {"tensor_parallel_size": 8}


def test_the_waterfall_ends_at_the_device() -> None:
    plan = plan_deployment(SCOUT, "8xH200", "vllm==0.12.0", settings=EIGHT, max_model_len="2M")
    rows = waterfall_rows(plan)
    assert rows[0]["start"] == 0
    for left, right in itertools.pairwise(rows):
        assert left["end"] == right["start"]
    assert rows[-1]["end"] == plan.memory.device_gib
    assert rows[-1]["end"] - rows[-1]["start"] == pytest.approx(plan.memory.margin_gib, abs=0.01)
    svg = draw_waterfall(plan)
    assert svg.startswith("<svg")
    assert "RoPE cache" in svg


def test_too_much_is_drawn_back_to_the_device() -> None:
    plan = plan_deployment(
        SCOUT, "8xH200", "sglang==0.5.6", settings={"tp_size": 8}, max_model_len="8M"
    )
    assert waterfall_rows(plan)[-1]["place"] == "too much"


def test_the_curve_falls_with_the_length() -> None:
    curve = trace_concurrency(SCOUT, "8xH200", "vllm==0.12.0", settings=EIGHT, max_model_len="2M")
    at_once = [requests for _, requests in curve]
    assert curve[-1][0] == 2_096_952
    assert at_once == sorted(at_once, reverse=True)
    assert at_once[-1] == 1
    assert draw_concurrency(curve).startswith("<svg")
