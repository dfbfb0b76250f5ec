"""What the Markdown and the HTML report show, as plain tables of words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from leadline.journal import Run
from leadline.prove.structural import TRIAL_PROOFS
from leadline.report import phrases
from leadline.report.comparison_table import CAPTION, COLUMNS, word_ratio
from leadline.report.load_table import word_load, word_sweep
from leadline.report.offline_table import COLUMNS as OFFLINE_COLUMNS
from leadline.report.offline_table import word_rows
from leadline.report.search_table import (
    FRONTIER_CAPTION,
    FRONTIER_COLUMNS,
    STEP_COLUMNS,
    word_answer,
    word_doubts,
    word_frontier,
    word_start,
    word_steps,
)
from leadline.units import show_bytes, show_seconds, show_tokens
from leadline.verdict import CellVerdict, DeploymentVerdict, RunVerdict, SearchVerdict, Trial

# Fewer repeats than these say little about spread, and about recall; the report says so itself.
_ENOUGH_TRIALS = 3
_ENOUGH_NEEDLES = 20


def report_view(run: Run, verdict: RunVerdict) -> dict[str, Any]:
    """Template variables; every value is already a word."""
    return {
        "verdict": verdict,
        "outcome": _outcome(verdict),
        "spent": phrases.word_spending(verdict),
        "counts": phrases.word_counts(verdict),
        "expectation": phrases.expectation_sentence(verdict),
        "seed": NOTHING if verdict.seed is None else str(verdict.seed),
        "deployments": [_deployment(item) for item in verdict.deployments],
        "cells": [_cell(cell) for cell in verdict.cells],
        "trials": [_trial(cell, trial) for cell in verdict.cells for trial in cell.trials],
        "searches": [_search(item) for item in verdict.searches],
        "frontier": {
            "columns": FRONTIER_COLUMNS,
            "caption": FRONTIER_CAPTION,
            "rows": word_frontier(verdict),
        },
        "loads": [words for cell in verdict.cells for words in _loads(cell)],
        "offline": {"columns": OFFLINE_COLUMNS, "rows": list(word_rows(verdict))},
        "comparison": {
            "columns": COLUMNS,
            "caption": CAPTION,
            "rows": [word_ratio(ratio) for ratio in verdict.comparisons],
        },
        "targets": [list(phrases.cost_sentences(cost)) for cost in verdict.target_costs],
        "findings": verdict.findings,
        "cautions": [
            *verdict.warnings,
            *phrases.outlier_sentences(verdict),
            *_cautions(verdict),
        ],
        "proof_meanings": phrases.PROOF_MEANINGS,
        "measure_meanings": phrases.MEASURE_MEANINGS,
        "environment": environment_rows(run.document("environment.json")),
        "plans": _plans(run.document("plan.json")),
        "campaign_text": (run.path / "campaign.yaml").read_text(encoding="utf-8"),
        "run_path": str(run.path),
    }


NOTHING = phrases.NOTHING


def _search(item: SearchVerdict) -> dict[str, Any]:
    return {
        "key": item.key,
        "answer": word_answer(item),
        "start": word_start(item),
        "doubts": list(word_doubts(item)),
        "columns": STEP_COLUMNS,
        "steps": list(word_steps(item)),
        "statuses": _step_statuses(item),
    }


def _step_statuses(item: SearchVerdict) -> list[str]:
    """Of each row of steps, for its colour; a remedy has none."""
    numbers = (row[0] for row in word_steps(item))
    return [item.steps[int(n) - 1].status if n.isdigit() else "" for n in numbers]


def _outcome(verdict: RunVerdict) -> str:
    if not verdict.finished:
        return "unfinished"
    return {0: "passed", 1: "not qualified", 2: "trouble"}.get(verdict.exit_code, "wrong use")


def _deployment(item: DeploymentVerdict) -> dict[str, Any]:
    return {
        "key": item.key,
        "engine": item.engine or "not started",
        "model": item.model or NOTHING,
        "window": phrases.word_tokens(item.window_tokens) if item.window_tokens else "unknown",
        "start": show_seconds(item.start_s) if item.start_s else NOTHING,
        "starts": item.starts,
        "image": item.image,
        "started": item.started,
        "qualified": phrases.qualified_sentence(item),
        "effective": phrases.effective_sentence(item),
        "engine_words": [
            (phrases.SIGNS[outcome], outcome, text) for outcome, text in phrases.word_engine(item)
        ],
        "limits": [
            (phrases.SIGNS[p.outcome], p.outcome, phrases.word_limit(p.name), p.observed)
            for p in item.limits
        ],
    }


def _cell(cell: CellVerdict) -> dict[str, Any]:
    return {
        "deployment": cell.deployment,
        "input": phrases.word_length(cell),
        "status": cell.status,
        "verdict": phrases.word_status(cell),
        "reason": cell.reason,
        "proofs": list(zip(TRIAL_PROOFS, phrases.proof_signs(cell), strict=True)),
        "trials": _trials(cell),
        "ttft": phrases.word_spread(cell.ttft_s),
        "predicted": phrases.word_prediction(cell),
        "tpot": phrases.word_spread(cell.tpot_s),
        "prefill": phrases.word_spread(cell.prefill_tokens_per_s, seconds=False),
        "decode": phrases.word_spread(cell.decode_tokens_per_s, seconds=False),
        "e2e": phrases.word_spread(cell.e2e_s),
        "recall": phrases.word_recall(cell.recall),
        "interval": phrases.word_interval(cell.recall),
        "gates": [
            _gate(gate.name, gate.limit, gate.value, gate.passed)
            for gate in cell.gates
            if cell.trials or cell.load
        ],
    }


def _trials(cell: CellVerdict) -> str:
    if cell.is_load:
        return f"{cell.load.answered} of {cell.load.requests} answered" if cell.load else NOTHING
    return f"{len(cell.trials)} of {cell.repeats}"


def _loads(cell: CellVerdict) -> Iterator[dict[str, Any]]:
    if cell.sweep:
        yield word_sweep(f"{cell.cell}: a sweep", cell.sweep)._asdict()
    if cell.load:
        title = f"{cell.cell}: {cell.load.load}"
        yield word_load(title, cell.load, cell.cache)._asdict()


def _gate(name: str, limit: str, value: float | None, passed: bool | None) -> str:
    sign = {True: "✓", False: "✗", None: "?"}[passed]
    return f"{sign} {name} {limit} (is {NOTHING if value is None else f'{value:.4g}'})"


def _trial(cell: CellVerdict, trial: Trial) -> dict[str, Any]:
    exchange, sent = trial.record.exchange, trial.record.sent
    measures = trial.measures
    return {
        "input": phrases.word_length(cell),
        "number": trial.number,
        "counted": NOTHING
        if measures.prompt_tokens is None
        else show_tokens(measures.prompt_tokens),
        "ttft": show_seconds(measures.ttft_s) if measures.ttft_s else NOTHING,
        "tpot": show_seconds(measures.tpot_s) if measures.tpot_s else NOTHING,
        "output": NOTHING
        if measures.completion_tokens is None
        else str(measures.completion_tokens),
        "finish": exchange.finish_reason or NOTHING,
        "needles": ", ".join(f"{n.answer} at {n.depth_tokens:,}" for n in sent.needles) or NOTHING,
        "found": f"{sum(trial.found)}/{len(trial.found)}" if trial.found else NOTHING,
        "answer": phrases.word_answer(trial)
        or (exchange.failure.message if exchange.failure else ""),
        "proofs": [(p.name, phrases.SIGNS[p.outcome], p.observed) for p in trial.proofs],
        "ids": sent.ids_sha256[:12],
    }


def _cautions(verdict: RunVerdict) -> list[str]:
    """What a careful reader would hold against this report."""
    cautions = []
    if any(0 < len(cell.trials) < _ENOUGH_TRIALS for cell in verdict.cells):
        cautions.append(
            "Cells with fewer than 3 trials: a single figure says nothing about spread."
        )
    if any(cell.predicted_ttft_s for cell in verdict.cells):
        cautions.append(
            "Predicted times come from this run's own earlier probes on the same server; they are "
            "predictions, not measurements."
        )
    if any(cell.recall and cell.recall.n < _ENOUGH_NEEDLES for cell in verdict.cells):
        cautions.append(
            "Recall from a few needles rules out gross failure, no more: read the interval, "
            "not the share."
        )
    if not verdict.finished:
        cautions.append("The run is not finished: the same command resumes it.")
    return cautions


def environment_rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [
        ("Leadline", f"{facts.get('leadline')} ({facts.get('git') or 'no checkout'})"),
        ("machine", f"{facts.get('cpu')}, {facts.get('cpu_count')} cores"),
        ("memory", show_bytes(facts.get("memory_total_bytes", 0))),
        ("load average at start", ", ".join(f"{x:.2f}" for x in facts.get("load_average", []))),
        ("system", f"{facts.get('system')}, Python {facts.get('python')}"),
        ("packages", ", ".join(f"{k} {v}" for k, v in facts.get("packages", {}).items())),
    ]
    for key, model in facts.get("models", {}).items():
        rows.append((f"model of {key}", f"{model['path']}, SHA-256 {model.get('sha256', NOTHING)}"))
    for name, corpus in facts.get("corpora", {}).items():
        text = f"{corpus['source']}; {corpus['licence']}; SHA-256 {corpus['sha256']}"
        rows.append((f"corpus {name}", text))
    return rows


def _plans(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The memory plan of each deployment that has one."""
    return [
        {
            "key": key,
            "verdict": plan["verdict"],
            "reason": plan["reason"],
            "available": show_bytes(plan["available_bytes"]),
            "terms": [
                (t["name"], show_bytes(t["size_bytes"]), t["formula"], t["kind"], t["source"])
                for t in plan["terms"]
            ],
        }
        for key, plan in document.get("deployments", {}).items()
        if plan["terms"]
    ]
