"""The lines of a run, looked up by cell and deployment."""

from __future__ import annotations

from typing import Any, NamedTuple

from leadline.engines.engine import Engine, load_engine
from leadline.journal import Run
from leadline.metrics.load_verdict import LoadVerdict, judge_load
from leadline.metrics.sampling import Sample, read_samples
from leadline.records import Finding, Record, SelfCheck, Strain
from leadline.spec import Cell, Load
from leadline.verdict.schema import NOT_SELECTED


class LoadFacts(NamedTuple):
    load: Load
    requests: int
    records: list[Record]
    strain: Strain | None
    samples: list[Sample]
    """Of the whole run; those of the load's own time are picked out."""
    self_check: SelfCheck | None

    def judge(self) -> LoadVerdict:
        asked = self.load, self.requests
        return judge_load(self.records, *asked, self.strain, self.samples, self.self_check)


class EarlyEnd(NamedTuple):
    """Why a cell is not whole."""

    cause: str
    reason: str


class Facts:
    """The lines of a run, looked up by cell and deployment."""

    def __init__(self, run: Run) -> None:
        self.records = run.records()
        self.findings = run.findings()
        self.events = run.events()
        self.samples = read_samples(run)

    def trials(self, cell: str) -> list[Record]:
        lost = {(line.get("cell"), line["attempt"]) for line in self.named("deployment_lost")}
        found = [
            record
            for record in self.records
            if record.cell == cell
            and record.purpose == "trial"
            and not (record.exchange.failure and (cell, record.attempt) in lost)
        ]
        return sorted({r.trial: r for r in found}.values(), key=lambda record: record.trial)

    def named(self, event: str, **facts: str) -> list[dict[str, Any]]:
        return [
            line
            for line in self.events
            if line["event"] == event and all(line.get(k) == v for k, v in facts.items())
        ]

    def last(self, event: str, **facts: str) -> dict[str, Any]:
        return (self.named(event, **facts) or [{}])[-1]

    def early_end(self, cell: str) -> EarlyEnd:
        """By what the last process of the run was asked to do, and how it ended."""
        begun = [line for line in self.events if line["event"] in ("run_started", "run_resumed")]
        chosen = begun[-1].get("chosen") if begun else None
        if chosen is not None and cell not in chosen:
            return EarlyEnd(NOT_SELECTED, "not among --only; the same command without it resumes")
        for line in self.events[self.events.index(begun[-1]) :] if begun else ():
            if line["event"] == "budget_reached":
                text = (
                    f"not run: budget ({line['text']}); the same command with a larger one resumes"
                )
                return EarlyEnd("budget", text)
        return EarlyEnd("not-run", "not run yet; the same command resumes it")

    def is_away(self, deployment: str) -> bool:
        """Its last start ended because the server could not be reached any more."""
        lost = self.last("deployment_lost", deployment=deployment)
        started = self.last("deployment_starting", deployment=deployment)
        return bool(lost) and bool(lost["attempt"] == started["attempt"])

    def engine(self, deployment: str) -> Engine:
        ready = self.last("deployment_ready", deployment=deployment)
        return load_engine(ready.get("engine", "openai"))

    def loads(self, cell: str) -> list[LoadFacts]:
        """Every load of the cell's last attempt, in order."""
        started = self.named("load_started", cell=cell)
        last = [line for line in started if line["attempt"] == started[-1]["attempt"]]
        return [self._load(cell, line) for line in last]

    def _load(self, cell: str, started: dict[str, Any]) -> LoadFacts:
        place = (started["attempt"], started["step"])
        ends = self.named("load_ended", cell=cell)
        ended = [line for line in ends if (line["attempt"], line["step"]) == place]
        checks = self.named("instrument_checked", cell=cell)
        checked = [line for line in checks if (line["attempt"], line["step"]) == place]
        records = [
            record
            for record in self.records
            if record.cell == cell
            and record.purpose == "load"
            and (record.attempt, record.step) == place
        ]
        return LoadFacts(
            load=Load.model_validate(started["load"]),
            requests=started["requests"],
            records=records,
            strain=Strain.model_validate(ended[-1]["strain"]) if ended else None,
            samples=self.samples,
            self_check=SelfCheck.model_validate(checked[-1]["check"]) if checked else None,
        )

    def finding(self, cell: Cell) -> Finding | None:
        own = [f for f in self.findings if f.cell == cell.key]
        shared = [f for f in self.findings if not f.cell and f.deployment == cell.deployment]
        found = own or shared
        return found[-1] if found else None

    def warnings(self) -> list[str]:
        return list(dict.fromkeys(str(line["text"]) for line in self.named("warning")))
