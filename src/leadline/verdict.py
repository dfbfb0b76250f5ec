"""From the lines of a journal to verdicts: the one place where results are derived.

``leadline report`` calls this again at any time; nothing here needs a server.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from leadline.engines.engine import Engine, load_engine
from leadline.journal import Run
from leadline.metrics.measures import Measures, measure
from leadline.metrics.statistics import Proportion, Spread, spread, wilson
from leadline.prove.recall import EFFECTIVE_RECALL, found_needles
from leadline.prove.structural import Proof, prove_edge, prove_over_limit, prove_trial
from leadline.records import EngineWords, Finding, Record
from leadline.spec import Campaign, Cell, Gate, parse_campaign

Status = Literal["pass", "fail", "infeasible", "inconclusive", "skipped"]

# Causes that lie in the machinery rather than in the result: exit code 2.
INFRASTRUCTURE = frozenset(
    {
        "aborted", "bad_option", "crashed", "disconnected", "engine_missing",
        "exceeds_trained_context",
        "hang", "invalid_parallelism", "malformed", "model_invalid", "model_missing", "oom",
        "port_in_use", "stalled", "start_failed", "start_timeout", "stream_error", "unknown",
        "unreachable",
    }
)  # fmt: skip


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True)


class GateResult(_Result):
    name: str
    limit: str
    value: float | None
    passed: bool | None
    """``None``: there is nothing to compare."""


class Trial(_Result):
    number: int
    record: Record
    measures: Measures
    proofs: tuple[Proof, ...]
    found: tuple[bool, ...]

    @property
    def sound(self) -> bool:
        """A failed request has no proofs, and is not sound for that."""
        return bool(self.proofs) and all(proof.outcome == "pass" for proof in self.proofs)


class CellVerdict(_Result):
    cell: str
    deployment: str
    input_tokens: int | None
    status: Status
    cause: str = ""
    reason: str = ""
    trials: tuple[Trial, ...] = ()
    repeats: int
    predicted_ttft_s: dict[str, float] | None = None
    """Made before the cell ran: low, expected, high."""
    gates: tuple[GateResult, ...] = ()
    recall: Proportion | None = None
    ttft_s: Spread | None = None
    tpot_s: Spread | None = None
    e2e_s: Spread | None = None
    prefill_tokens_per_s: Spread | None = None
    decode_tokens_per_s: Spread | None = None

    @property
    def sound(self) -> bool:
        """Every repeat was made and every structural proof holds, whatever the gates say."""
        complete = len(self.trials) == self.repeats
        return complete and all(trial.sound for trial in self.trials)


class DeploymentVerdict(_Result):
    key: str
    engine: str | None
    model: str | None
    window_tokens: int | None
    start_s: float | None
    starts: int
    limits: tuple[Proof, ...]
    qualified_tokens: int | None
    """Longest prompt up to which every tested length is structurally sound."""
    effective_tokens: int | None
    """Longest prompt up to which the model's recall stays at 85.6 % or above (RULER)."""
    words: EngineWords | None = None
    """What the engine said of itself at its last start, beside what was asked and foretold."""
    recall_tested: bool
    """Any needle was asked for; without one there is nothing to say of the model."""

    @property
    def started(self) -> bool:
        return self.starts > 0


class RunVerdict(_Result):
    run_id: str
    campaign: str
    started: str
    finished: bool
    seed: int | None
    cells: tuple[CellVerdict, ...]
    deployments: tuple[DeploymentVerdict, ...]
    findings: tuple[Finding, ...]
    warnings: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """0 all passed; 2 if machinery failed; 1 if anything else did not qualify."""
        if any(c.status == "fail" and c.cause in INFRASTRUCTURE for c in self.cells):
            return 2
        limits = [proof.outcome for item in self.deployments for proof in item.limits]
        if all(c.status == "pass" for c in self.cells) and "fail" not in limits:
            return 0
        return 1


