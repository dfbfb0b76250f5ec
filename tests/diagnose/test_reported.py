"""What strangers reported in public is told rightly, or honestly not known; never wrongly."""

from __future__ import annotations

import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from leadline.diagnose.diagnosis import Diagnosis, diagnose
from leadline.diagnose.facts import LogFacts
from leadline.diagnose.log import read_log, split_lines

DATA = Path(__file__).parents[1] / "data" / "reported-failures.toml"
REPORTED = tomllib.loads(DATA.read_text(encoding="utf-8"))["log"]
MOST_LINES = 8


def told(diagnosis: Diagnosis) -> str:
    if diagnosis.primary:
        return "unknown" if diagnosis.is_unknown else diagnosis.primary.code
    return f"note {diagnosis.notes[0].code}" if diagnosis.notes else "none"


@pytest.mark.parametrize("case", REPORTED, ids=lambda case: case["source"].split("/", 3)[-1])
def test_a_reported_failure_is_told_rightly_or_not_at_all(case: dict[str, Any]) -> None:
    log = read_log(split_lines(case["lines"].strip()))
    assert told(diagnose(log, LogFacts(log), "log")) == case["expect"]


def test_the_reports_are_many_short_and_each_from_a_thread_of_its_own() -> None:
    sources = Counter(case["source"] for case in REPORTED)
    assert len(sources) >= 40
    assert set(sources.values()) == {1}
    for case in REPORTED:
        assert len(split_lines(case["lines"].strip())) <= MOST_LINES
