"""What a run has, and so what it lacks; and what its requests say of the time others will take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from leadline.journal import Run
from leadline.metrics.measures import measure
from leadline.plan.time import PrefillModel
from leadline.records import Purpose, Record
from leadline.spec import Cell


@dataclass(kw_only=True)
class Ledger:
    done: set[tuple[str, int]] = field(default_factory=set)
    """(cell, trial) pairs that have a record."""
    settled: set[str] = field(default_factory=set)
    """Cells that failed or were ruled out, and limits that were probed."""
    probed: set[tuple[str, Purpose]] = field(default_factory=set)
    """Limits of which one probe at least was made."""
    losses: Counter[str] = field(default_factory=Counter)
    """How often a cell was under way when somebody else's server could no longer be reached."""
    warned: set[str] = field(default_factory=set)
    models: dict[str, PrefillModel] = field(default_factory=dict)
    starts_s: dict[str, float] = field(default_factory=dict)
    """How long each deployment took to start, the last time."""
    attempts: dict[str, int] = field(default_factory=dict)

    def recall(self, run: Run, *, try_infeasible: bool = False) -> None:
        """Take up what earlier processes have journaled. ``try_infeasible``: what they did not try
        for the plan's sake is owed again.
        """
        events = run.events()
        for event in events:
            if event["event"] != "cell_infeasible" or not try_infeasible:
                self._recall_event(event)
        lost = lost_requests(events)
        for record in run.records():
            if record.exchange.failure is None or (record.cell, record.attempt) not in lost:
                self._recall_record(record)

    def _recall_event(self, event: Mapping[str, Any]) -> None:
        match event["event"]:
            case "cell_failed" | "cell_infeasible" | "cell_loaded":
                self.settled.add(event["cell"])
            case "deployment_failed":
                self.settled.update(event["cells"], event["limits"])
            case "deployment_starting":
                self.attempts[event["deployment"]] = event["attempt"]
            case "deployment_ready" if event.get("start_s") is not None:
                self.starts_s[event["deployment"]] = event["start_s"]
            case "deployment_lost" if event.get("cell"):
                self.losses[event["cell"]] += 1
            case "limit_probe_skipped":
                self.settled.add(f"{event['deployment']}/limits")
            case "warning":
                self.warned.add(event["text"])

    def _recall_record(self, record: Record) -> None:
        if record.purpose == "trial":
            self.done.add((record.cell, record.trial))
            if record.exchange.failure:
                self.settled.add(record.cell)
        if record.purpose in ("edge", "over_limit"):
            self.probed.add((record.cell, record.purpose))
        if not record.purpose.startswith("load"):  # its time was not its own
            self.learn(record)

    def learn(self, record: Record) -> None:
        """Let the deployment's time model know an answered request."""
        measures = measure(record.exchange)
        if record.exchange.failure is None and measures.ttft_s:
            model = self.model(record.deployment)
            model.learn(record.sent.input_tokens, measures.ttft_s, measures.tpot_s)

    def model(self, deployment: str) -> PrefillModel:
        return self.models.setdefault(deployment, PrefillModel())

    def missing_trials(self, cell: Cell) -> list[int]:
        """Numbers of the trials that the run lacks; none for a settled cell."""
        if cell.key in self.settled:
            return []
        return [trial for trial in cell.trials if (cell.key, trial) not in self.done]

    def predict_s(self, deployment: str, tokens: int | None, output_tokens: int) -> float | None:
        """Of one request from its first byte to its last, by what was seen so far."""
        model = self.model(deployment)
        prediction = model.predict(tokens) if tokens else None
        return prediction.expected + model.predict_decode_s(output_tokens) if prediction else None


def lost_requests(events: Iterable[Mapping[str, Any]]) -> set[tuple[str, int]]:
    """(cell, attempt) whose failed requests count for nothing: the server was out of reach."""
    return {
        (event["cell"], event["attempt"])
        for event in events
        if event["event"] == "deployment_lost" and event.get("cell")
    }