def judge_run(run: Run) -> RunVerdict:
    """Everything that the journal of one run supports, derived afresh."""
    text = (run.path / "campaign.yaml").read_text(encoding="utf-8")
    campaign = parse_campaign(text, source=str(run.path / "campaign.yaml"))
    facts = _Facts(run)
    cells = tuple(_judge_cell(cell, campaign, facts) for cell in campaign.cells())
    deployments = dict.fromkeys(cell.deployment for cell in campaign.cells())
    return RunVerdict(
        run_id=run.facts["id"],
        campaign=campaign.name,
        started=run.facts["started"],
        finished=bool(facts.named("run_finished")),
        seed=run.facts.get("seed"),
        cells=cells,
        deployments=tuple(_judge_deployment(key, cells, facts) for key in deployments),
        findings=tuple(facts.findings),
        warnings=tuple(facts.warnings()),
    )


class _Facts:
    """The lines of a run, looked up by cell and deployment."""

    def __init__(self, run: Run) -> None:
        self.records = run.records()
        self.findings = run.findings()
        self.events = run.events()

    def trials(self, cell: str) -> list[Record]:
        found = [r for r in self.records if r.cell == cell and r.purpose == "trial"]
        return sorted({r.trial: r for r in found}.values(), key=lambda record: record.trial)

    def named(self, event: str, **facts: str) -> list[dict[str, Any]]:
        return [
            line
            for line in self.events
            if line["event"] == event and all(line.get(k) == v for k, v in facts.items())
        ]

    def last(self, event: str, **facts: str) -> dict[str, Any]:
        return (self.named(event, **facts) or [{}])[-1]

    def engine(self, deployment: str) -> Engine:
        ready = self.last("deployment_ready", deployment=deployment)
        return load_engine(ready.get("engine", "openai"))

    def finding(self, cell: Cell) -> Finding | None:
        own = [f for f in self.findings if f.cell == cell.key]
        shared = [f for f in self.findings if not f.cell and f.deployment == cell.deployment]
        found = own or shared
        return found[-1] if found else None

    def warnings(self) -> list[str]:
        return [str(line["text"]) for line in self.named("warning")]


def _judge_cell(cell: Cell, campaign: Campaign, facts: _Facts) -> CellVerdict:
    engine = facts.engine(cell.deployment)
    trials = tuple(
        _judge_trial(record, engine, cold=cell.workload.cold) for record in facts.trials(cell.key)
    )
    verdict = _summarise(cell, trials, facts)
    gated = verdict.model_copy(update={"gates": _check_gates(verdict, campaign)})
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


def _summarise(cell: Cell, trials: tuple[Trial, ...], facts: _Facts) -> CellVerdict:
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
        predicted_ttft_s=predicted.get("ttft_s"),
        recall=wilson(sum(found), len(found)),
        ttft_s=spread(m.ttft_s for m in measures),
        tpot_s=spread(m.tpot_s for m in measures),
        e2e_s=spread(m.e2e_s for m in measures),
        prefill_tokens_per_s=spread(m.prefill_tokens_per_s for m in measures),
        decode_tokens_per_s=spread(m.decode_tokens_per_s for m in measures),
    )


def _length(cell: Cell, trials: tuple[Trial, ...], predicted: dict[str, Any]) -> int | None:
    if trials:
        return trials[0].record.sent.input_tokens
    asked = cell.workload.input_tokens
    return asked if isinstance(asked, int) else predicted.get("input_tokens")


_Conclusion = tuple[Status, str, str]


def _conclude(cell: Cell, verdict: CellVerdict, facts: _Facts) -> _Conclusion:
    """The first thing that settles the cell, from 'not tried' to 'passed'."""
    if ruled_out := facts.last("cell_infeasible", cell=cell.key):
        return "infeasible", str(ruled_out.get("cause", "plan")), str(ruled_out["reason"])
    failed = _failure(cell, verdict, facts)
    return (
        failed or _unproven(verdict) or _incomplete(verdict) or _gated(verdict) or ("pass", "", "")
    )


def _failure(cell: Cell, verdict: CellVerdict, facts: _Facts) -> _Conclusion | None:
    failures = [t.record.exchange.failure for t in verdict.trials if t.record.exchange.failure]
    if not failures and not facts.named("cell_failed", cell=cell.key):
        return None
    finding = facts.finding(cell)
    if finding:
        return "fail", finding.cause, finding.title
    return "fail", "unknown", failures[0].message if failures and failures[0] else "not started"


def _unproven(verdict: CellVerdict) -> _Conclusion | None:
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


