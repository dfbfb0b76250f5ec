"""A run as one JSON document (``leadline.report/1``): all that the other forms show."""

from __future__ import annotations

from typing import Any

from leadline.journal import Run
from leadline.verdict import CellVerdict, RunVerdict, Trial

REPORT_SCHEMA = "leadline.report/1"


def report_document(run: Run, verdict: RunVerdict) -> dict[str, Any]:
    """Derived figures with the raw facts beside them; the ticks stay in ``records.jsonl``."""
    return {
        "schema": REPORT_SCHEMA,
        "run": verdict.run_id,
        "campaign": verdict.campaign,
        "started": verdict.started,
        "finished": verdict.finished,
        "seed": verdict.seed,
        "exit_code": verdict.exit_code,
        "simulated": False,
        "deployments": [item.model_dump(mode="json") for item in verdict.deployments],
        "cells": [_cell(cell) for cell in verdict.cells],
        "searches": [item.model_dump(mode="json") for item in verdict.searches],
        "comparisons": [ratio.model_dump(mode="json") for ratio in verdict.comparisons],
        "target_costs": [cost.model_dump(mode="json") for cost in verdict.target_costs],
        "spent": verdict.spent.model_dump(mode="json") if verdict.spent else None,
        "findings": [finding.model_dump(mode="json") for finding in verdict.findings],
        "warnings": list(verdict.warnings),
        "environment": run.document("environment.json"),
        "plan": run.document("plan.json"),
    }


def _cell(cell: CellVerdict) -> dict[str, Any]:
    facts = cell.model_dump(mode="json", exclude={"trials"})
    return {
        **facts,
        "as_expected": cell.as_expected,
        "trials": [_trial(trial) for trial in cell.trials],
    }


def _trial(trial: Trial) -> dict[str, Any]:
    exchange = trial.record.exchange
    return {
        "number": trial.number,
        "attempt": trial.record.attempt,
        "sent": trial.record.sent.model_dump(mode="json"),
        "status": exchange.status,
        "finish_reason": exchange.finish_reason,
        "usage": exchange.usage,
        "server": exchange.server,
        "counters": trial.record.counters,
        "failure": exchange.failure.model_dump() if exchange.failure else None,
        "text": exchange.text,
        "measures": trial.measures.model_dump(mode="json"),
        "proofs": [proof.model_dump() for proof in trial.proofs],
        "found": list(trial.found),
    }
