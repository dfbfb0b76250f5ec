"""The verdict of a cell of single requests, one after the other."""

from __future__ import annotations

from typing import Any

from leadline.engines.engine import Engine
from leadline.metrics.load_statistics import name_odd, summarise_trials
from leadline.metrics.measures import measure
from leadline.metrics.sampling import during, summarise_server
from leadline.metrics.statistics import spread, wilson
from leadline.prove.recall import found_needles
from leadline.prove.structural import prove_trial
from leadline.records import Record
from leadline.spec import Campaign, Cell
from leadline.verdict.facts import Facts
from leadline.verdict.gates import check_gates, judge_gates
from leadline.verdict.schema import NOT_SELECTED, CellVerdict, Conclusion, Trial


def judge_trials(cell: Cell, campaign: Campaign, facts: Facts) -> CellVerdict:
    engine = facts.engine(cell.deployment)
    trials = tuple(
        _judge_trial(record, engine, cold=cell.workload.cold) for record in facts.trials(cell.key)
    )
    verdict = _summarise(cell, trials, facts)
    gated = verdict.model_copy(update={"gates": check_gates(verdict, campaign)})
    status, cause, reason = _conclude(cell, gated, facts)
    return gated.model_copy(update={"status": status, "cause": cause, "reason": reason})


def _judge_trial(record: Record, engine: Engine, *, cold: bool) -> Trial:
    return Trial(
        number=record.trial,
        record=record,
        measures=measure(record.exchange),
        proofs=tuple(prove_trial(record, engine, cold=cold)),
        found=tuple(found_needles(record)),
    )


def _summarise(cell: Cell, trials: tuple[Trial, ...], facts: Facts) -> CellVerdict:
    found = [hit for trial in trials for hit in trial.found]
    measures = [trial.measures for trial in trials]
    predicted = facts.last("cell_predicted", cell=cell.key)
    return CellVerdict(
        cell=cell.key,
        deployment=cell.deployment,
        input_tokens=_length(cell, trials, predicted),
        status="skipped",
        trials=trials,
        repeats=cell.workload.repeats,
        expected=cell.settings.expect,
        predicted_ttft_s=predicted.get("ttft_s"),
        recall=wilson(sum(found), len(found)),
        ttft_s=spread(m.ttft_s for m in measures),
        tpot_s=spread(m.tpot_s for m in measures),
        e2e_s=spread(m.e2e_s for m in measures),
        prefill_tokens_per_s=spread(m.prefill_tokens_per_s for m in measures),
        decode_tokens_per_s=spread(m.decode_tokens_per_s for m in measures),
        statistics=summarise_trials([[m] for m in measures]),
        outliers=name_odd(
            {
                trial.number: trial.measures
                for trial in trials
                if trial.record.exchange.failure is None
            }
        ),
        server=summarise_server(during([trial.record for trial in trials], facts.samples)),
    )


def _length(cell: Cell, trials: tuple[Trial, ...], predicted: dict[str, Any]) -> int | None:
    if trials:
        return trials[0].record.sent.input_tokens
    asked = cell.workload.input_tokens
    return asked if isinstance(asked, int) else predicted.get("input_tokens")


def _conclude(cell: Cell, verdict: CellVerdict, facts: Facts) -> Conclusion:
    """The first thing that settles the cell, from 'not tried' to 'passed'."""
    return (
        ruled_out(cell, verdict, facts)
        or failure_of(cell, verdict, facts)
        or _unproven(verdict)
        or incomplete(verdict, facts)
        or judge_gates(verdict)
        or ("pass", "", "")
    )


def ruled_out(cell: Cell, verdict: CellVerdict, facts: Facts) -> Conclusion | None:
    """Not tried; a later process of the run may have done so all the same."""
    told = facts.last("cell_infeasible", cell=cell.key)
    if not told or verdict.trials or verdict.load or facts.named("cell_failed", cell=cell.key):
        return None
    return "infeasible", str(told.get("cause", "plan")), str(told["reason"])


def failure_of(cell: Cell, verdict: CellVerdict, facts: Facts) -> Conclusion | None:
    failures = [t.record.exchange.failure for t in verdict.trials if t.record.exchange.failure]
    if not failures and not facts.named("cell_failed", cell=cell.key):
        return None
    finding = facts.finding(cell)
    if finding:
        return "fail", finding.cause, finding.title
    return "fail", "unknown", failures[0].message if failures and failures[0] else "not started"


def _unproven(verdict: CellVerdict) -> Conclusion | None:
    """A failed proof fails the cell; a warm or unknown one leaves it undecided."""
    proofs = [proof for trial in verdict.trials for proof in trial.proofs]
    by_name = {"count": "wrong-length", "finish": "truncated", "output": "wrong-answer"}
    for proof in proofs:
        if proof.outcome == "fail" and proof.name in by_name:
            return "fail", by_name[proof.name], f"{proof.name}: {proof.observed}"
    for proof in proofs:
        if proof.name == "cold" and proof.outcome == "fail":
            return "inconclusive", "warm-cache", f"the cache answered: {proof.observed}"
    for proof in proofs:
        if proof.outcome == "unknown":
            return "inconclusive", f"unproven-{proof.name}", proof.observed
    return None


def incomplete(verdict: CellVerdict, facts: Facts) -> Conclusion | None:
    done, ended = len(verdict.trials), facts.early_end(verdict.cell)
    if done == verdict.repeats:
        return None
    if ended.cause != NOT_SELECTED and facts.is_away(verdict.deployment):
        made = f"{done} of {verdict.repeats} trials made; the same command resumes"
        return "fail", "unreachable", f"the server could not be reached: {made}"
    if done == 0:
        return "skipped", ended.cause, ended.reason
    return (
        "inconclusive",
        "too-few-trials",
        f"{done} of {verdict.repeats} trials made; the others: {ended.reason}",
    )
