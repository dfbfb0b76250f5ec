from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from leadline.campaign.draw import Asked, draw_requests, require_load
from leadline.errors import SpecError
from leadline.spec import Campaign, Load, Workload


def draw(count: int = 200, **workload: Any) -> list[Asked]:
    load = Load(users=1, requests=count)
    return draw_requests(Workload.model_validate({"load": load, **workload}), load, 4000, "7")


def test_a_list_is_taken_in_turn() -> None:
    assert [one.input_tokens for one in draw(5, input_tokens=[1, 9])] == [1, 9, 1, 9, 1]
    assert {one.output_tokens for one in draw(output_tokens=4)} == {4}


def test_distributions_are_those_of_the_campaign() -> None:
    assert {one.input_tokens for one in draw(input_tokens={"uniform": [1, 4]})} == {1, 2, 3, 4}
    shape = {"median": 100, "sigma": 2.0, "low": 50, "high": 200}
    drawn = [one.output_tokens for one in draw(output_tokens={"lognormal": shape})]
    assert min(drawn) >= 50
    assert max(drawn) <= 200
    assert len(set(drawn)) > 50


def test_max_is_the_longest_that_the_server_takes() -> None:
    assert [one.input_tokens for one in draw(2)] == [4000, 4000]


def test_each_turn_adds_an_equal_part_and_the_last_has_the_whole_length() -> None:
    drawn = draw(7, input_tokens=[10, 3000], turns=3)
    assert [one.input_tokens for one in drawn] == [3, 6, 10, 1000, 2000, 3000, 3]
    assert [one.more for one in drawn] == [True, True, False, True, True, False, False]
    assert [one.conversation for one in drawn] == [0, 0, 0, 1, 1, 1, 2]


def test_turns_of_an_open_loop_come_when_their_conversation_does() -> None:
    load = Load(rate=2, arrivals="constant", requests=4)
    drawn = draw_requests(Workload(load=load, input_tokens=8, turns=2), load, 0, "7")
    assert [one.at_s for one in drawn] == [0.0, 0.0, 0.5, 0.5]


def test_a_trace_gives_lengths_and_times(tmp_path: Path) -> None:
    path = tmp_path / "day.jsonl"
    lines = [{"timestamp": 1000 * n, "input_length": 9 + n, "output_length": n} for n in (1, 2, 4)]
    path.write_text("\n".join(map(json.dumps, lines)))
    load = Load(trace=str(path), requests=2)
    drawn = draw_requests(Workload(load=load), load, 0, "7")
    assert drawn == [Asked(10, 1, 0.0), Asked(11, 2, 1.0)]


def test_a_trace_that_is_not_there_is_refused_before_anything_starts() -> None:
    spec = {"name": "a", "deployments": {"x": {"target": "http://h:1"}}}
    workload = {"load": {"trace": "none.jsonl"}}
    campaign = Campaign.model_validate(spec | {"workload": workload})
    with pytest.raises(SpecError) as refusal:
        require_load(next(campaign.cells()))
    assert refusal.value.cure
