"""What all stages of one run share, and what a resumed run takes up again."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from leadline.campaign.containers import Contained
from leadline.campaign.watch import Watcher
from leadline.journal import Journal, Run
from leadline.metrics.measures import measure
from leadline.plan.local_memory import LocalPlan
from leadline.plan.time import PrefillModel
from leadline.prompts.corpus import Corpus
from leadline.prompts.token_corpus import TokenCorpus
from leadline.records import Finding, Record
from leadline.spec import Campaign, Cell


@dataclass(frozen=True)
class RunOptions:
    runs_root: Path
    fresh: bool = False
    """Start a new run even if an equal one is unfinished."""
    try_infeasible: bool = False
    """Start even what the plan rules out."""


@dataclass
class Work:
    campaign: Campaign
    options: RunOptions
    journal: Journal
    watcher: Watcher
    session: aiohttp.ClientSession
    corpora: dict[str | tuple[str, ...], Corpus]
    seed: int
    done: set[tuple[str, int]] = field(default_factory=set)
    """(cell, trial) pairs that have a record."""
    settled: set[str] = field(default_factory=set)
    """Cells that failed or were ruled out, and limits that were probed."""
    plans: dict[str, LocalPlan] = field(default_factory=dict)
    containers: dict[str, Contained] = field(default_factory=dict)
    """What starts each deployment that runs in a container."""
    owner: str = ""
    """Of every container and pod of this run."""
    models: dict[str, PrefillModel] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    token_corpora: dict[tuple[str, str], TokenCorpus] = field(default_factory=dict)
    """By the text's and the tokenizer's SHA-256."""

    _warned: set[str] = field(default_factory=set)

    def recall(self, run: Run) -> None:
        """Take up what an earlier process has journaled."""
        for record in run.records():
            if record.purpose == "trial":
                self.done.add((record.cell, record.trial))
                if record.exchange.failure:
                    self.settled.add(record.cell)
            if record.purpose == "over_limit":
                self.settled.add(record.cell)
            if not record.purpose.startswith("load"):  # its time was not its own
                self.learn(record)
        for event in run.events():
            if event["event"] in ("cell_failed", "cell_infeasible", "cell_loaded"):
                self.settled.add(event["cell"])
            if event["event"] == "deployment_starting":
                self.attempts[event["deployment"]] = event["attempt"]

    def warn(self, deployment: str, text: str) -> None:
        """What whoever reads the report should know, once."""
        if text not in self._warned:
            self._warned.add(text)
            self.journal.event("warning", deployment=deployment, text=text)

    def learn(self, record: Record) -> None:
        """Let the deployment's time model know an answered request."""
        measures = measure(record.exchange)
        if record.exchange.failure is None and measures.ttft_s:
            model = self.model(record.deployment)
            model.learn(record.sent.input_tokens, measures.ttft_s, measures.tpot_s)

    def model(self, deployment: str) -> PrefillModel:
        return self.models.setdefault(deployment, PrefillModel())

    def owed_trials(self, cell: Cell) -> list[int]:
        """Numbers of the trials still to be made; none for a settled cell, one for a load."""
        if cell.key in self.settled:
            return []
        trials = range(1, 2 if cell.is_load else cell.workload.repeats + 1)
        return [trial for trial in trials if (cell.key, trial) not in self.done]

    def fail(self, finding: Finding) -> None:
        """Journal a failure before showing it."""
        self.journal.finding(finding)
        quoted = "\n".join(f"  | {line}" for line in finding.evidence)
        where = finding.cell or finding.deployment
        self.watcher.problem(f"{where}: {finding.title}", f"{quoted}\n  cure: {finding.remedy}")