def _incomplete(verdict: CellVerdict) -> _Conclusion | None:
    done = len(verdict.trials)
    if done == verdict.repeats:
        return None
    if done == 0:
        return "skipped", "not-run", "not run yet; the same command resumes it"
    return "inconclusive", "too-few-trials", f"{done} of {verdict.repeats} trials made"


def _gated(verdict: CellVerdict) -> _Conclusion | None:
    for gate in verdict.gates:
        if gate.passed is None:
            return "inconclusive", "gate", f"{gate.name} {gate.limit}: nothing to compare"
    for gate in verdict.gates:
        if not gate.passed:
            cause = "wrong-answer" if gate.name == "recall" else "gate"
            return "fail", cause, f"{gate.name} is {gate.value:.4g}, required {gate.limit}"
    return None


# --- gates ----------------------------------------------------------------------------------

_OPERATORS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}


def _check_gates(verdict: CellVerdict, campaign: Campaign) -> tuple[GateResult, ...]:
    """Times are gated by their worst trial, recall by its share of all needles."""
    values = {
        "recall": verdict.recall.share if verdict.recall else None,
        "ttft_s": verdict.ttft_s.high if verdict.ttft_s else None,
        "tpot_s": verdict.tpot_s.high if verdict.tpot_s else None,
        "e2e_s": verdict.e2e_s.high if verdict.e2e_s else None,
    }
    predicted = (verdict.predicted_ttft_s or {}).get("expected")
    gates = [(name, getattr(campaign.gates, name)) for name in values]
    return tuple(
        _check_gate(name, gate, values[name], predicted if name == "ttft_s" else None)
        for name, gate in gates
        if gate
    )


def _check_gate(name: str, gate: Gate, value: float | None, plan: float | None) -> GateResult:
    unit = plan if gate.times_plan else 1.0
    passed = None
    if value is not None and unit is not None:
        passed = bool(_OPERATORS[gate.op](value, gate.number * unit))
    return GateResult(name=name, limit=str(gate), value=value, passed=passed)


# --- deployments ----------------------------------------------------------------------------


def _judge_deployment(key: str, cells: tuple[CellVerdict, ...], facts: _Facts) -> DeploymentVerdict:
    own = [cell for cell in cells if cell.deployment == key]
    ready = facts.last("deployment_ready", deployment=key)
    words = facts.last("engine_words", deployment=key)
    return DeploymentVerdict(
        key=key,
        engine=ready.get("engine"),
        model=ready.get("model"),
        window_tokens=ready.get("window_tokens"),
        start_s=ready.get("start_s"),
        starts=len(facts.named("deployment_ready", deployment=key)),
        limits=tuple(_limit_proofs(key, facts)),
        qualified_tokens=_longest(own, lambda cell: cell.sound),
        effective_tokens=_longest(
            [cell for cell in own if cell.recall],
            lambda cell: cell.recall is not None and cell.recall.share >= EFFECTIVE_RECALL,
        ),
        words=EngineWords.model_validate(words) if words else None,
        recall_tested=any(cell.recall for cell in own),
    )


def _limit_proofs(key: str, facts: _Facts) -> Iterable[Proof]:
    """Over-limit from its own probe; the edge also from any trial of exactly that length."""
    records = [r for r in facts.records if r.deployment == key]
    edge_tokens = facts.last("deployment_ready", deployment=key).get("edge_tokens")
    edges = [r for r in records if r.purpose == "edge"] or [
        r for r in records if r.purpose == "trial" and r.sent.input_tokens == edge_tokens
    ]
    yield from (prove_edge(record) for record in edges[-1:])
    over = [r for r in records if r.purpose == "over_limit"]
    yield from (prove_over_limit(record) for record in over[-1:])
    for skipped in facts.named("limit_probe_skipped", deployment=key)[-1:]:
        for name in ("edge", "over_limit"):
            yield Proof(name=name, outcome="unknown", observed=str(skipped["reason"]))


def _longest(cells: list[CellVerdict], holds: Any) -> int | None:
    """The longest length up to which, from the shortest on, ``holds`` is true without a gap."""
    longest = None
    for length in sorted({cell.input_tokens for cell in cells if cell.input_tokens}):
        if not all(holds(cell) for cell in cells if cell.input_tokens == length):
            break
        longest = length
    return longest
