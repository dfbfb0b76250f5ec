"""The campaigns in ``examples`` are read and planned."""

from __future__ import annotations

from pathlib import Path

import pytest

from leadline.campaign.planning import plan_local
from leadline.catalog.reading import read_table
from leadline.plan.campaign_plans import plan_campaign
from leadline.plan.neuron_kit import shape_settings
from leadline.spec import read_campaign
from leadline.units import parse_tokens

ROOT = Path(__file__).parents[1] / "examples"
EXAMPLES = [
    "scout-50-concurrent.yaml",
    "scout-variable-context.yaml",
    "small-concurrent.yaml",
    "small-search.yaml",
    "small-sweep.yaml",
    "small-variable-context.yaml",
]


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_cell_of_an_example_is_a_load_that_fits(name: str) -> None:
    campaign = read_campaign(ROOT / name)
    plans = plan_campaign(campaign, plan_local=plan_local)
    assert plans
    assert all(entry.cell.is_load for entry in plans)
    assert all(entry.is_feasible for entry in plans), [entry.reason for entry in plans]


def test_the_neuron_tables_are_the_kit_row_by_row_and_the_plan_foretells_each() -> None:
    campaign = read_campaign(ROOT / "llama33-neuron" / "tables.yaml")
    plans = plan_campaign(campaign)
    rows = read_table("neuron_kit")["row"]
    assert len(plans) == len(rows) == 14
    for entry, row in zip(plans, rows, strict=True):
        asked = shape_settings(row, kernel=bool(row.get("kernel")))
        assert dict(entry.cell.settings.settings) == asked, entry.cell.key
        assert entry.cell.settings.target.kind == "offline"
        assert entry.is_feasible == row["passed"], entry.cell.key


@pytest.mark.parametrize(
    ("name", "cells"), [("llama33-neuron/tables.yaml", 14), ("scout/tables.yaml", 7)]
)
def test_the_plan_comes_to_what_is_known_of_each_row_of_a_kit(name: str, cells: int) -> None:
    plans = plan_campaign(read_campaign(ROOT / name))
    assert len(plans) == cells
    for entry in plans:
        expected = entry.cell.settings.expect
        assert expected, entry.cell.key
        assert entry.is_feasible == (expected.verdict == "pass"), entry.cell.key


def test_the_small_sister_of_the_scout_report_has_its_rows_at_a_sixty_fourth() -> None:
    kit, small = (
        [cell for cell in read_campaign(ROOT / name).cells() if "vllm" in str(cell.settings.engine)]
        for name in ("scout/tables.yaml", "small-scout.yaml")
    )
    for row, sister in zip(kit, small, strict=True):
        assert row.settings.expect == sister.settings.expect
        assert int(row.workload.longest_input) // 64 == sister.workload.longest_input
        windows = [c.settings.settings["max_model_len"] for c in (row, sister)]
        assert parse_tokens(str(windows[0])) == 64 * parse_tokens(str(windows[1]))


def test_fifty_concurrent_requests_fit_at_once() -> None:
    plans = plan_campaign(read_campaign(ROOT / "scout-50-concurrent.yaml"))
    assert [entry.cell.workload.load.users for entry in plans if entry.cell.workload.load] == [
        1, 8, 50
    ]  # fmt: skip
    assert all(entry.plan.limits.concurrent_requests >= 50 for entry in plans)  # type: ignore[union-attr]


def test_two_hundred_prefills_cost_two_hundred_times_one() -> None:
    campaign = read_campaign(ROOT / "scout-50-concurrent.yaml")
    (entry, *_) = plan_campaign(campaign)
    time = entry.plan.time  # type: ignore[union-attr]
    assert time
    assert entry.gpu_hours == pytest.approx(200 * 8 * time.prefill_s.expected / 3600)
