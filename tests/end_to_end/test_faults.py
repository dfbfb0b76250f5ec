"""Leadline is killed at random moments of a real campaign; in the end all is as if it never was.

``LEADLINE_FAULTS`` says how many times, ``LEADLINE_FAULT_SEED`` which moments.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path
from random import Random
from signal import SIGKILL
from subprocess import TimeoutExpired
from typing import Any

import pytest
from tests.end_to_end.disturbed import (
    PHASES,
    STREAMS,
    Disturbed,
    draw_moments,
    loads,
    make_campaign,
    results,
    sooner,
)

FAULTS = int(os.environ.get("LEADLINE_FAULTS", "12"))
SEED = int(os.environ.get("LEADLINE_FAULT_SEED", "8"))
# A campaign ends undisturbed after so many deaths, so that many are begun and ended.
DEATHS_OF_ONE = 12
EVERY_PHASE_FROM = 150
LIMIT_S = 120.0


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_campaign(tmp_path_factory.mktemp("campaign"))


@pytest.fixture(scope="module")
def whole(campaign: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The undisturbed run: its results, its time and how many lines it journals."""
    run = Disturbed(campaign, tmp_path_factory.mktemp("whole"))
    begun = time.monotonic()
    assert run.launch().wait(LIMIT_S) == 2
    seconds = time.monotonic() - begun
    run.note_death()
    found = results(run)
    assert found["finished"]
    assert [status for _, status, _ in found["cells"]].count("pass") == 5
    lines = sum(len(run.lines(stream)) for stream in STREAMS)
    return {"results": found, "loads": loads(run), "seconds": seconds, "lines": lines}


def test_killed_at_random_moments_the_results_are_those_of_an_undisturbed_run(
    campaign: Path, whole: dict[str, Any], tmp_path: Path
) -> None:
    random = Random(SEED)  # noqa: S311
    moments = draw_moments(random, FAULTS, whole["seconds"], whole["lines"])
    phases: Counter[str] = Counter()
    deaths = begun = 0
    while moments:
        begun += 1
        run = Disturbed(campaign, tmp_path / str(begun))
        deaths += _disturb(run, moments)
        phases += run.phases
        _require_equal(run, whole)
        print(f"{deaths} of {FAULTS} deaths, {begun} campaigns equal", flush=True)  # noqa: T201
    print(f"{deaths} deaths of {begun} campaigns, after: {dict(phases.most_common())}")  # noqa: T201
    assert deaths == FAULTS
    if FAULTS >= EVERY_PHASE_FROM:
        assert set(phases) == PHASES


def _disturb(run: Disturbed, moments: list[tuple[str, ...]]) -> int:
    """Kill it again and again, then let it end. A moment that it does not see comes sooner."""
    deaths = 0
    while moments and deaths < DEATHS_OF_ONE and not run.is_finished:
        if not _die(run, moments[-1]):
            moments[-1] = sooner(moments[-1])
            return deaths
        moments.pop()
        run.note_death()
        deaths += 1
    if not run.is_finished:
        run.launch().wait(LIMIT_S)
    return deaths


def _die(run: Disturbed, moment: tuple[str, ...]) -> bool:
    """``False`` if the campaign came to its end before."""
    when, what = moment
    if when.endswith("s"):
        process = run.launch()
        try:
            process.wait(float(when[:-1]))
        except TimeoutExpired:
            run.kill(what)
            return True
        return False
    return run.launch(when, what).wait(LIMIT_S) == -SIGKILL


def _require_equal(run: Disturbed, whole: dict[str, Any]) -> None:
    run.note_death()
    assert results(run) == whole["results"]
    assert loads(run) == whole["loads"]
    assert run.run
    assert [path.name for path in run.run.rglob(".*") if path.name != ".lock"] == []
    assert list((run.folder / "tmp").iterdir()) == []
