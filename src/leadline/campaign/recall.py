"""What an earlier process could not finish saying before it was killed is said."""

from __future__ import annotations

from collections import deque
from contextlib import suppress

from leadline.campaign.work import Work
from leadline.deploy.log import TAIL_LINES
from leadline.diagnose.explain import explain
from leadline.diagnose.rule import Evidence
from leadline.journal import Run, log_file
from leadline.records import Finding, Record

Place = tuple[str, str, int]
"""(deployment, cell, attempt)."""


def finish_findings(work: Work, run: Run) -> None:
    """A process that was killed between a failure and its finding owes the finding."""
    _finish_deployments(work, run)
    explained = {_place(finding) for finding in run.findings()}
    owed = {**_told_findings(run), **_late_findings(work, run, explained)}
    for place, finding in owed.items():
        if place not in explained:
            work.fail(finding)


def _finish_deployments(work: Work, run: Run) -> None:
    """One that did not come up has failed every cell that it owed then."""
    events = run.events()
    said = {(e["cell"], e["attempt"]) for e in events if e["event"] == "cell_failed"}
    for event in events:
        for cell in event["cells"] if event["event"] == "deployment_failed" else ():
            if (cell, event["attempt"]) not in said:
                work.journal.event("cell_failed", cell=cell, attempt=event["attempt"])


def _place(line: Finding | Record) -> Place:
    return line.deployment, line.cell, line.attempt


def _told_findings(run: Run) -> dict[Place, Finding]:
    """Where no failed trial stands for the end, the event holds it too."""
    findings = [Finding.model_validate(e["finding"]) for e in run.events() if "finding" in e]
    return {_place(finding): finding for finding in findings}


def _late_findings(work: Work, run: Run, explained: set[Place]) -> dict[Place, Finding]:
    failed = {
        _place(record): record
        for record in run.records()
        if record.exchange.failure
        and record.purpose == "trial"
        and record.cell in work.settled
        and _place(record) not in explained
    }
    return {place: _explain_late(run, record) for place, record in failed.items()}


def _explain_late(run: Run, record: Record) -> Finding:
    """From what is kept: the request's own failure, the log, the window."""
    ready = {"deployment": record.deployment, "attempt": record.attempt}
    wanted = {"event": "deployment_ready", **ready}.items()
    told = [event for event in run.events() if wanted <= event.items()]
    evidence = Evidence(
        log=_log_tail(run, record),
        failure=record.exchange.failure,
        input_tokens=record.sent.input_tokens,
        output_tokens=record.sent.output_tokens,
        window_tokens=told[-1].get("window_tokens") if told else None,
    )
    place = {**ready, "cell": record.cell}
    return explain(evidence).model_copy(update=place)


def _log_tail(run: Run, record: Record) -> tuple[str, ...]:
    path = log_file(run.path, record.deployment, record.attempt)
    with suppress(OSError), path.open(encoding="utf-8", errors="replace") as log:
        return tuple(line.rstrip("\n") for line in deque(log, TAIL_LINES))
    return ()
