"""Every difficulty that practitioners told of has its rule, or says why none can see it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from leadline.catalog.reading import read_table
from leadline.diagnose.explain import RULES
from leadline.lint.check import list_rules

DATA = Path(__file__).parents[1] / "data" / "practitioners-needs.txt"


class Need(NamedTuple):
    letter: str
    thread: str
    told: str

    @property
    def codes(self) -> list[str]:
        return [] if self.told.startswith("- ") else self.told.split()


def read_needs() -> list[Need]:
    lines = DATA.read_text(encoding="utf-8").splitlines()
    return [Need(*line.split(" ", 2)) for line in lines if not line.startswith("#")]


def known_codes() -> set[str]:
    verdicts = read_table("failures/measurement")["verdict"]
    rules = {rule.code for rule in RULES} | {rule.code for rule in list_rules()}
    return rules | {verdict["code"] for verdict in verdicts}


NEEDS = read_needs()


def test_all_groups_are_there_and_no_thread_twice() -> None:
    assert "".join(sorted({need.letter for need in NEEDS})) == "ABCDEFGHIJKLM"
    assert len({need.thread for need in NEEDS}) == len(NEEDS) >= 100


@pytest.mark.parametrize("need", NEEDS, ids=lambda need: need.thread)
def test_a_difficulty_has_rules_that_exist_or_says_why_it_leaves_no_trace(need: Need) -> None:
    assert set(need.codes) <= known_codes()
    assert need.codes or re.match(r"- .{10,}", need.told)
