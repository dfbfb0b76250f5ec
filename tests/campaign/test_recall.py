"""What a process that was killed had begun to say, and what the next one makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from tests.factory import (
    RunWriter,
    answered,
    failed_exchange,
    make_finding,
    make_record,
)

from leadline.campaign.ledger import Ledger
from leadline.campaign.recall import finish_findings
from leadline.campaign.work import Work
from leadline.journal import Run

CAMPAIGN = """\
name: c
deployments: {x: {target: "http://127.0.0.1:1", model: tiny}}
workload: {output_tokens: 3, repeats: 2}
matrix: {include: [{workload.input_tokens: 10}, {workload.input_tokens: 20}]}
"""
CELLS = ["x/input_tokens=10", "x/input_tokens=20"]
NOT_UP = make_finding(deployment="x", cell="", attempt=1)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[RunWriter]:
    made = RunWriter(tmp_path, CAMPAIGN)
    yield made
    made.journal.close()


def take_up(writer: RunWriter) -> Work:
    nothing: Any = None
    run = Run(writer.path)
    work = Work(
        campaign=nothing, options=nothing, journal=writer.journal, watcher=Mock(),
        session=nothing, corpora={}, seed=1, meter=nothing,
    )  # fmt: skip
    work.recall(run)
    finish_findings(work, run)
    return work


def not_up(writer: RunWriter, *cells: str) -> None:
    told = NOT_UP.model_dump(mode="json")
    place = {"deployment": "x", "attempt": 1}
    limits = ["x/limits"]
    writer.journal.event("deployment_failed", **place, cells=cells, limits=limits, finding=told)


def failed_cells(run: Run) -> list[str]:
    return [event["cell"] for event in run.events() if event["event"] == "cell_failed"]


def test_of_a_start_that_failed_the_rest_is_said_once(writer: RunWriter) -> None:
    not_up(writer, *CELLS)
    writer.journal.event("cell_failed", cell=CELLS[0], attempt=1)
    assert take_up(writer).settled == {*CELLS, "x/limits"}
    take_up(writer)
    run = Run(writer.path)
    assert failed_cells(run) == CELLS
    assert [finding.title for finding in run.findings()] == [NOT_UP.title]


def test_a_start_that_failed_settles_only_what_was_asked_then(writer: RunWriter) -> None:
    not_up(writer, CELLS[0])
    writer.journal.finding(NOT_UP)
    take_up(writer)
    assert failed_cells(Run(writer.path)) == CELLS[:1]


def test_a_failed_trial_whose_finding_is_owed_gets_it(writer: RunWriter) -> None:
    failed = failed_exchange("refused", "too long", 400)
    writer.journal.record(make_record(failed, cell=CELLS[0], deployment="x"))
    take_up(writer)
    take_up(writer)
    (finding,) = Run(writer.path).findings()
    assert (finding.cell, finding.attempt) == (CELLS[0], 1)


def test_what_failed_because_the_server_was_gone_stays_owed(writer: RunWriter) -> None:
    place = {"cell": CELLS[0], "deployment": "x"}
    gone = failed_exchange("disconnected", "gone")
    writer.journal.record(answered(10, 1, **place))
    writer.journal.record(make_record(gone, trial=2, **place))
    writer.journal.event("deployment_lost", **place, attempt=1)
    ledger = Ledger()
    ledger.recall(Run(writer.path))
    assert (ledger.done, ledger.settled) == ({(CELLS[0], 1)}, set())
    assert ledger.losses[CELLS[0]] == 1


def test_limits_are_probed_again_only_where_they_were_not(writer: RunWriter) -> None:
    writer.journal.record(make_record(purpose="edge", cell="x/limits", deployment="x"))
    ledger = Ledger()
    ledger.recall(Run(writer.path))
    assert (ledger.probed, ledger.settled) == ({("x/limits", "edge")}, set())
