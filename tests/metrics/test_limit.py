"""Which level comes next, and what the answers say: on oracles whose limit is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from math import log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadline.metrics.limit import Answer, Answered, Ask, Grid, Limit, judge_limit, next_ask

Oracle = Callable[[Ask], Answered]
MOST = 200


def search(grid: Grid, oracle: Oracle) -> tuple[Limit, list[Answer], list[Ask]]:
    answers: list[Answer] = []
    asks: list[Ask] = []
    while (ask := next_ask(grid, answers)) is not None:
        asks.append(ask)
        answers.append(Answer(ask.level, oracle(ask)))
        assert len(answers) < MOST, "it does not end"
    return judge_limit(grid, answers), answers, asks


def up_to(limit: int) -> Oracle:
    return lambda ask: "pass" if ask.level <= limit else "fail"


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    low = draw(st.integers(1, 1000))
    step = draw(st.integers(1, 64))
    levels = range(low, low + draw(st.integers(1, 200_000)) * step, step)
    start = levels[draw(st.integers(0, len(levels) - 1))]
    resolution = draw(st.integers(1, 512))
    return Grid(levels, start, resolution, checks=draw(st.booleans()))


@given(grids(), st.data())
def test_the_limit_of_a_monotone_oracle_is_found_at_the_resolution(
    grid: Grid, data: st.DataObject
) -> None:
    truth = data.draw(st.integers(grid.levels[0] - 1, grid.levels[-1] + 5))
    found, answers, asks = search(grid, up_to(truth))
    assert max(Counter(ask.level for ask in asks).values()) == 1, "asked twice without need"
    assert all(ask.level in grid.levels for ask in asks)
    assert found.is_monotone
    assert not found.wavering
    if truth < grid.levels[0]:
        assert (found.holds_to, found.fails_from) == (None, grid.levels[0])
    elif found.fails_from is None:
        assert found.holds_to == grid.levels[-1]
    else:
        assert found.holds_to is not None
        assert found.holds_to <= truth < found.fails_from
        near = found.fails_from - found.holds_to <= grid.resolution
        inner = grid.levels.index(found.fails_from) - grid.levels.index(found.holds_to)
        assert near or inner == 1
    width = (grid.levels[-1] - grid.levels[0]) / grid.resolution + 2
    assert len(answers) <= 2 * log2(width) + 14


@given(grids(), st.data())
def test_every_step_keeps_a_pass_below_and_a_fail_above(grid: Grid, data: st.DataObject) -> None:
    truth = data.draw(st.integers(grid.levels[0], grid.levels[-1]))
    _, answers, _ = search(grid, up_to(truth))
    for known in range(1, len(answers) + 1):
        found = judge_limit(grid, answers[:known])
        assert found.holds_to is None or found.holds_to <= truth
        assert found.fails_from is None or found.fails_from > truth


@given(grids(), st.data())
def test_any_prefix_of_the_answers_gives_the_same_next_question(
    grid: Grid, data: st.DataObject
) -> None:
    """What a resumed search does: whatever the oracle, the question follows from the answers."""
    drawn = st.sampled_from(["pass", "fail", "fail", "unknown"])
    _, answers, asks = search(grid, lambda ask: data.draw(drawn))  # type: ignore[return-value]
    for known in range(len(answers)):
        assert next_ask(grid, list(answers[:known])) == asks[known]


@given(grids(), st.randoms(use_true_random=False))
def test_it_ends_whatever_is_answered(grid: Grid, random: object) -> None:
    outcomes = ("pass", "fail", "unknown")
    _, answers, asks = search(grid, lambda ask: random.choice(outcomes))  # type: ignore[attr-defined]
    assert max(Counter(ask.level for ask in asks).values()) <= 5
    assert next_ask(grid, answers) is None


@pytest.mark.parametrize("limit", [1, 99, 100, 101, 250, 999, 1000])
def test_from_a_good_plan_few_questions_are_enough(limit: int) -> None:
    found, answers, _ = search(Grid(range(1, 1001), limit, 1), up_to(limit))
    assert found.holds_to == limit
    assert len(answers) <= 4


def test_the_kits_batch_sizes_are_found_not_monotone() -> None:
    """Neuron, 64K: batch 1 and 3 work, 2 and 4 do not; both sides are repeated to be sure."""
    works = {1, 3}
    found, _, asks = search(
        Grid((1, 2, 3, 4), 4, 1), lambda ask: "pass" if ask.level in works else "fail"
    )
    assert [(ask.level, ask.take) for ask in asks] == [
        (4, 1), (3, 1), (2, 1), (3, 2), (2, 2), (1, 1),
    ]  # fmt: skip
    assert (found.holds_to, found.fails_from) == (1, 2)
    assert (found.highest_pass, found.fails_above) == (3, 4)
    assert not found.is_monotone


@given(st.integers(10, 4000), st.integers(2, 4000))
def test_a_hole_that_the_checks_meet_is_told(limit: int, width: int) -> None:
    """20K works, 29K fails, 35K works (vllm#10517)."""
    grid = Grid(range(1, 5001), min(limit + width, 5000), 1)
    hole = range(grid.start // 2 - 3, grid.start // 2 + 3)
    truth = up_to(grid.start)
    found, _, asks = search(grid, lambda ask: "fail" if ask.level in hole else truth(ask))
    met = [ask for ask in asks if ask.level in hole]
    if met and found.highest_pass == grid.start and min(hole) > 0:
        assert not found.is_monotone
        assert max(ask.take for ask in met) == 2
        assert found.fails_from == min(ask.level for ask in met)
        assert found.fails_from - (found.holds_to or 0) <= 1


def test_a_failure_by_chance_is_repeated_and_not_believed() -> None:
    def oracle(ask: Ask) -> Answered:
        if ask.level == 51 and ask.take == 1:
            return "fail"  # the check below the limit, disturbed
        return "pass" if ask.level <= 100 else "fail"

    found, _, asks = search(Grid(range(1, 201), 100, 1), oracle)
    assert [ask.take for ask in asks if ask.level == 51] == [1, 2, 3]
    assert (found.holds_to, found.wavering, found.is_monotone) == (100, (51,), True)


def test_a_level_without_an_answer_is_neither_pass_nor_fail() -> None:
    found, _, asks = search(
        Grid(range(1, 1001), 500, 1),
        lambda ask: "unknown" if ask.level == 500 else up_to(700)(ask),
    )
    assert [ask.take for ask in asks if ask.level == 500] == [1, 2]
    assert found.undecided == (500,)
    assert (found.holds_to, found.fails_from) == (700, 701)


def test_two_levels_without_an_answer_end_the_search() -> None:
    found, answers, _ = search(Grid(range(1, 1001), 500, 1), lambda ask: "unknown")
    assert (found.holds_to, found.fails_from, found.highest_pass) == (None, None, None)
    assert len(found.undecided) == 2
    assert len(answers) == 4


def test_buckets_are_the_only_levels_asked() -> None:
    buckets = (16_384, 32_768, 65_536, 131_072)
    found, _, asks = search(Grid(buckets, 131_072, 1), up_to(100_000))
    assert [ask.level for ask in asks] == [131_072, 65_536, 32_768]
    assert (found.holds_to, found.fails_from) == (65_536, 131_072)
