"""Which cells are meant, in which order they come, and what a run may take."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.test_spec import SMALL, parse, problem

from leadline.errors import SpecError
from leadline.spec import Budget, Campaign, order_work, select_cells
from leadline.units import parse_seconds

deployments = st.dictionaries(
    st.sampled_from("abc"),
    st.sampled_from(
        [{"target": "http://h:1"}, {"engine": "vllm", "model": "m", "target": "offline"}]
    ),
    min_size=1,
)
matrices = st.fixed_dictionaries(
    {},
    optional={
        "workload.input_tokens": st.lists(st.integers(1, 9), min_size=1, max_size=3, unique=True),
        "settings.s": st.lists(st.integers(1, 9), min_size=1, max_size=3, unique=True),
        "include": st.just([{"workload.input_tokens": 99, "workload.repeats": 1, "settings.s": 1}]),
    },
)


@given(deployments, matrices, st.integers(1, 3), st.sampled_from(["in_turn", "interleaved"]))
def test_every_trial_of_every_cell_comes_exactly_once(
    kinds: dict[str, Any], matrix: dict[str, Any], repeats: int, order: str
) -> None:
    campaign = Campaign.model_validate(
        {
            "name": "p",
            "deployments": kinds,
            "matrix": matrix,
            "workload": {"repeats": repeats},
            "order": order,
        }
    )
    turns = Counter((turn.cell.key, turn.trial) for turn in order_work(campaign))
    assert turns == Counter(
        (cell.key, trial)
        for cell in campaign.cells()
        for trial in range(1, cell.workload.repeats + 1)
    )


@given(deployments, matrices)
def test_in_turn_every_deployment_is_started_once(
    kinds: dict[str, Any], matrix: dict[str, Any]
) -> None:
    campaign = Campaign.model_validate({"name": "p", "deployments": kinds, "matrix": matrix})
    up = [turn.cell.deployment for turn in order_work(campaign)]
    changes = sum(before != after for before, after in pairwise(up))
    assert changes == len(set(up)) - 1


COMPARED = """\
name: compared
order: interleaved
deployments:
  a: {target: "http://127.0.0.1:1"}
  b: {target: "http://127.0.0.1:2"}
matrix: {workload.input_tokens: [1k, 2k]}
workload: {repeats: 2}
"""


def test_what_is_compared_takes_turns_and_nobody_is_always_first() -> None:
    shown = [f"{c.deployment}{c.workload.input_tokens}-{n}" for c, n in order_work(parse(COMPARED))]
    assert shown == [
        *("b1000-1", "a1000-1", "a2000-1", "b2000-1"),
        *("a1000-2", "b1000-2", "b2000-2", "a2000-2"),
    ]


def test_chosen_cells_are_compared_with_their_like() -> None:
    campaign = parse(COMPARED)
    chosen = select_cells(list(campaign.cells()), ["input_tokens=2k", "a/input_tokens=1000"])
    turns = [(turn.cell.key, turn.trial) for turn in order_work(campaign, chosen)]
    assert [key for key, trial in turns if trial == 1] == [
        "a/input_tokens=1000",
        "a/input_tokens=2000",
        "b/input_tokens=2000",
    ]


GRID = (
    SMALL
    + """\
  y: {engine: llamacpp}
matrix:
  settings.ctx_size: [4096, 8192]
  workload.input_tokens: [1k, max]
"""
)


@pytest.mark.parametrize(
    ("pattern", "count"),
    [
        ("x/ctx_size=4096/input_tokens=1000", 1),
        ("x", 4),
        ("x/ctx_size=8192", 2),
        ("x/*", 4),
        ("*/input_tokens=max", 4),
        ("input_tokens=max", 4),
        ("input_tokens=1k", 4),
        ("workload.input_tokens=1000", 4),
        ("settings.ctx_size=8192", 4),
        ("ctx_size=*", 8),
        ("[xy]/ctx_size=4096/*", 4),
    ],
)
def test_cells_are_named_by_id_glob_and_label(pattern: str, count: int) -> None:
    assert len(select_cells(list(parse(GRID).cells()), [pattern])) == count


def test_several_patterns_add_up() -> None:
    cells = list(parse(GRID).cells())
    assert len(select_cells(cells, ["x/ctx_size=4096", "input_tokens=max"])) == 5


@pytest.mark.parametrize("pattern", ["input_tokens=2k", "z", "x/ctx_size", "ctx_size=1?"])
def test_a_pattern_that_means_no_cell_is_refused_with_the_nearest(pattern: str) -> None:
    with pytest.raises(SpecError, match="is no cell of the campaign") as refusal:
        select_cells(list(parse(GRID).cells()), ["x", pattern])
    assert "--dry-run lists all cells" in refusal.value.cure


# --- budget ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(90, 90), ("90s", 90), ("10m", 600), ("1.5h", 5400), ("1h30m", 5400), ("1 h 5 min 2 s", 3902)],
)
def test_durations_are_read(text: str | float, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "h", "2 days", "-1s", True])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration; write 90s"):
        parse_seconds(text)


def test_a_budget_has_limits_prices_and_a_question() -> None:
    budget = parse(
        SMALL + "budget: {time: 2h, usd: 5, usd_per_device_hour: 2, ask_above: {time: 10m}}\n"
    ).budget
    assert (budget.time, budget.usd, budget.ask_above.time) == (7200, 5, 600)
    assert budget.price_usd(3600, 8 * 1800) == 8
    assert Budget(usd_per_hour=3).price_usd(1800, 0) == 1.5
    assert Budget().price_usd(1, 1) is None


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ("{usd: 5}", "budget: money needs a price: give usd_per_device_hour or usd_per_hour"),
        ("{ask_above: {usd: 5}}", "budget: money needs a price"),
        ("{time: soon}", "budget.time: 'soon' is not a duration"),
        ("{device_hour: 5}", "budget.device_hour: unknown key; did you mean 'device_hours'?"),
        ("{ask_above: {hours: 1}}", "budget.ask_above.hours: unknown key"),
        ("{device_hours: 0}", "budget.device_hours: Input should be greater than 0"),
    ],
)
def test_a_budget_that_cannot_be_meant_is_refused(budget: str, message: str) -> None:
    assert message in problem(SMALL + f"budget: {budget}\n")


def test_a_run_is_resumed_with_a_larger_budget() -> None:
    plain, small = parse(SMALL), parse(SMALL + "budget: {time: 1m}\n")
    assert plain.digest() == small.digest()
    assert plain.digest() != parse(SMALL + "seed: 1\n").digest()
