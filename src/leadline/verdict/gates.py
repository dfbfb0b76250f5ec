"""Gates: thresholds of the campaign on what a cell measured."""

from __future__ import annotations

import operator

from leadline.spec import Campaign, Gate
from leadline.verdict.schema import CellVerdict, Conclusion, GateResult

_OPERATORS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}


def check_gates(verdict: CellVerdict, campaign: Campaign) -> tuple[GateResult, ...]:
    """Times are gated by their worst trial, recall by its share of all needles."""
    values: dict[str, float | None] = {
        "recall": verdict.recall.share if verdict.recall else None,
        "ttft_s": verdict.ttft_s.high if verdict.ttft_s else None,
        "tpot_s": verdict.tpot_s.high if verdict.tpot_s else None,
        "e2e_s": verdict.e2e_s.high if verdict.e2e_s else None,
    }
    if verdict.load:
        values = {**values, "within_goals": verdict.load.good_share}
        del values["recall"]
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


def judge_gates(verdict: CellVerdict) -> Conclusion | None:
    for gate in verdict.gates:
        if gate.passed is None:
            return "inconclusive", "gate", f"{gate.name} {gate.limit}: nothing to compare"
    for gate in verdict.gates:
        if not gate.passed:
            cause = "wrong-answer" if gate.name == "recall" else "gate"
            return "fail", cause, f"{gate.name} is {gate.value:.4g}, required {gate.limit}"
    return None
