"""The guard of a budget, and what a journal says was spent."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.factory import RunWriter, make_clock, make_exchange, make_record

from leadline.campaign.budget import BudgetReachedError, Meter
from leadline.campaign.planning import count_devices, plan_cells, require_countable
from leadline.errors import SpecError
from leadline.journal import Run
from leadline.spec import Budget, parse_campaign
from leadline.verdict.spent import Spent, read_spent


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def meter(budget: dict[str, Any], earlier: Spent | None = None, **devices: int | None) -> Meter:
    made = Meter(Budget.model_validate(budget), earlier or Spent(), devices, clock := Clock())
    made.test_clock = clock  # type: ignore[attr-defined]
    return made


def wait(made: Meter, seconds: float) -> None:
    made.test_clock.now += seconds  # type: ignore[attr-defined]


def refused(made: Meter, seconds: float = 0.0, starting: str | None = None) -> str:
    with pytest.raises(BudgetReachedError) as reached:
        made.require(seconds, starting)
    return reached.value.text


def test_without_a_budget_everything_may_take_place() -> None:
    meter({}, Spent(1e9, 1e9)).require(1e9)


def test_time_is_that_of_all_processes_of_the_run() -> None:
    made = meter({"time": "10m"}, Spent(500, 0))
    wait(made, 60)
    made.require()
    wait(made, 40)
    assert refused(made) == "time: 10 min 00 s of 10 min 00 s are used"


def test_what_is_predicted_to_take_longer_than_is_left_is_not_begun() -> None:
    made = meter({"time": 100})
    wait(made, 40)
    made.require(60)
    assert refused(made, 61) == (
        "time: 40 s of 1 min 40 s are used, and the next step is predicted to take 61 s"
    )


def test_every_device_of_every_deployment_that_is_up_counts() -> None:
    made = meter({"device_hours": 1}, a=8, b=2)
    with made.up("a"):
        wait(made, 90)
        with made.up("b"):
            wait(made, 90)
    wait(made, 1000)
    assert made.spent == Spent(1180, 8 * 180 + 2 * 90)
    made.require(240, "a")
    assert refused(made, 250, "a").startswith("device_hours: 0.45 device hours of 1 device hours")


def test_money_is_that_of_devices_and_of_machines() -> None:
    made = meter({"usd": 10, "usd_per_hour": 36, "usd_per_device_hour": 4.5}, a=8)
    with made.up("a"):
        wait(made, 400)
        assert refused(made, 200) == (
            "usd: 8.00 USD of 10.00 USD are used, and the next step is predicted to take 4.00 USD"
        )


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=20), st.floats(1, 300))
def test_a_cap_holds_where_predictions_do(trials: list[float], cap: float) -> None:
    made = meter({"time": cap})
    for seconds in trials:
        try:
            made.require(seconds)
        except BudgetReachedError:
            break
        wait(made, seconds)
    assert made.spent.time_s <= cap * (1 + 1e-9)


def test_an_unknown_number_of_devices_is_no_cap() -> None:
    text = "name: a\nmodel: m\ndeployments: {x: {engine: vllm==0.12.0}}\n"
    campaign = parse_campaign(text, source="c.yaml")
    devices = count_devices(plan_cells(campaign).values())
    assert devices == {"x": None}
    require_countable(Budget(time=1), campaign.cells(), devices)
    with pytest.raises(SpecError, match="nobody knows how many devices x takes"):
        require_countable(Budget(device_hours=1), campaign.cells(), devices)


def test_devices_are_those_of_the_plan() -> None:
    text = """\
name: a
model: meta-llama/Llama-4-Scout-17B-16E-Instruct
hardware: 8xH200
deployments: {x: {engine: vllm==0.12.0, settings: {tensor_parallel_size: 8}}}
matrix: {workload.input_tokens: [10k, 1M]}
"""
    campaign = parse_campaign(text, source="c.yaml")
    assert count_devices(plan_cells(campaign).values()) == {"x": 8}


# --- what the journal says ----------------------------------------------------------------------

CAMPAIGN = "name: x\ndeployments: {x: {target: 'http://h:1'}}\nworkload: {input_tokens: 100}\n"
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def journal(tmp_path: Path, *events: tuple[int, str, dict[str, Any]]) -> Path:
    """Events at seconds after noon, and one answer of five seconds, twenty seconds after it."""
    writer = RunWriter(tmp_path, CAMPAIGN)
    clock = make_clock(end_ms=5000).model_copy(update={"wall_start": "2026-01-02T12:00:20+00:00"})
    writer.journal.record(make_record(make_exchange(clock=clock)))
    writer.journal.close()
    lines = [
        {"at": (NOON + timedelta(seconds=at)).isoformat(), "event": kind, **facts}
        for at, kind, facts in events
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (writer.path / "events.jsonl").write_text(text, encoding="utf-8")
    return writer.path


X = {"deployment": "x", "attempt": 1, "devices": 4}


def test_pauses_between_processes_are_not_counted(tmp_path: Path) -> None:
    path = journal(
        tmp_path,
        (0, "run_started", {}),
        (10, "deployment_starting", X),
        (40, "deployment_ended", X),
        (50, "run_finished", {}),
        (5000, "run_resumed", {}),
        (5010, "deployment_starting", X),
        (5030, "deployment_ended", X),
    )
    assert read_spent(Run(path)) == Spent(50 + 30, 4 * (30 + 20))


def test_a_killed_process_counts_until_it_last_wrote(tmp_path: Path) -> None:
    path = journal(
        tmp_path,
        (0, "run_started", {}),
        (10, "deployment_starting", X),
        (100, "run_resumed", {}),
        (110, "deployment_starting", X),
    )
    assert read_spent(Run(path)) == Spent(25 + 10, 4 * 15)


def test_a_journal_of_before_there_were_budgets_is_read(tmp_path: Path) -> None:
    old = {"deployment": "x", "attempt": 1}
    path = journal(tmp_path, (0, "run_started", {}), (10, "deployment_starting", old))
    assert read_spent(Run(path)) == Spent(25, 0)
    assert read_spent(Run(journal(tmp_path))) == Spent()
