"""Which remedy of a finding is applied: one whose amount is known, and that was not tried."""

from __future__ import annotations

from typing import Any

import pytest
from tests.factory import make_finding

from leadline.campaign.healing import find_remedy
from leadline.records import Turn
from leadline.spec import Campaign
from leadline.verdict.search_schema import HealStep
from leadline.verdict.searches import Course

LOWER = Turn(setting="max_model_len", way="lower", to="4,096")
RAISE = Turn(setting="gpu_memory_utilization", way="raise", to="0.95")


def make_course(heals: tuple[dict[str, Any], ...] = (), **search: Any) -> Course:
    campaign = Campaign.model_validate(
        {
            "name": "s",
            "model": "tiny",
            "deployments": {"x": {"engine": "vllm==0.12.0", "settings": {"max_model_len": 8192}}},
            "search": {"maximise": "input_tokens", "heal": True, **search},
        }
    )
    assert campaign.search
    (seed,) = campaign.cells()
    facts = {"failed": "x", "code": "A", "title": "a", "remedy": "a"}
    done = tuple(HealStep(after=1, changes=changes, **facts) for changes in heals)
    return Course(campaign.search, seed, "x", {}, (), done)


@pytest.mark.parametrize(
    ("turns", "changes"),
    [
        ((LOWER,), {"max_model_len": 4096}),
        ((LOWER, RAISE), {"gpu_memory_utilization": 0.95}),  # the window is what is searched
        ((Turn(setting="max_num_seqs", way="lower"),), None),  # nobody knows how far
        ((Turn(setting="max_model_len", way="lower", to="8192"),), None),  # it is so already
        ((Turn(setting="the time limit", way="raise", to="9"),), None),  # no setting
        ((Turn(setting="max_model_len", way="remove"),), {"max_model_len": None}),
        ((Turn(setting="trust_remote_code", way="set", to="true"),), {"trust_remote_code": True}),
        ((Turn(setting="VLLM_X", way="raise", to="9"),), {"VLLM_X": 9}),
    ],
)
def test_the_first_turn_that_says_how_far(
    turns: tuple[Turn, ...], changes: dict[str, Any] | None
) -> None:
    course = make_course()
    found = find_remedy(course, course.seed, make_finding(turns=turns))
    assert (found.changes if found else None) == changes


def test_earlier_remedies_stay_and_none_is_tried_twice() -> None:
    course = make_course(heals=({"gpu_memory_utilization": 0.95},))
    found = find_remedy(course, course.opening, make_finding(turns=(LOWER, RAISE)))
    assert found
    assert found.changes == {"gpu_memory_utilization": 0.95, "max_model_len": 4096}
    assert find_remedy(course, course.opening, make_finding(turns=(RAISE,))) is None


def test_healing_is_asked_for_and_bounded() -> None:
    finding = make_finding(turns=(RAISE,))
    off, follows = make_course(heal=False), make_course(window="follows")
    assert find_remedy(off, off.seed, finding) is None
    assert find_remedy(follows, follows.seed, make_finding(turns=(LOWER,))) is None
    wider = Turn(setting="max_model_len", way="raise", to="16384")
    assert find_remedy(make_course(), off.seed, make_finding(turns=(wider,))) is None
    users = make_course(maximise="concurrency")
    assert find_remedy(users, users.seed, make_finding(turns=(wider,)))
    often = make_course(heals=({"a": 1}, {"a": 2}, {"a": 3}))
    assert find_remedy(often, often.seed, finding) is None
