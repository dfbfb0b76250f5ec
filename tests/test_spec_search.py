"""A search in a campaign file: what it means, and what it cannot be combined with."""

from __future__ import annotations

from typing import Any

import pytest

from leadline.errors import SpecError
from leadline.spec import Campaign, level_cell, parse_campaign, search_key
from leadline.spec.search import Search, change_cell

BASE = """
name: s
model: tiny
deployments: {{x: {{engine: llamacpp, settings: {{ctx_size: 1024}}}}}}
workload: {workload}
search: {search}
{more}
"""


def read(search: str, workload: str = "{output_tokens: 8}", more: str = "") -> Campaign:
    text = BASE.format(search=search, workload=workload, more=more)
    return parse_campaign(text, source="s.yaml")


def search_of(campaign: Campaign) -> Search:
    assert campaign.search
    return campaign.search


def test_each_cell_of_the_matrix_is_one_search_and_each_level_a_cell() -> None:
    more = "matrix: {workload.load.users: [1, 2]}"
    campaign = read("{maximise: input_tokens, within: gates}", "{output_tokens: 8}", more)
    search, seeds = search_of(campaign), list(campaign.cells())
    assert [search_key(search, seed) for seed in seeds] == ["x/load.users=1", "x/load.users=2"]
    cell = level_cell(search, seeds[1], 512)
    assert cell.key == "x/input_tokens=512/load.users=2"
    assert (cell.deployment, cell.workload.input_tokens) == ("x", 512)
    assert level_cell(search, seeds[1], 512, take=2).key == f"{cell.key}/take=2"


def test_all_users_have_something_to_ask() -> None:
    campaign = read("{maximise: concurrency}", "{input_tokens: 100, load: {requests: 6}}")
    search, (seed,) = search_of(campaign), campaign.cells()
    loads = [level_cell(search, seed, users).workload.load for users in (2, 6, 9)]
    assert [(load.users, load.requests) for load in loads if load] == [(2, 6), (6, 6), (9, 9)]
    campaign = read("{maximise: concurrency}", "{input_tokens: 100}")
    (seed,) = campaign.cells()
    load = level_cell(search_of(campaign), seed, 4).workload.load
    assert load
    assert (load.users, load.requests) == (4, 8)
    assert level_cell(search_of(campaign), seed, 4).key == "x/input_tokens=100/load.users=4"


def test_changed_settings_make_another_deployment() -> None:
    campaign = read("{maximise: input_tokens}")
    (seed,) = campaign.cells()
    cell = level_cell(search_of(campaign), seed, 2000, 1, {"ctx_size": 2048}, {"A_B": "1"})
    assert cell.deployment == "x/ctx_size=2048/A_B=1"
    assert cell.key == f"{cell.deployment}/input_tokens=2000"
    assert cell.settings.settings == {"ctx_size": 2048}
    assert cell.settings.env == {"A_B": "1"}
    assert change_cell(seed, {"ctx_size": None}, {}).settings.settings == {}


@pytest.mark.parametrize(
    ("facts", "problem"),
    [
        ({"search": "{maximise: tokens}"}, "'input_tokens' or 'concurrency'"),
        ({"search": "{maximise: input_tokens, healed: true}"}, "did you mean 'heal'"),
        ({"search": "{maximise: input_tokens, levels: [4, 2]}"}, "rising order"),
        ({"search": "{maximise: input_tokens, low: 9, high: 8}"}, "low is above high"),
        ({"workload": "{input_tokens: 8}"}, "it finds input_tokens itself"),
        (
            {"search": "{maximise: concurrency}", "workload": "{load: {users: 2}}"},
            "users cannot be combined",
        ),
        ({"workload": "{load: {sweep: {users: [1]}}}"}, "sweep cannot be combined"),
        ({"more": "matrix: {workload.input_tokens: [1, 2]}"}, "out of the matrix"),
        (
            {"more": "matrix: {zip: {workload.input_tokens: [1], settings.threads: [2]}}"},
            "out of the matrix",
        ),
        ({"more": "order: interleaved"}, "leave order: interleaved out"),
    ],
)
def test_what_cannot_be_meant_is_refused(facts: dict[str, Any], problem: str) -> None:
    with pytest.raises(SpecError) as refused:
        read(**{"search": "{maximise: input_tokens}", **facts})
    assert problem in refused.value.what
