"""What all stages of one run share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from leadline.campaign.budget import BudgetReachedError, Meter
from leadline.campaign.containers import Contained
from leadline.campaign.ledger import Ledger
from leadline.campaign.watch import Watcher
from leadline.journal import Journal
from leadline.plan.campaign_plans import Refusal
from leadline.plan.local_memory import LocalPlan
from leadline.prompts.corpus import Corpus
from leadline.prompts.token_corpus import TokenCorpus
from leadline.records import Finding
from leadline.spec import Campaign, Cell


@dataclass(frozen=True)
class RunOptions:
    runs_root: Path
    fresh: bool = False
    """Start a new run even if an equal one is unfinished."""
    try_infeasible: bool = False
    """Start even what the plan rules out."""
    only: tuple[str, ...] = ()
    """These cells alone, by id, glob or label; empty: all."""


@dataclass(kw_only=True)
class Work(Ledger):
    campaign: Campaign
    options: RunOptions
    journal: Journal
    watcher: Watcher
    session: aiohttp.ClientSession
    corpora: dict[str | tuple[str, ...], Corpus]
    seed: int
    meter: Meter
    chosen: frozenset[str] | None = None
    """Keys of the cells that this process is to make; ``None``: all."""
    plans: dict[str, LocalPlan] = field(default_factory=dict)
    refusals: dict[str, Refusal] = field(default_factory=dict)
    """Cells that the plan knows not to work, and nobody wants tried."""
    containers: dict[str, Contained] = field(default_factory=dict)
    """What starts each deployment that runs in a container."""
    owner: str = ""
    """Of every container and pod of this run."""
    token_corpora: dict[tuple[str, str], TokenCorpus] = field(default_factory=dict)
    """By the text's and the tokenizer's SHA-256."""

    lost: set[str] = field(default_factory=set)
    """Deployments that cannot be reached now; what they owe stays owed."""

    def warn(self, deployment: str, text: str) -> None:
        """What whoever reads the report should know, once."""
        if text not in self.warned:
            self.warned.add(text)
            self.journal.event("warning", deployment=deployment, text=text)

    def is_chosen(self, cell: Cell) -> bool:
        return self.chosen is None or cell.key in self.chosen

    def owed_trials(self, cell: Cell) -> list[int]:
        """Numbers of the trials that this process has to make; one for a load."""
        return self.missing_trials(cell) if self.is_chosen(cell) else []

    def require(
        self, deployment: str, tokens: int | None, output_tokens: int, *, starting: bool = False
    ) -> None:
        """``BudgetReachedError`` unless the budget has room for one request as long as that."""
        seconds = self.predict_s(deployment, tokens, output_tokens) or 0.0
        self.meter.require(seconds, deployment if starting else None)

    def stop(self, reached: BudgetReachedError) -> None:
        """The budget ends the run early; what it owes stays owed."""
        self.journal.event("budget_reached", limit=reached.limit, text=reached.text)
        cure = "the same command with a larger budget resumes"
        self.watcher.problem(f"stopped by the budget: {reached.text}", f"  cure: {cure}")

    def fail_deployment(
        self, finding: Finding, cells: Sequence[str], limits: Sequence[str]
    ) -> None:
        """It did not come up: these cells have failed, and these limits are not probed.

        The first event says all of it: we may be killed before the others.
        """
        place = {"deployment": finding.deployment, "attempt": finding.attempt}
        told = finding.model_dump(mode="json")
        settles = {"cells": list(cells), "limits": list(limits)}
        self.journal.event("deployment_failed", **place, **settles, finding=told)
        for cell in cells:
            self.journal.event("cell_failed", cell=cell, attempt=finding.attempt)
        self.settled.update(cells, limits)
        self.fail(finding)

    def fail(self, finding: Finding) -> None:
        """Journal a failure before showing it."""
        self.journal.finding(finding)
        quoted = "\n".join(f"  | {line}" for line in finding.evidence)
        where = finding.cell or finding.deployment
        self.watcher.problem(f"{where}: {finding.title}", f"{quoted}\n  cure: {finding.remedy}")
